import {
  type FaultData,
  FaultError,
  ProtocolError,
  TallyhookError,
  TimeoutError,
  TransportError,
} from "./errors.js";
import { isObject } from "./json.js";

/** How long a call may take by default, in milliseconds. */
const TIMEOUT_MS = 30_000;
/** The first wait before a publish is repeated, in milliseconds; it doubles each time. */
const RETRY_WAIT_MS = 200;
/** The longest that a timer can run, in milliseconds. */
export const TIMER_MAX_MS = 2 ** 31 - 1;
/** Session expired. */
export const SESSION_EXPIRED = 5;

/** How to reach a server. */
export interface ClientOptions {
  /** Such as `https://hooks.example.com/`. */
  readonly url: string | URL;
  /** The user's name. */
  readonly username: string;
  /** The user's API key. */
  readonly apiKey: string;
  /** How long a call may take, each time if it is repeated, in milliseconds; 30,000 by default. */
  readonly timeoutMs?: number | undefined;
  /**
   * How often a publish that has an `idempotency_key` is repeated when its answer was lost; 0 by
   * default. Nothing else is ever repeated.
   */
  readonly retries?: number | undefined;
  /** In place of the global `fetch`, for instance one that goes through a proxy. */
  readonly fetch?: typeof fetch | undefined;
  /**
   * In place of the global `WebSocket`, over which subscriptions go: Node has one from version 22
   * on, and the package `ws` for those before.
   */
  readonly webSocket?: SocketClass | undefined;
}

/** The part of a standard `WebSocket` that is used. */
export interface Socket {
  send(text: string): void;
  close(): void;
  addEventListener(
    type: "open" | "message" | "error" | "close",
    listener: (event: unknown) => void,
  ): void;
}

/** What makes one. */
export type SocketClass = new (url: string) => Socket;

/** What any call may be told. */
export interface CallOptions {
  /**
   * Cancels the call, which then rejects with the signal's reason. The server may have run it, or
   * run it yet.
   */
  readonly signal?: AbortSignal | undefined;
  /** How long the call may take, a login included, in milliseconds; `wait_ms` is added. */
  readonly timeoutMs?: number | undefined;
}

type Params = Readonly<Record<string, unknown>>;
type FaultClass = new (number: number, message: string, data?: FaultData) => FaultError;

/**
 * Makes calls, with a session that it opens and renews.
 * @internal
 */
export class Transport {
  readonly #options: ClientOptions;
  readonly #faults: ReadonlyMap<number, FaultClass>;
  readonly #fetch: typeof fetch;
  /** The login that was last begun. Calls that come while it is under way wait for it. */
  #login: Login | undefined;
  #lastId = 0;

  constructor(options: ClientOptions, faults: ReadonlyMap<number, FaultClass>) {
    this.#options = options;
    this.#faults = faults;
    // Browsers refuse a `fetch` that is called as the method of another object.
    this.#fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
  }

