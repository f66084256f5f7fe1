/** Numbers from one to another, both included. */
export type Span = readonly [first: number, last: number];

/**
 * Positive numbers of which most are known from 1 on: all up to one, and spans above it.
 * @internal
 */
export class Numbers {
  #through: number;
  #beyond: Span[];

  constructor(through: number, beyond: readonly Span[]) {
    this.#through = through;
    this.#beyond = [...beyond];
  }

  /** All up to this one are known. */
  get through(): number {
    return this.#through;
  }

  /** What is known above that, in order. */
  get beyond(): readonly Span[] {
    return this.#beyond;
  }

  /** The highest that is known. */
  get highest(): number {
    return this.#beyond.at(-1)?.[1] ?? this.#through;
  }

  has(number: number): boolean {
    return (
      number <= this.#through ||
      this.#beyond.some(([first, last]) => first <= number && number <= last)
    );
  }

  add(number: number): void {
    if (this.has(number)) return;
    let [from, to] = [number, number];
    const apart: Span[] = [];
    for (const span of this.#beyond) {
      if (span[1] + 1 === from) from = span[0];
      else if (span[0] - 1 === to) to = span[1];
      else apart.push(span);
    }
    if (from === this.#through + 1) this.#through = to;
    else apart.push([from, to]);
    this.#beyond = apart.sort(([one], [other]) => one - other);
  }

  /** What is not known up to this number, in order. */
  missing(through: number): Span[] {
    const missing: Span[] = [];
    let next = this.#through + 1;
    for (const [first, last] of this.#beyond) {
      if (next > through) break;
      missing.push([next, Math.min(first - 1, through)]);
      next = last + 1;
    }
    if (next <= through) missing.push([next, through]);
    return missing;
  }
}
