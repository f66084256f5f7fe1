import type { Client } from "./client.js";
import { OtherStoreError, TallyhookError } from "./errors.js";
import { readMessageId } from "./message-id.js";
import { Numbers } from "./numbers.js";
import { MemoryStore, type Store } from "./store.js";
import { TIMER_MAX_MS } from "./transport.js";
import type { DeliveryState, PulledDelivery } from "./types.js";
import {
  type ReceivedEvent,
  type RequestHeaders,
  type VerifiedDelivery,
  FormatError,
  SignatureError,
  readEvents,
  verifyDelivery,
} from "./verify.js";

/** How long a number may stay missing by default, in milliseconds. */
const PATIENCE_MS = 10_000;
/** How often a receiver looks for what never came, by default, in milliseconds. */
const LOOK_EVERY_MS = 60_000;
/** The most numbers asked for at once. */
const PAGE = 100;
/** The most spans of numbers above a gap that are remembered; as many of those below the start. */
const SPANS_MAX = 10_000;
/** A look ends after so many numbers that fail, with none between that does not. */
const FAILURES_MAX = 100;

/** A number that no event will come under. */
export interface Tombstone {
  readonly increment_id: number;
  /** `cancelled`; or what became of it, if the event has been pruned since. */
  readonly state: DeliveryState;
  /** The event, if the server still has it. */
  readonly event: ReceivedEvent | undefined;
}

/** What a receiver needs, and what it may be told. */
export interface ReceiverOptions {
  /** The webhook's `secret_key`, or its `public_key`; or several of which one has to fit. */
  readonly secrets: string | readonly string[];
  /** Fetches what is missing; its user needs the permission `webhook_read`. */
  readonly client: Client;
  readonly webhookId: number;
  /**
   * Takes an event. It is called for one event at a time. If it throws, the number stays open, the
   * request is answered with 500, and the event comes again. It can't await `heal`, `start` or
   * `receive` of its receiver: they wait until it has ended.
   */
  readonly handle: (event: ReceivedEvent) => void | Promise<void>;
  /** Learns of a number that was cancelled or pruned. If it throws, it is told again later. */
  readonly onTombstone?: ((tombstone: Tombstone) => void | Promise<void>) | undefined;
  /**
   * Learns of what went wrong: an exception of `handle`, a bad signature, a server that is away. By
   * default it goes to the console. What it throws itself goes there only.
   */
  readonly onError?: ((error: unknown) => void) | undefined;
  /** Where to keep which numbers are done. In memory by default, where a restart forgets it. */
  readonly store?: Store | undefined;
  /**
   * Where to begin when the store is empty. `settled`, the default: after the numbers that have
   * ended, delivered or not, so nothing that is still to come is lost. `beginning`: with number 1,
   * which handles everything that the server still has. A number: after that one. What lies before
   * is not fetched, but handled if it is sent again.
   */
  readonly start?: "settled" | "beginning" | number | undefined;
  /**
   * Handles events in the order of their numbers, and not of their arrival. One that comes early
   * makes the receiver fetch those before it at once.
   */
  readonly inOrder?: boolean | undefined;
  /**
   * How many of the last events are remembered, to drop one that comes again under another number,
   * as after `webhook.backfill`. By default none is, and such a one is handled again. They are saved
   * with the state, 10 bytes each or so.
   */
  readonly eventsRemembered?: number | undefined;
  /** How long a number may stay missing until it is fetched, in milliseconds; 10,000 by default. */
  readonly patienceMs?: number | undefined;
  /** How often to look for numbers after the last one that came, in milliseconds; 60,000 by default. */
  readonly lookEveryMs?: number | undefined;
}

/**
 * The HTTP status to answer a request with. 204: done, now or before. 401: not signed. 400: signed,
 * but for another webhook, or not in the format `envelope`. 500: an exception. 503: too many numbers
 * are missing. The server sends again what is not answered with 204.
 */