  /** Calls a method by name, in a session. What it returns is what the document promises. */
  async call<Result>(method: string, params: Params, options: CallOptions): Promise<Result> {
    const retries = isRepeatable(params) ? (this.#options.retries ?? 0) : 0;
    const waitMs = typeof params["wait_ms"] === "number" ? params["wait_ms"] : 0;
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.#inTime(method, options, waitMs, (signal) =>
          this.#callInSession<Result>(method, params, signal),
        );
      } catch (error) {
        if (!(error instanceof TransportError) || attempt >= retries) throw error;
      }
      await pause(RETRY_WAIT_MS * 2 ** attempt, options.signal);
    }
  }

  /** Ends the session, if there is one; one that is being opened, as soon as it is. */
  async close(options: CallOptions): Promise<void> {
    const login = this.#login;
    this.#login = undefined;
    if (login === undefined || login.isOver) return;
    await this.#inTime("endSession", options, 0, async (signal) => {
      const session = await login.wait(signal).catch(() => undefined);
      signal.throwIfAborted();
      if (session !== undefined) await this.#exchange("endSession", { session }, signal);
    });
  }

  /** Runs this with a signal that its time and its caller may abort. */
  async #inTime<Result>(
    method: string,
    options: CallOptions,
    waitMs: number,
    run: (signal: AbortSignal) => Promise<Result>,
  ): Promise<Result> {
    const timeoutMs = (options.timeoutMs ?? this.#options.timeoutMs ?? TIMEOUT_MS) + waitMs;
    const deadline = new Deadline(timeoutMs, options.signal);
    try {
      return await run(deadline.signal);
    } catch (error) {
      // What the server said counts, even if it came at the last moment.
      if (error instanceof FaultError || error instanceof ProtocolError) throw error;
      if (options.signal?.aborted) throw options.signal.reason;
      if (!deadline.hasPassed) throw error;
      throw new TimeoutError(`${method}: no answer within ${timeoutMs} ms`, { cause: error });
    } finally {
      deadline.clear();
    }
  }

  #callInSession<Result>(method: string, params: Params, signal: AbortSignal): Promise<Result> {
    return this.inSession(signal, (session) =>
      this.#exchange<Result>(method, { session, ...params }, signal),
    );
  }

  /** Runs this in a session, and once more in another if that has expired. */
  async inSession<Result>(
    signal: AbortSignal,
    run: (session: string) => Promise<Result>,
  ): Promise<Result> {
    const login = this.#joinLogin();
    try {
      return await run(await login.wait(signal));
    } catch (error) {
      if (!(error instanceof FaultError) || error.number !== SESSION_EXPIRED) throw error;
    }
    // The session has expired, so nothing was done. Whoever learns it first logs in for all.
    if (this.#login === login) this.#login = undefined;
    return run(await this.#joinLogin().wait(signal));
  }

  /** A connection to the server that is being opened. */
  openSocket(): Socket {
    const { url, webSocket = (globalThis as { WebSocket?: SocketClass }).WebSocket } = this.#options;
    if (webSocket === undefined) {
      throw new TallyhookError("there is no WebSocket here; give the client one as `webSocket`");
    }
    const place = new URL(url);
    place.protocol = place.protocol === "https:" ? "wss:" : "ws:";
    return new webSocket(place.href);
  }

  /** How long a call may take, in milliseconds, unless it is told otherwise. */
  get timeoutMs(): number {
    return this.#options.timeoutMs ?? TIMEOUT_MS;
  }

  #joinLogin(): Login {
    if (this.#login === undefined || this.#login.isOver) {
      const params = { username: this.#options.username, api_key: this.#options.apiKey };
      this.#login = new Login((signal) => this.#exchange<string>("login", params, signal));
    }
    return this.#login;
  }

  /** One request and its answer. */
  async #exchange<Result>(method: string, params: Params, signal: AbortSignal): Promise<Result> {
    const id = (this.#lastId += 1);
    const body = stringify(method, { jsonrpc: "2.0", id, method, params });
    const headers = { "content-type": "application/json" };
    let text: string;
    let status: number;
    let isRedirect: boolean;
    try {
      const response = await this.#fetch(this.#options.url, {
        method: "POST",
        headers,
        body,
        signal,
        // To wherever that leads, the API key would go along.
        redirect: "manual",
      });
      text = await response.text();
      status = response.status;
      // A browser says no more than that it is one.
      isRedirect = response.type === "opaqueredirect" || (status >= 300 && status < 400);
    } catch (error) {
      throw new TransportError(`${method}: ${reason(error)}`, { cause: error });
    }
    if (isRedirect) {
      throw new TransportError(
        `the server redirects (HTTP status ${status}), and the API key is not sent there; is the URL right?`,
      );
    }
    return this.#outcome<Result>(parse(text, status), id, status);
  }

  #outcome<Result>(answer: Params, id: number, status: number): Result {
    const error = answer["error"];
    if (isObject(error)) throw this.refusal(error, status);
    if (answer["id"] !== id || !("result" in answer)) {
      throw new TransportError(`the answer (HTTP status ${status}) is none to this call`);
    }
    // Results are believed to be as the server's description says.
    return answer["result"] as Result;
  }

  /** What an error object says. */
  refusal(error: Params, status: number): TallyhookError {
    const { code, message, data } = error;
    const words = typeof message === "string" ? message : "the server gives no reason";
    if (typeof code !== "number") return new TransportError("the answer is none of JSON-RPC");
    if (code < 0) return new ProtocolError(code, words, status);
    return new (this.#faults.get(code) ?? FaultError)(code, words, faultData(data));
  }
}

