import { Webhook as Verifier } from "standardwebhooks";

import { isSignedByKey } from "./ed25519.js";
import { TallyhookError } from "./errors.js";
import { type JsonObject, type JsonValue, isJsonObject } from "./json.js";
import { readMessageId } from "./message-id.js";

/** Headers of a request, as `node:http`, `fetch` and most frameworks have them. */
export type RequestHeaders =
  Headers | Readonly<Record<string, string | readonly string[] | undefined>>;

/** The request is not signed with any of the secrets, or more than five minutes old. */
export class SignatureError extends TallyhookError {
  override readonly name: string = "SignatureError";
}

/** The request is signed, but its body is none that this package reads. */
export class FormatError extends TallyhookError {
  override readonly name: string = "FormatError";
}

/** A delivery whose signature is right. */
export interface VerifiedDelivery {
  /** The server's store that numbered it; a new store begins with number 1 again. */
  readonly store_id: string;
  /** The webhook that it was sent to. */
  readonly webhook_id: number;
  /** Its number; of a batch, the first. */
  readonly first_increment_id: number;
  /** Its number; of a batch, the last. */
  readonly last_increment_id: number;
  /** The body as it was signed. */
  readonly body: string;
}

/** An event as the webhook's receiver gets it. */
export interface ReceivedEvent {
  readonly webhook_id: number;
  /** The number of the delivery in the webhook: 1, 2, 3 … without a hole. */
  readonly increment_id: number;
  /**
   * The event itself: the same under every number that it has, by `webhook.backfill` or in another
   * webhook.
   */
  readonly event_id: number;
  /** What happened, such as `order:created`. */
  readonly topic: string;
  /** When it happened (RFC 3339). */
  readonly created_at: string;
  /** What its publisher says of it. */
  readonly message: JsonObject;
}

const HEADERS = ["webhook-id", "webhook-timestamp", "webhook-signature"];
const SECRET_PREFIX = "whsec_";
const PUBLIC_KEY_PREFIX = "whpk_";
/** How far the time of a request may lie from now, in seconds: what the official library allows. */
const AGE_MAX_S = 300;

/**
 * Checks the signature of a request: by a secret with the official library of Standard Webhooks, by a
 * public key with the `node:crypto` of Node 20.16 and newer. Numbers are read from the signed
 * `webhook-id`, so this works with every format of bodies.
 * @param secrets - The webhook's `secret_key`, or its `public_key`; or several of which one has to fit.
 * @param body - The body as it came, before anything has parsed it.
 * @throws SignatureError
 */
export function verifyDelivery(
  secrets: string | readonly string[],
  body: string | Uint8Array,
  headers: RequestHeaders,
): VerifiedDelivery {
  const signed = Object.fromEntries(HEADERS.map((name) => [name, header(headers, name)]));
  const text = typeof body === "string" ? body : decode(body);
  const keys = typeof secrets === "string" ? [secrets] : secrets;
  if (!keys.some((secret) => isSignedWith(secret, text, signed))) {
    throw new SignatureError("the request is not signed with the secret, or too old or too new");
  }
  const message = readMessageId(signed["webhook-id"] ?? "");
  if (message === undefined) throw new SignatureError("webhook-id is none of a tallyhook server");
  return {
    store_id: message.storeId,
    webhook_id: message.webhookId,
    first_increment_id: message.first,
    last_increment_id: message.last,
    body: text,
  };
}

/**
 * Reads the events of a verified delivery: one, or those of a batch in their order. It reads the
 * format `envelope`, which webhooks have unless they were given another.
 * @throws FormatError
 */
export function readEvents(delivery: VerifiedDelivery): ReceivedEvent[] {
  let body: JsonValue;
  try {
    body = JSON.parse(delivery.body);
  } catch {
    throw new FormatError("the body is no JSON");
  }
  const batch = isJsonObject(body) ? body["events"] : undefined;
  const events = Array.isArray(batch) ? batch : [body];
  const isExpected = delivery.last_increment_id - delivery.first_increment_id + 1 === events.length;
  if (!isExpected) throw new FormatError("the body has other numbers than webhook-id");
  return events.map((event, place) =>
    readEvent(event, delivery, delivery.first_increment_id + place),
  );
}

function readEvent(event: JsonValue, delivery: VerifiedDelivery, expected: number): ReceivedEvent {
  if (isJsonObject(event) && event["increment_id"] === expected) {
    const { event_id, topic, created_at, message } = event;
    if (
      typeof event_id === "number" &&
      typeof topic === "string" &&
      typeof created_at === "string" &&
      isJsonObject(message)
    ) {
      return {
        webhook_id: delivery.webhook_id,
        increment_id: expected,
        event_id,
        topic,
        created_at,
        message,
      };
    }
  }
  throw new FormatError(
    "the body is not in the format envelope; webhook.get says which format it is in",
  );
}

function isSignedWith(secret: string, text: string, signed: Record<string, string>): boolean {
  if (secret.startsWith(PUBLIC_KEY_PREFIX)) {
    return isFresh(signed) && isSignedByKey(secret.slice(PUBLIC_KEY_PREFIX.length), text, signed);
  }
  // A secret without the prefix is no base64: its own bytes are the key.
  const verifier = secret.startsWith(SECRET_PREFIX)
    ? new Verifier(secret)
    : new Verifier(new TextEncoder().encode(secret), { format: "raw" });
  try {
    verifier.verify(text, signed, { jsonParse: false });
    return true;
  } catch {
    return false;
  }
}

function isFresh(signed: Record<string, string>): boolean {
  const timestamp = signed["webhook-timestamp"] ?? "";
  return (
    /^[0-9]+$/.test(timestamp) && Math.abs(Date.now() / 1_000 - Number(timestamp)) <= AGE_MAX_S
  );
}

/** What is no UTF-8 was not signed by a tallyhook server. */
function decode(body: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
  } catch {
    throw new SignatureError("the body is no UTF-8");
  }
}

function header(headers: RequestHeaders, name: string): string {
  if (headers instanceof Headers) return headers.get(name) ?? "";
  const key = Object.keys(headers).find((key) => key.toLowerCase() === name);
  const value = key === undefined ? undefined : headers[key];
  return typeof value === "string" ? value : (value?.join(" ") ?? "");
}
