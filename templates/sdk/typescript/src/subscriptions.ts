import { FaultError, type TallyhookError, TimeoutError, TransportError } from "./errors.js";
import { isObject } from "./json.js";
import {
  type CallOptions,
  SESSION_EXPIRED,
  type Socket,
  TIMER_MAX_MS,
  type Transport,
  pause,
} from "./transport.js";
import type { DeliveryStatus, MissedDeliveries, MissedEvents, PublishedEvent } from "./types.js";

/** How long to wait before a lost connection is made again, in milliseconds: twice as long each time. */
const RETRY_FIRST_MS = 1_000;
const RETRY_MAX_MS = 30_000;
/** How often the server is asked whether it is still there, and how soon it must have said something. */
const PROBE_MS = 30_000;
/** What may wait to be read. Beyond that the connection is closed, and made again when it has been. */
const QUEUE_MAX = 10_000;
/** Faults that pass: the server has an internal failure, or the user makes too many calls. */
const PASSING = [1, 120];
/** The ids of calls on a connection. */
const SUBSCRIBE_ID = 1;
const PROBE_ID = 2;
/** No subscription has this id, so a probe ends none. */
const NO_SUBSCRIPTION = Number.MAX_SAFE_INTEGER;

/** A delivery that is new or has changed, or numbers of which that was not told. */
export type DeliveryNews = DeliveryStatus | { readonly missed: readonly MissedDeliveries[] };

/** An event that was published, or those of which that was not told. */
export type EventNews = PublishedEvent | { readonly missed: MissedEvents };

/** Which deliveries to tell of. `timeoutMs` bounds how long a connection may take to be made. */
export interface DeliverySubscribeOptions extends CallOptions {
  /** The webhook; all of the merchant's, if left out. */
  readonly webhook_id?: number | undefined;
  /** All numbers after this one are told first; only with a webhook. */
  readonly after_increment_id?: number | undefined;
}

/** Which events to tell of. `timeoutMs` bounds how long a connection may take to be made. */
export interface EventSubscribeOptions extends CallOptions {
  /** Only these topics, such as `order:created` or `order:*`; all, if left out. */
  readonly topics?: string | readonly string[] | undefined;
  /** All events after this one that are still stored are told first. */
  readonly after_event_id?: number | undefined;
}

/** What is subscribed to, and how it goes on when the connection was lost. */
interface Subscription<Item> {
  readonly method: string;
  /** The parameters by now. */
  params(): Readonly<Record<string, unknown>>;
  /** Notes what was told. */
  seen(item: Item): void;
  /** What may have been missed meanwhile. */
  lost(): Item | undefined;
}

type Params = Readonly<Record<string, unknown>>;

/** @internal */
export function followDelivery(
  transport: Transport,
  options: DeliverySubscribeOptions,
): AsyncGenerator<DeliveryNews, void, undefined> {
  const { webhook_id } = options;
  let after = options.after_increment_id;
  return follow<DeliveryNews>(transport, options, {
    method: "delivery.subscribe",
    params: () => ({ webhook_id, options: { after_increment_id: after } }),
    seen: (news) => {
      if (webhook_id === undefined) return;
      const ends =
        "missed" in news ? news.missed.map((span) => span.last_increment_id) : [news.increment_id];
      after = Math.max(after ?? 0, ...ends.map((end) => end ?? 0));
    },
    // Those that were told may have changed; those after them are told now.
    lost: () => {
      const last = webhook_id === undefined ? null : (after ?? null);
      if (last === 0) return undefined;
      const span = { first_increment_id: 1, last_increment_id: last };
      return { missed: [{ webhook_id: webhook_id ?? null, ...span }] };
    },
  });
}

/** @internal */
export function followEvent(
  transport: Transport,
  options: EventSubscribeOptions,
): AsyncGenerator<EventNews, void, undefined> {
  const { topics } = options;
  let after = options.after_event_id;
  return follow<EventNews>(transport, options, {
    method: "event.subscribe",
    params: () => ({ topics, options: { after_event_id: after } }),
    seen: (news) => {
      const end = "missed" in news ? news.missed.last_event_id : news.event_id;
      after = Math.max(after ?? 0, end ?? 0);
    },
    lost: () =>
      after === undefined ? { missed: { first_event_id: 1, last_event_id: null } } : undefined,
  });
}

/** Tells of one connection after another. The first has to be made; later ones may take their time. */
async function* follow<Item>(
  transport: Transport,
  options: CallOptions,
  subscription: Subscription<Item>,
): AsyncGenerator<Item, void, undefined> {
  const { signal } = options;
  let connection = await connect<Item>(transport, options, subscription);
  try {
    for (;;) {
      let item = await connection.next(signal);
      while (item === undefined) {
        connection.close();
        connection = await reconnect<Item>(transport, options, subscription);
        const lost = subscription.lost();
        if (lost !== undefined) yield lost;
        item = await connection.next(signal);
      }
      subscription.seen(item);
      yield item;
    }
  } finally {
    connection.close();
  }
}

