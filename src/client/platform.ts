/**
 * The real world behind the client's ports, under Bun and under Node. The hash is Bun's own there, and hash-wasm's
 * elsewhere, which is fetched on first use only.
 */
import { utf8 } from "../lib/bytes.ts";
import type { Clock } from "../ports.ts";
import type { KeyHash } from "./transport.ts";

export const platformClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  after(ms, callback) {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
  soon: (callback) => void setImmediate(callback),
};

interface BunHash {
  readonly hash?: { readonly xxHash3?: (key: string | Uint8Array) => bigint };
}

export async function loadKeyHash(): Promise<KeyHash> {
  const xxHash3 = (globalThis as { Bun?: BunHash }).Bun?.hash?.xxHash3;
  if (xxHash3 !== undefined) return (key) => Number(BigInt.asUintN(32, xxHash3(key)));
  return loadWasmHash();
}

/** The same hash where Bun is not. */
export async function loadWasmHash(): Promise<KeyHash> {
  const { createXXHash3 } = await import("hash-wasm");
  const hasher = await createXXHash3();
  return (key) => {
    // big-endian: the low 32 bits are the last four bytes
    const digest = hasher
      .init()
      .update(typeof key === "string" ? utf8(key) : key)
      .digest("binary");
    return ((digest[4]! << 24) | (digest[5]! << 16) | (digest[6]! << 8) | digest[7]!) >>> 0;
  };
}
