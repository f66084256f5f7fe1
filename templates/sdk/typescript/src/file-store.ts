import { open, readFile, rename } from "node:fs/promises";

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
    if (
      isJsonObject(state) &&
      typeof state["through"] === "number" &&
      Array.isArray(state["beyond"])
    ) {
      const spans = state["beyond"].map(readSpan);
      const beyond = spans.filter((span) => span !== undefined);
      if (beyond.length === spans.length) return { through: state["through"], beyond };
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
  }
}

function readSpan(span: JsonValue): Span | undefined {
  if (!Array.isArray(span)) return undefined;
  const [first, last] = span;
  return typeof first === "number" && typeof last === "number" ? [first, last] : undefined;
}
