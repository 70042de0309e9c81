/** @jsxImportSource hono/jsx */
/** Small pieces that pages are made of. */
import { raw } from "hono/html";
import type { Child } from "hono/jsx";
import { utc } from "./format.ts";

export type Mood = "good" | "warn" | "bad" | "quiet";

const MARKS: Record<Mood, string> = { good: "✓", warn: "!", bad: "✕", quiet: "·" };

/** A state: by its word and a mark, and only then by colour. */
export function Badge({ mood, children }: { mood: Mood; children: Child }) {
  return (
    <span class={`badge ${mood}`}>
      <span aria-hidden="true">{MARKS[mood]}</span> {children}
    </span>
  );
}

/** A moment, as UTC; the page's script shows it as its reader likes. */
export function Time({ ms }: { ms: number | bigint }) {
  const at = Number(ms);
  if (at <= 0) return <span class="muted">–</span>;
  return (
    <time datetime={new Date(at).toISOString()} title={new Date(at).toISOString()}>
      {utc(at)}
    </time>
  );
}

export function Tile({ name, children }: { name: string; children: Child }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** How to ask for the same from a terminal. */
export function CopyAs({ commands }: { commands: readonly string[] }) {
  if (commands.length === 0) return null;
  return (
    <details class="copy">
      <summary>Copy as command</summary>
      {commands.map((command) => (
        <div>
          <pre tabindex={0}>
            <code>{command}</code>
          </pre>
          <button type="button" data-copy="">
            Copy
          </button>
        </div>
      ))}
    </details>
  );
}

/** A table that scrolls by itself where it is wider than its place; a narrow screen shows each row as a list. */
export function Table({ caption, head, children }: { caption: string; head: readonly Column[]; children: Child }) {
  const body = labelled(String(<tbody>{children}</tbody>), head.map(headingOf));
  return (
    <section class="scroll" aria-label={caption} tabindex={0}>
      <table>
        <thead>
          <tr>
            {head.map((column) => (
              <Heading column={column} />
            ))}
          </tr>
        </thead>
        {raw(body)}
      </table>
    </section>
  );
}

/** Cells with the heading that each stands under, which is all that a list has of it. Texts in `html` are escaped. */
function labelled(html: string, headings: readonly string[]): string {
  let column = 0;
  return html.replace(/<tr\b|<td\b(?=([^>]*)>)|<th\b/g, (tag, attributes = "") => {
    if (tag === "<tr") column = 0;
    else if (tag === "<th") column++;
    else if (!attributes.includes("colspan")) return `<td data-label="${headings[column++] ?? ""}"`;
    return tag;
  });
}

function headingOf(column: Column): string {
  return typeof column === "string" ? column : column.number;
}

function Heading({ column }: { column: Column }) {
  return (
    <th scope="col" class={typeof column === "string" ? undefined : "n"}>
      {headingOf(column)}
    </th>
  );
}

/** A heading; of numbers, they stand at its right. */
export type Column = string | { readonly number: string };

/** What stands in the place of a table that has no rows. */
export function Empty({ children }: { children: Child }) {
  return <p class="card empty">{children}</p>;
}