export type ReceiverStatus = 204 | 400 | 401 | 500 | 503;

/** Numbers above so many gaps would take too much memory to remember. */
class TooManyGapsError extends TallyhookError {
  override readonly name: string = "TooManyGapsError";
}

/**
 * Receives the deliveries of one webhook, each number once: verifies the signature, drops
 * duplicates, notices gaps and fetches what is missing.
 *
 * What it handles and then can't note (the process dies in between) comes again. To exclude that,
 * keep the number in the transaction that handles the event.
 */
export class Receiver {
  readonly #options: ReceiverOptions;
  readonly #store: Store;
  #numbers: Numbers | undefined;
  /** The last events that were handled, in that order. */
  #events = new Set<number>();
  #storeId: string | undefined;
  /** Where the last look gave up; the next one goes on after it. */
  #passed = 0;
  #isSaved = true;
  /** The end of what runs one after the other. */
  #last: Promise<unknown> = Promise.resolve();
  #timer: ReturnType<typeof setInterval> | undefined;
  #look: Promise<void> | undefined;

  constructor(options: ReceiverOptions) {
    this.#options = options;
    this.#store = options.store ?? new MemoryStore();
  }

  /**
   * Takes a request, and resolves to the status to answer it with. Never rejects.
   * @param body - The body as it came, before anything has parsed it.
   */
  async receive(body: string | Uint8Array, headers: RequestHeaders): Promise<ReceiverStatus> {
    try {
      const delivery = this.#verify(body, headers);
      const events = readEvents(delivery);
      await this.#inTurn(async () => {
        const numbers = await this.#load();
        await this.#checkStore(numbers, delivery.store_id);
        try {
          for (const event of events) {
            if (this.#options.inOrder) await this.#fetch(numbers, event.increment_id - 1);
            await this.#take(numbers, event);
          }
        } finally {
          await this.#save(numbers);
        }
      });
      return 204;
    } catch (error) {
      this.#report(error);
      if (error instanceof SignatureError) return 401;
      if (error instanceof FormatError) return 400;
      return error instanceof TooManyGapsError ? 503 : 500;
    }
  }

  /**
   * Fetches now what is missing below the highest number that has come, and what has ended without
   * coming; of a webhook with the `delivery_mode` `pull`, all there is. Resolves to how many numbers
   * that were. Unless `inOrder`, one that fails is told to `onError` and left for the next time.
   */
  async heal(): Promise<number> {
    const numbers = await this.#inTurn(() => this.#load());
    return this.#heal(numbers, numbers.highest);
  }

  /** Begins to watch for gaps and to fetch what is missing, until {@link stop}. */
  async start(): Promise<void> {
    const patienceMs = Math.min(this.#options.patienceMs ?? PATIENCE_MS, TIMER_MAX_MS);
    const looks = Math.max(
      1,
      Math.round((this.#options.lookEveryMs ?? LOOK_EVERY_MS) / patienceMs),
    );
    const numbers = await this.#inTurn(() => this.#load());
    // What is missing below it has been missing since the last tick, at least.
    let overdue = numbers.through;
    let ticks = 0;
    const tick = (): void => {
      // The numbers may have begun anew.
      overdue = Math.min(overdue, numbers.highest);
      const isGap = numbers.missing(overdue).length > 0;
      if ((isGap || ticks % looks === 0) && this.#look === undefined) {
        this.#look = this.#heal(numbers, overdue)
          .catch((error: unknown) => this.#report(error))
          .then(() => {
            this.#look = undefined;
          });
      }
      overdue = numbers.highest;
      ticks += 1;
    };
    clearInterval(this.#timer);
    this.#timer = setInterval(tick, patienceMs);
    tick();
  }

  /** Ends the watch, and waits for what it is doing. Requests may still be received. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#timer = undefined;
    await this.#look;
  }

  #verify(body: string | Uint8Array, headers: RequestHeaders): VerifiedDelivery {
    const { secrets, webhookId } = this.#options;
    const delivery = verifyDelivery(secrets, body, headers);
    if (delivery.webhook_id !== webhookId) {
      throw new FormatError(`this is for webhook ${delivery.webhook_id}, not ${webhookId}`);
    }
    return delivery;
  }

  /** Runs this when everything before it has ended. */
  #inTurn<T>(run: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(run);
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  async #load(): Promise<Numbers> {
    if (this.#numbers === undefined) {
      let state = await this.#store.load();
      if (state === undefined) {
        const floor = await this.#beginning();
        state = { through: floor, beyond: [], floor };
      }
      const { through, beyond, floor = 0, below = [] } = state;
      this.#numbers = new Numbers(through, beyond, floor, below);
      this.#events = new Set(state.events);
      this.#storeId = state.store_id;
    }
    return this.#numbers;
  }

  /** Begins anew with another store; the first number to come tells which one it is. */
  async #checkStore(numbers: Numbers, storeId: string): Promise<void> {
    if (this.#storeId === undefined) {
      this.#storeId = storeId;
      this.#isSaved = false;
    } else if (this.#storeId !== storeId) {
      const what = `the server's store is ${storeId}, and was ${this.#storeId}`;
      await this.#beginAnew(numbers, what, storeId);
    }
  }

  /**
   * Takes numbers for those of other events. What had ended in the other store, too, is not fetched.
   * What is sent again is handled again, for a number that is done may stand for another event now.
   */
  async #beginAnew(numbers: Numbers, what: string, storeId?: string): Promise<void> {
    const { client, webhookId } = this.#options;
    const { settled_through } = await client.webhook.get(webhookId);
    numbers.beginAnew(Math.min(numbers.through, settled_through));
    this.#storeId = storeId;
    this.#passed = 0;
    this.#isSaved = false;
    this.#report(
      new OtherStoreError(`${what}; the receiver begins anew after ${numbers.floor}`),
    );
  }

  async #beginning(): Promise<number> {
    const { client, webhookId, start = "settled" } = this.#options;
    if (start === "beginning") return 0;
    if (start !== "settled") return start;
    const webhook = await client.webhook.get(webhookId);
    // What a webhook's receiver has to fetch counts as ended once it was asked beyond.
    return webhook.settled_through;
  }

  async #save(numbers: Numbers): Promise<void> {
    if (this.#isSaved) return;
    const { through, beyond, floor, below } = numbers;
    const events = [...this.#events];
    await this.#store.save({ through, beyond, floor, below, store_id: this.#storeId, events });
    this.#isSaved = true;
  }

  #done(numbers: Numbers, number: number): void {
    numbers.add(number);
    this.#isSaved = false;
  }

  /** Handles an event, unless its number is done, or it is one of those remembered. */
  async #take(numbers: Numbers, event: ReceivedEvent): Promise<void> {
    const number = event.increment_id;
    if (numbers.has(number)) return;
    if (!numbers.hasRoom(number, SPANS_MAX)) {
      const start = number <= numbers.floor ? 0 : numbers.through;
      throw new TooManyGapsError(`${SPANS_MAX} gaps are open above number ${start}`);
    }
    if (!this.#events.has(event.event_id)) {
      await this.#options.handle(event);
      this.#remember(event.event_id);
    }
    this.#done(numbers, number);
  }

  #remember(eventId: number): void {
    const { eventsRemembered = 0 } = this.#options;
    if (eventsRemembered > 0) this.#events.add(eventId);
    for (const oldest of this.#events) {
      if (this.#events.size <= eventsRemembered) return;
      this.#events.delete(oldest);
    }
  }

  /** Fetches what is missing through `overdue`, and through what has ended. */
  async #heal(numbers: Numbers, highest: number): Promise<number> {
    const webhook = await this.#options.client.webhook.get(this.#options.webhookId);
    const { increment_id, settled_through } = webhook;
    let overdue = highest;
    if (increment_id < overdue) {
      const what = `the webhook has numbers up to ${increment_id}, and had ${overdue}`;
      overdue = await this.#inTurn(async () => {
        await this.#beginAnew(numbers, what);
        await this.#save(numbers);
        return numbers.highest;
      });
    }
    const isPull = webhook.delivery_mode === "pull";
    const through = isPull ? increment_id : Math.max(overdue, settled_through);
    return this.#fetch(numbers, through, isPull, (run) => this.#inTurn(run));
  }

  /** Fetches and takes what is missing through a number, in order. Each page is saved. */
  async #fetch(
    numbers: Numbers,
    through: number,
    isPull = false,
    inTurn: <T>(run: () => Promise<T>) => Promise<T> = (run) => run(),
  ): Promise<number> {
    const { client, webhookId } = this.#options;
    let count = 0;
    let failures = 0;
    let passed = isPull ? 0 : this.#passed;
    for (;;) {
      const [span] = numbers.missing(through, passed);
      if (span === undefined) {
        this.#passed = 0;
        return count;
      }
      const [first, last] = span;
      // In the mode `pull`, to ask after a number says that all up to it are done. So what has failed
      // is asked for again together with what comes after it.
      const limit = isPull ? PAGE : Math.min(last - first + 1, PAGE);
      const pulled = await client.delivery.pull(webhookId, {
        after_increment_id: first - 1,
        limit,
      });
      if (pulled[0]?.increment_id !== first) {
        throw new TallyhookError(`webhook ${webhookId} has not given out number ${first}`);
      }
      const { taken, errors } = await inTurn(() => this.#takePage(numbers, pulled));
      for (const error of errors) this.#report(error);
      count += taken;
      failures = taken > 0 ? errors.length : failures + errors.length;
      if (isPull && errors.length > 0) return count;
      passed = first + pulled.length - 1;
      if (failures >= FAILURES_MAX) {
        this.#passed = passed;
        return count;
      }
    }
  }

  /** How many were missing and no longer are, and what went wrong with others. */
  async #takePage(
    numbers: Numbers,
    pulled: readonly PulledDelivery[],
  ): Promise<{ taken: number; errors: unknown[] }> {
    let taken = 0;
    const errors: unknown[] = [];
    try {
      for (const item of pulled) {
        const message = readMessageId(item.webhook_id_header);
        if (message !== undefined) await this.#checkStore(numbers, message.storeId);
        try {
          taken += await this.#takePulled(numbers, item);
        } catch (error) {
          if (this.#options.inOrder || error instanceof TooManyGapsError) throw error;
          errors.push(error);
        }
      }
    } finally {
      await this.#save(numbers);
    }
    return { taken, errors };
  }

  /** 1 if it was missing, else 0. */
  async #takePulled(numbers: Numbers, item: PulledDelivery): Promise<0 | 1> {
    const { increment_id, state, body } = item;
    if (numbers.has(increment_id)) return 0;
    const event = body === null ? undefined : this.#readPulled(item, body);
    if (event !== undefined && state !== "cancelled") {
      await this.#take(numbers, event);
    } else {
      await this.#options.onTombstone?.({ increment_id, state, event });
      this.#done(numbers, increment_id);
    }
    return 1;
  }

  /** It is signed like any other. */
  #readPulled(item: PulledDelivery, body: string): ReceivedEvent {
    const delivery = this.#verify(body, {
      "webhook-id": item.webhook_id_header,
      "webhook-timestamp": String(item.timestamp),
      "webhook-signature": item.signature ?? "",
    });
    const [event] = readEvents(delivery);
    if (event?.increment_id !== item.increment_id) {
      throw new FormatError(`what was pulled under ${item.increment_id} has another number inside`);
    }
    return event;
  }

  #report(error: unknown): void {
    const { onError } = this.#options;
    if (onError === undefined) {
      console.error(error);
      return;
    }
    const tell = async (): Promise<void> => onError(error);
    tell().catch((thrown: unknown) => console.error(thrown));
  }
}
