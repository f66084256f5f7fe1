import type { Client } from "./client.js";
import { TallyhookError } from "./errors.js";
import { Numbers } from "./numbers.js";
import { MemoryStore, type Store } from "./store.js";
import type { DeliveryState, PulledDelivery } from "./types.js";
import {
  type ReceivedEvent,
  type RequestHeaders,
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
/** The most spans of numbers above a gap that are remembered. */
const SPANS_MAX = 10_000;

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
  /** The webhook's `secret_key`, or several of which one has to fit. */
  readonly secrets: string | readonly string[];
  /** Fetches what is missing; its user needs the permission `webhook_read`. */
  readonly client: Client;
  readonly webhookId: number;
  /**
   * Takes an event. It is called for one event at a time. If it throws, the number stays open, the
   * request is answered with 500, and the event comes again.
   */
  readonly handle: (event: ReceivedEvent) => void | Promise<void>;
  /** Learns of a number that was cancelled or pruned. If it throws, it is told again later. */
  readonly onTombstone?: ((tombstone: Tombstone) => void | Promise<void>) | undefined;
  /** Learns of what went wrong: an exception of `handle`, a bad signature, a server that is away. */
  readonly onError?: ((error: unknown) => void) | undefined;
  /** Where to keep which numbers are done. In memory by default, where a restart forgets it. */
  readonly store?: Store | undefined;
  /**
   * Where to begin when the store is empty. `settled`, the default: after the numbers that have
   * ended, delivered or not, so nothing that is still to come is lost. `beginning`: with number 1,
   * which handles everything that the server still has. A number: after that one.
   */
  readonly start?: "settled" | "beginning" | number | undefined;
  /**
   * Handles events in the order of their numbers, and not of their arrival. One that comes early
   * makes the receiver fetch those before it at once.
   */
  readonly inOrder?: boolean | undefined;
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
      const events = this.#verify(body, headers);
      await this.#inTurn(async () => {
        const numbers = await this.#load();
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
   * that were.
   */
  async heal(): Promise<number> {
    const numbers = await this.#inTurn(() => this.#load());
    return this.#heal(numbers, numbers.highest);
  }

  /** Begins to watch for gaps and to fetch what is missing, until {@link stop}. */
  async start(): Promise<void> {
    const patienceMs = this.#options.patienceMs ?? PATIENCE_MS;
    const looks = Math.max(
      1,
      Math.round((this.#options.lookEveryMs ?? LOOK_EVERY_MS) / patienceMs),
    );
    const numbers = await this.#inTurn(() => this.#load());
    // What is missing below it has been missing since the last tick, at least.
    let overdue = numbers.through;
    let ticks = 0;
    const tick = (): void => {
      const isGap = numbers.missing(overdue).length > 0;
      if ((isGap || ticks % looks === 0) && this.#look === undefined) {
        const look = this.#heal(numbers, overdue).then(undefined, (error: unknown) =>
          this.#report(error),
        );
        this.#look = look.then(() => {
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

  #verify(body: string | Uint8Array, headers: RequestHeaders): ReceivedEvent[] {
    const { secrets, webhookId } = this.#options;
    const delivery = verifyDelivery(secrets, body, headers);
    if (delivery.webhook_id !== webhookId) {
      throw new FormatError(`this is for webhook ${delivery.webhook_id}, not ${webhookId}`);
    }
    return readEvents(delivery);
  }

  /** Runs this when everything before it has ended. */
  #inTurn<T>(run: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(run);
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  async #load(): Promise<Numbers> {
    if (this.#numbers === undefined) {
      const state = await this.#store.load();
      this.#numbers = new Numbers(state?.through ?? (await this.#beginning()), state?.beyond ?? []);
    }
    return this.#numbers;
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
    await this.#store.save({ through: numbers.through, beyond: numbers.beyond });
    this.#isSaved = true;
  }

  #done(numbers: Numbers, number: number): void {
    numbers.add(number);
    this.#isSaved = false;
  }

  /** Handles an event, unless its number is done. */
  async #take(numbers: Numbers, event: ReceivedEvent): Promise<void> {
    const number = event.increment_id;
    if (numbers.has(number)) return;
    const isApart = !numbers.has(number - 1) && !numbers.has(number + 1);
    if (isApart && numbers.beyond.length >= SPANS_MAX) {
      throw new TooManyGapsError(`${SPANS_MAX} gaps are open above number ${numbers.through}`);
    }
    await this.#options.handle(event);
    this.#done(numbers, number);
  }

  /** Fetches what is missing through `overdue`, and through what has ended. */
  async #heal(numbers: Numbers, overdue: number): Promise<number> {
    const webhook = await this.#options.client.webhook.get(this.#options.webhookId);
    const isPulled = webhook.delivery_mode === "pull";
    const through = isPulled ? webhook.increment_id : Math.max(overdue, webhook.settled_through);
    return this.#fetch(numbers, through, (run) => this.#inTurn(run));
  }

  /** Fetches and takes what is missing through a number, in order. Each page is saved. */
  async #fetch(
    numbers: Numbers,
    through: number,
    inTurn: <T>(run: () => Promise<T>) => Promise<T> = (run) => run(),
  ): Promise<number> {
    const { client, webhookId } = this.#options;
    let count = 0;
    for (;;) {
      const [span] = numbers.missing(through);
      if (span === undefined) return count;
      const [first, last] = span;
      const limit = Math.min(last - first + 1, PAGE);
      const pulled = await client.delivery.pull(webhookId, {
        after_increment_id: first - 1,
        limit,
      });
      if (pulled[0]?.increment_id !== first) {
        throw new TallyhookError(`webhook ${webhookId} has not given out number ${first}`);
      }
      await inTurn(async () => {
        try {
          for (const item of pulled) count += await this.#takePulled(numbers, item);
        } finally {
          await this.#save(numbers);
        }
      });
    }
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
    const [event] = this.#verify(body, {
      "webhook-id": item.webhook_id_header,
      "webhook-timestamp": String(item.timestamp),
      "webhook-signature": item.signature ?? "",
    });
    if (event?.increment_id !== item.increment_id) {
      throw new FormatError(`what was pulled under ${item.increment_id} has another number inside`);
    }
    return event;
  }

  #report(error: unknown): void {
    if (this.#options.onError === undefined) console.error(error);
    else this.#options.onError(error);
  }
}
