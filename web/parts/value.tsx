/** @jsxImportSource hono/jsx */
/** A record's value, as text, JSON or bytes. */
import { bytes } from "./format.ts";
import { Empty } from "./pieces.tsx";
import { hexDump, visible } from "./text.ts";

/** A longer one is cut. */
export const VALUE_SHOWN_BYTES_MAX = 64 * 1024;
/** Of a value, in a table. */
const PREVIEW_BYTES = 80;

export const FORMS = ["text", "json", "hex", "base64"] as const;
export type Form = (typeof FORMS)[number];

/** Whether a form of HTML gives it back as it is. */
export function isEditable(value: Uint8Array): boolean {
  const text = value.length <= VALUE_SHOWN_BYTES_MAX ? textOf(value) : undefined;
  // line ends come back as "\n", and what reads HTML has no NUL
  return text !== undefined && !/[\r\0]/.test(text);
}

/** `whole`: the address of all of it. */
export function Value({ value, form, whole }: { value: Uint8Array; form: Form; whole: string }) {
  if (value.length === 0) return <Empty>It is empty.</Empty>;
  const shown = value.subarray(0, VALUE_SHOWN_BYTES_MAX);
  return (
    <>
      <pre class="value" tabindex={0}>
        <bdi>{valueText(shown, form)}</bdi>
      </pre>
      <p class="muted">
        {shown.length === value.length ? null : `The first ${bytes(shown.length)} of ${bytes(value.length)}. `}
        <a href={whole} download>
          Download the value
        </a>
      </p>
    </>
  );
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Undefined: it is none, of UTF-8. */
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
  return beginningOf(value) === undefined || textOf(value) === undefined ? "hex" : "text";
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

/** The beginning of a value that is text, else how much it is. */
export function preview(value: Uint8Array): string {
  const text = beginningOf(value);
  if (text === undefined) return `${bytes(value.length)}, binary`;
  return visible(text) + (value.length > PREVIEW_BYTES ? "…" : "");
}

/** Characters that text has; of those that control a terminal, escape is in texts that colour themselves. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const BINARY = /[\u0000-\u0008\u000b\u000c\u000e-\u001a\u001c-\u001f]/;

/** Undefined: it is no text. A character that is cut in two is left out. */
function beginningOf(value: Uint8Array): string | undefined {
  try {
    const isCut = value.length > PREVIEW_BYTES;
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    const text = decoder.decode(value.subarray(0, PREVIEW_BYTES), { stream: isCut });
    return BINARY.test(text) ? undefined : text;
  } catch {
    return undefined;
  }
}
