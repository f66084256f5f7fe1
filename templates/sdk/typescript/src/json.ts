/** Whatever JSON can say. */
export type JsonValue = null | boolean | number | string | JsonValue[] | JsonObject;

/** A JSON object whose members only its publisher knows. */
export interface JsonObject {
  [member: string]: JsonValue;
}

/**
 * Any object that `JSON.stringify` writes as a JSON object, so no array. An interface need not have
 * an index signature for it.
 */
export type JsonObjectInput =
  Readonly<Record<string, unknown>> | (object & { readonly [Symbol.iterator]?: never });

/** True of a JSON object, as opposed to an array or null. */
export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The same of what is known to come from JSON. */
export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return isObject(value);
}
