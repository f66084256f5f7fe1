import { open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";

import { type JsonValue, isJsonObject } from "./json.js";
import type { Span } from "./numbers.js";
import type { ReceiverState, Store } from "./store.js";

/** Keeps the state of one receiver in a file, which is whole at any time. For one process only. */
export class FileStore implements Store {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  async load(): Promise<ReceiverState | undefined> {
    let text: string;
    try {
      text = await readFile(this.#path, "utf8");
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
      throw error;
    }
    const state: JsonValue = JSON.parse(text);
    if (isJsonObject(state)) {
      const { through, beyond, floor = 0, below = [], store_id, events: ids = [] } = state;
      const [above, under] = [readSpans(beyond), readSpans(below)];
      if (
        typeof through === "number" &&
        typeof floor === "number" &&
        above !== undefined &&
        under !== undefined
      ) {
        const storeId = typeof store_id === "string" ? store_id : undefined;
        const events = Array.isArray(ids) ? ids.filter((id) => typeof id === "number") : [];
        return { through, beyond: above, floor, below: under, store_id: storeId, events };
      }
    }
    throw new Error(`${this.#path} holds no state of a receiver`);
  }

  async save(state: ReceiverState): Promise<void> {
    const written = `${this.#path}.new`;
    const file = await open(written, "w");
    try {
      await file.writeFile(`${JSON.stringify(state)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(written, this.#path);
    await syncFolder(dirname(this.#path));
  }
}

/** Keeps a renaming through a loss of power, where the platform can. */
async function syncFolder(path: string): Promise<void> {
  if (process.platform === "win32") return;
  try {
    const folder = await open(path, "r");
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code !== "EACCES" && code !== "EINVAL") throw error;
  }
}

function readSpans(spans: JsonValue | undefined): Span[] | undefined {
  if (!Array.isArray(spans)) return undefined;
  const read = spans.map(readSpan).filter((span) => span !== undefined);
  return read.length === spans.length ? read : undefined;
}

function readSpan(span: JsonValue): Span | undefined {
  if (!Array.isArray(span)) return undefined;
  const [first, last] = span;
  return typeof first === "number" && typeof last === "number" ? [first, last] : undefined;
}
