/** @jsxImportSource hono/jsx */
/** A record's value, as text, JSON or bytes. */
import { bytes } from "./format.ts";
import { Empty } from "./pieces.tsx";
import { hexDump, visible } from "./text.ts";

/** A longer one is cut. */
export const VALUE_SHOWN_BYTES_MAX = 64 * 1024;
/** Of a value, in a table. */
const PREVIEW_CHARACTERS = 80;

export const FORMS = ["text", "json", "hex", "base64"] as const;
export type Form = (typeof FORMS)[number];

export function Value({ value, form }: { value: Uint8Array; form: Form }) {
  if (value.length === 0) return <Empty>It is empty.</Empty>;
  const shown = value.subarray(0, VALUE_SHOWN_BYTES_MAX);
  return (
    <>
      <pre class="value" tabindex={0}>
        <bdi>{valueText(shown, form)}</bdi>
      </pre>
      {shown.length === value.length ? null : (
        <p class="muted">{`The first ${bytes(shown.length)} of ${bytes(value.length)}.`}</p>
      )}
    </>
  );
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Undefined: it is none. */
export function textOf(value: Uint8Array): string | undefined {
  try {
    return strictUtf8.decode(value);
  } catch {
    return undefined;
  }
}

function jsonOf(value: Uint8Array): string | undefined {
  const text = textOf(value);
  if (text === undefined || !/^\s*[[{]/.test(text)) return undefined;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return undefined;
  }
}

export function defaultForm(value: Uint8Array): Form {
  if (value.length <= VALUE_SHOWN_BYTES_MAX && jsonOf(value) !== undefined) return "json";
  return textOf(value) === undefined ? "hex" : "text";
}

function valueText(value: Uint8Array, form: Form): string {
  switch (form) {
    case "text":
      return visible(new TextDecoder().decode(value), true);
    case "json":
      return visible(jsonOf(value) ?? "It is not JSON.", true);
    case "base64":
      return Buffer.from(value).toString("base64");
    case "hex":
      return hexDump(value);
  }
}

/** The beginning of a value. */
export function preview(value: Uint8Array): string {
  const text =
    textOf(value.subarray(0, PREVIEW_CHARACTERS)) ?? new TextDecoder().decode(value.subarray(0, PREVIEW_CHARACTERS));
  return visible(text) + (value.length > PREVIEW_CHARACTERS ? "…" : "");
}
