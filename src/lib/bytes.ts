/**
 * Byte strings. Keys and values are bytes from end to end: nothing here knows of text encodings, apart from latin1,
 * where one character is one byte (a latin1 string of a key is a map key at native speed, and `<` on it is bytewise).
 */

export type Bytes = Uint8Array;

export const EMPTY_BYTES: Bytes = new Uint8Array(0);

const textEncoder = new TextEncoder();
const textDecoder = new TextDecoder();

export function utf8(text: string): Bytes {
  return textEncoder.encode(text);
}

/** For messages to people: what is not UTF-8 becomes U+FFFD. */
export function text(bytes: Bytes): string {
  return textDecoder.decode(bytes);
}

/** Bytewise order: negative, zero or positive; a prefix sorts first. */
export function compareBytes(a: Bytes, b: Bytes): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const difference = a[i]! - b[i]!;
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

export function equalBytes(a: Bytes, b: Bytes): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

export function startsWith(bytes: Bytes, prefix: Bytes): boolean {
  if (bytes.length < prefix.length) return false;
  for (let i = 0; i < prefix.length; i++) if (bytes[i] !== prefix[i]) return false;
  return true;
}

/** A copy that holds all parts in order. */
export function concatBytes(...parts: Bytes[]): Bytes {
  let length = 0;
  for (const part of parts) length += part.length;
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
