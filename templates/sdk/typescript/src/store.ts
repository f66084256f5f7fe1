import type { Span } from "./numbers.js";

/** What a receiver has to remember. */
export interface ReceiverState {
  /** All numbers above the floor and up to this one are done. */
  readonly through: number;
  /** What is done above that, from first to last each. */
  readonly beyond: readonly Span[];
  /** Where the receiver began: up to this one nothing is fetched. 0 if it is left out. */
  readonly floor?: number | undefined;
  /** What is done up to the floor, as it was sent again; from first to last each. */
  readonly below?: readonly Span[] | undefined;
  /** The server's store whose numbers these are; left out until a delivery tells. */
  readonly store_id?: string | undefined;
  /** The ids of the last events that were handled, if they are remembered. */
  readonly events?: readonly number[] | undefined;
}

/** Where a receiver keeps its state. Your database is the best place for it. */
export interface Store {
  /** What was saved last; `undefined` if nothing was yet. */
  load(): Promise<ReceiverState | undefined>;
  /** Keeps this in place of what was saved before. The request is answered only after it resolves. */
  save(state: ReceiverState): Promise<void>;
}

/** Forgets with the process. */
export class MemoryStore implements Store {
  #state: ReceiverState | undefined;

  async load(): Promise<ReceiverState | undefined> {
    return this.#state;
  }

  async save(state: ReceiverState): Promise<void> {
    this.#state = state;
  }
}
