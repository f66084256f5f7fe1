import { TallyhookError } from "./errors.js";

/** What stands before the 32 bytes of a public key in the form that Node reads (RFC 8410). */
const HEAD = "302a300506032b6570032100";
const VERSION = "v1a,";

/** As much of `node:crypto` as is used. */
interface Crypto {
  createPublicKey(key: { key: Uint8Array; format: "der"; type: "spki" }): unknown;
  verify(algorithm: null, data: Uint8Array, key: unknown, signature: Uint8Array): boolean;
}

/**
 * True if one item of `webhook-signature` is `v1a` and was made by the private key of this public
 * one, which is base64 of 32 bytes.
 * @throws TallyhookError if the key is none, or the platform has no `node:crypto`.
 */
export function isSignedByKey(
  publicKey: string,
  text: string,
  signed: Record<string, string>,
): boolean {
  const crypto = nodeCrypto();
  const own = bytes(publicKey);
  if (own?.length !== 32) throw new TallyhookError("a public key is whpk_ and base64 of 32 bytes");
  const der = Uint8Array.from([...hex(HEAD), ...own]);
  const key = crypto.createPublicKey({ key: der, format: "der", type: "spki" });
  const id = signed["webhook-id"] ?? "";
  const message = new TextEncoder().encode(`${id}.${signed["webhook-timestamp"] ?? ""}.${text}`);
  return (signed["webhook-signature"] ?? "").split(" ").some((item) => {
    const signature = item.startsWith(VERSION) ? bytes(item.slice(VERSION.length)) : undefined;
    return signature?.length === 64 && crypto.verify(null, message, key, signature);
  });
}

/** Without an import, which would keep the whole package out of browsers. */
function nodeCrypto(): Crypto {
  const { process } = globalThis as {
    process?: { getBuiltinModule?: (name: string) => unknown };
  };
  const crypto = process?.getBuiltinModule?.("node:crypto");
  if (crypto === undefined) {
    throw new TallyhookError("public keys need node:crypto, as Node has it from 20.16 on");
  }
  return crypto as Crypto;
}

function bytes(base64: string): Uint8Array | undefined {
  try {
    return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  } catch {
    return undefined;
  }
}

function hex(text: string): number[] {
  return (text.match(/../g) ?? []).map((pair) => Number.parseInt(pair, 16));
}