/** A login that several calls may wait for. It is given up when none does any more. */
class Login {
  readonly #opened: Promise<string>;
  readonly #controller = new AbortController();
  #waiting = 0;
  /** What it has come to. */
  session: string | undefined;
  /** It has failed or was given up. */
  isOver = false;

  constructor(open: (signal: AbortSignal) => Promise<string>) {
    this.#opened = open(this.#controller.signal).then(
      (session) => (this.session = session),
      (error: unknown) => {
        this.isOver = true;
        throw error;
      },
    );
  }

  async wait(signal: AbortSignal): Promise<string> {
    this.#waiting += 1;
    try {
      return await within(this.#opened, signal);
    } finally {
      this.#waiting -= 1;
      if (this.#waiting === 0 && this.session === undefined) {
        this.isOver = true;
        this.#controller.abort();
      }
    }
  }
}

/** Aborts when a time has passed or another signal is aborted, whichever comes first. */
class Deadline {
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal | undefined;
  readonly #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #follow = (): void => this.#controller.abort(this.#outer?.reason);
  hasPassed = false;

  constructor(afterMs: number, outer: AbortSignal | undefined) {
    this.#outer = outer;
    if (!(afterMs > TIMER_MAX_MS)) {
      this.#timer = setTimeout(() => {
        this.hasPassed = true;
        this.#controller.abort();
      }, afterMs);
    }
    if (outer?.aborted) this.#follow();
    outer?.addEventListener("abort", this.#follow);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  clear(): void {
    clearTimeout(this.#timer);
    this.#outer?.removeEventListener("abort", this.#follow);
  }
}

/** True of a publish whose repetition is the same publish. */
function isRepeatable(params: Params): boolean {
  const hasKey = (options: unknown): boolean =>
    isObject(options) && typeof options["idempotency_key"] === "string";
  const { options, events } = params;
  if (!Array.isArray(events)) return hasKey(options);
  return events.length > 0 && events.every((event) => isObject(event) && hasKey(event["options"]));
}

function faultData(data: unknown): FaultData {
  if (!isObject(data)) return {};
  const { field, index, problem, nearest, retry_after_ms } = data;
  return {
    ...(typeof field === "string" && { field }),
    ...(typeof index === "number" && { index }),
    ...(typeof problem === "string" && { problem }),
    ...(typeof nearest === "string" && { nearest }),
    ...(typeof retry_after_ms === "number" && { retry_after_ms }),
  };
}

function stringify(method: string, request: Params): string {
  try {
    return JSON.stringify(request);
  } catch (error) {
    // Such as a BigInt, or an object that is inside itself.
    throw new TallyhookError(`${method}: can't be said in JSON: ${reason(error)}`, {
      cause: error,
    });
  }
}

function parse(text: string, status: number): Params {
  try {
    const answer: unknown = JSON.parse(text);
    if (isObject(answer)) return answer;
  } catch {
    // Below.
  }
  throw new TransportError(
    `the answer (HTTP status ${status}) is no JSON object; is this a tallyhook server?`,
  );
}

function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // fetch says "fetch failed", and why in the cause.
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}

/** What this promise resolves to, unless the signal is aborted before. */
function within<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort);
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

/** Waits, unless the signal is aborted before. */
export function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const passed = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  return within(passed, signal).finally(() => clearTimeout(timer));
}
