/** Numbers from one to another, both included. */
export type Span = readonly [first: number, last: number];

/**
 * Positive numbers of which most are known: above a floor all up to one and spans beyond it; below
 * the floor, spans.
 * @internal
 */
export class Numbers {
  #floor: number;
  #through: number;
  #beyond: Span[];
  #below: Span[];

  constructor(through: number, beyond: readonly Span[], floor: number, below: readonly Span[]) {
    this.#through = through;
    this.#beyond = [...beyond];
    this.#floor = floor;
    this.#below = [...below];
  }

  /** What is not known up to this one is not missing either. */
  get floor(): number {
    return this.#floor;
  }

  /** All above the floor and up to this one are known. */
  get through(): number {
    return this.#through;
  }

  /** What is known above that, in order. */
  get beyond(): readonly Span[] {
    return this.#beyond;
  }

  /** What is known up to the floor, in order. */
  get below(): readonly Span[] {
    return this.#below;
  }

  /** The highest that is known, or the floor. */
  get highest(): number {
    return this.#beyond.at(-1)?.[1] ?? this.#through;
  }

  has(number: number): boolean {
    if (number <= this.#floor) return isWithin(this.#below, number);
    return number <= this.#through || isWithin(this.#beyond, number);
  }

  /** Whether adding it leaves so many spans at most, on its side of the floor. */
  hasRoom(number: number, spansMax: number): boolean {
    const spans = number <= this.#floor ? this.#below : this.#beyond;
    return spans.length < spansMax || this.has(number - 1) || this.has(number + 1);
  }

  add(number: number): void {
    if (this.has(number)) return;
    if (number <= this.#floor) {
      this.#below = joined(this.#below, number);
      return;
    }
    this.#beyond = joined(this.#beyond, number);
    const [lowest] = this.#beyond;
    if (lowest?.[0] === this.#through + 1) {
      this.#through = lowest[1];
      this.#beyond.shift();
    }
  }

  /** Makes nothing known, and nothing up to the floor missing. */
  beginAnew(floor: number): void {
    this.#floor = floor;
    this.#through = floor;
    this.#beyond = [];
    this.#below = [];
  }

  /** What is not known after one number and up to another, in order. */
  missing(through: number, after = 0): Span[] {
    const missing: Span[] = [];
    let next = Math.max(this.#through, after) + 1;
    for (const [first, last] of this.#beyond) {
      if (next > through) break;
      if (next < first) missing.push([next, Math.min(first - 1, through)]);
      next = Math.max(next, last + 1);
    }
    if (next <= through) missing.push([next, through]);
    return missing;
  }
}

function isWithin(spans: readonly Span[], number: number): boolean {
  return spans.some(([first, last]) => first <= number && number <= last);
}

/** These spans and the number, which is in none of them. */
function joined(spans: readonly Span[], number: number): Span[] {
  let [from, to] = [number, number];
  const apart: Span[] = [];
  for (const span of spans) {
    if (span[1] + 1 === from) from = span[0];
    else if (span[0] - 1 === to) to = span[1];
    else apart.push(span);
  }
  return [...apart, [from, to] as const].sort(([one], [other]) => one - other);
}