/** Makes the connection again, however long that takes. */
async function reconnect<Item>(
  transport: Transport,
  options: CallOptions,
  subscription: Subscription<Item>,
): Promise<Connection<Item>> {
  for (let waitMs = RETRY_FIRST_MS; ; waitMs = Math.min(waitMs * 2, RETRY_MAX_MS)) {
    // Many that lose the same server do not come back at the same moment.
    await pause(waitMs * (0.5 + Math.random() / 2), options.signal);
    try {
      return await connect<Item>(transport, options, subscription);
    } catch (error) {
      const isPassing =
        error instanceof TransportError ||
        (error instanceof FaultError && PASSING.includes(error.number));
      if (!isPassing) throw error;
    }
  }
}

/** Opens a connection and subscribes, logging in if need be. */
async function connect<Item>(
  transport: Transport,
  options: CallOptions,
  subscription: Subscription<Item>,
): Promise<Connection<Item>> {
  const { signal, timeoutMs = transport.timeoutMs } = options;
  signal?.throwIfAborted();
  const controller = new AbortController();
  const abort = (): void => controller.abort(signal?.reason);
  signal?.addEventListener("abort", abort);
  const late = (): void =>
    controller.abort(new TimeoutError(`${subscription.method}: none within ${timeoutMs} ms`));
  const timer = setTimeout(late, Math.min(timeoutMs, TIMER_MAX_MS));
  try {
    return await transport.inSession(controller.signal, async (session) => {
      const connection = new Connection<Item>(transport, session, subscription);
      try {
        await connection.subscribed(controller.signal);
        return connection;
      } catch (error) {
        connection.close();
        throw error;
      }
    });
  } catch (error) {
    // Whoever cancelled, or what took too long, says so.
    if (controller.signal.aborted) throw controller.signal.reason;
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  }
}

/** A connection with one subscription. */
class Connection<Item> {
  readonly #transport: Transport;
  readonly #socket: Socket;
  readonly #probe: ReturnType<typeof setInterval>;
  readonly #told: Item[] = [];
  #isSubscribed = false;
  #hasHeard = true;
  /** Why nothing more comes: a refusal, or the connection is lost. */
  #end: TallyhookError | undefined;
  #wake: () => void = () => undefined;

  constructor(transport: Transport, session: string, subscription: Subscription<Item>) {
    this.#transport = transport;
    const { method } = subscription;
    const socket = transport.openSocket();
    const send = (id: number, method: string, params: Params): void =>
      socket.send(JSON.stringify({ jsonrpc: "2.0", id, method, params: { session, ...params } }));
    socket.addEventListener("open", () => send(SUBSCRIBE_ID, method, subscription.params()));
    socket.addEventListener("message", (event) => this.#take(isObject(event) ? event["data"] : event));
    socket.addEventListener("error", () => this.#finish());
    socket.addEventListener("close", () => this.#finish());
    this.#socket = socket;
    // A connection whose other end is gone may look as if nothing happened.
    this.#probe = setInterval(() => {
      if (!this.#hasHeard) return this.#finish();
      this.#hasHeard = false;
      if (this.#isSubscribed) send(PROBE_ID, "event.unsubscribe", { subscription: NO_SUBSCRIPTION });
    }, PROBE_MS);
  }

  /** Waits until the server has agreed. */
  async subscribed(signal: AbortSignal): Promise<void> {
    while (!this.#isSubscribed) {
      if (this.#end !== undefined) throw this.#end;
      await this.#change(signal);
    }
  }

  /** What is told next; undefined if the connection is lost, or the session has ended. */
  async next(signal: AbortSignal | undefined): Promise<Item | undefined> {
    for (;;) {
      signal?.throwIfAborted();
      const item = this.#told.shift();
      if (item !== undefined) return item;
      const end = this.#end;
      if (end instanceof FaultError && end.number !== SESSION_EXPIRED) throw end;
      if (end !== undefined) return undefined;
      await this.#change(signal);
    }
  }

  close(): void {
    this.#finish();
  }

  #take(data: unknown): void {
    this.#hasHeard = true;
    let said: unknown;
    try {
      said = JSON.parse(String(data));
    } catch {
      return this.#finish();
    }
    if (!isObject(said) || this.#end !== undefined) return;
    const { id, error, params } = said;
    if (id === SUBSCRIBE_ID) {
      if (isObject(error)) return this.#finish(this.#transport.refusal(error, 200));
      this.#isSubscribed = true;
    } else if (isObject(params)) {
      if (isObject(params["error"])) {
        return this.#finish(this.#transport.refusal(params["error"], 200));
      }
      // What is told is believed to be as the server's description says.
      this.#told.push(params["result"] as Item);
      if (this.#told.length >= QUEUE_MAX) return this.#finish();
    }
    this.#wake();
  }

  #finish(why: TallyhookError = new TransportError("the connection was lost")): void {
    if (this.#end === undefined) {
      this.#end = why;
      clearInterval(this.#probe);
      this.#socket.close();
    }
    this.#wake();
  }

  /** Waits until something has come, or nothing more does. */
  #change(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const abort = (): void => reject(signal?.reason);
      this.#wake = () => {
        signal?.removeEventListener("abort", abort);
        resolve();
      };
      if (signal?.aborted) abort();
      signal?.addEventListener("abort", abort);
    });
  }
}
