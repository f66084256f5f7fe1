export { Client } from "./client.js";
export type * from "./client.js";
export * from "./errors.js";
export * from "./faults.js";
export type { JsonObject, JsonObjectInput, JsonValue } from "./json.js";
export type { Span } from "./numbers.js";
export * from "./receiver.js";
export * from "./store.js";
export type {
  DeliveryNews,
  DeliverySubscribeOptions,
  EventNews,
  EventSubscribeOptions,
} from "./subscriptions.js";
export type { CallOptions, ClientOptions, Socket, SocketClass } from "./transport.js";
export type * from "./types.js";
export * from "./verify.js";
