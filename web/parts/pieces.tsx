/** @jsxImportSource hono/jsx */
/** Small pieces that pages are made of. */
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

/** A table that scrolls by itself where it is wider than its place. */
export function Table({ caption, head, children }: { caption: string; head: readonly Column[]; children: Child }) {
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
        <tbody>{children}</tbody>
      </table>
    </section>
  );
}

function Heading({ column }: { column: Column }) {
  if (typeof column === "string") return <th scope="col">{column}</th>;
  if ("number" in column) {
    return (
      <th scope="col" class="n">
        {column.number}
      </th>
    );
  }
  return (
    <th scope="col" class="wide">
      {column.wide}
    </th>
  );
}

/** A heading; of numbers, they stand at its right; of cells with the class `wide`, which narrow screens do without. */
export type Column = string | { readonly number: string } | { readonly wide: string };

/** What stands in the place of a table that has no rows. */
export function Empty({ children }: { children: Child }) {
  return <p class="card empty">{children}</p>;
}
