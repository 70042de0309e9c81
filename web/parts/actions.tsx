/** @jsxImportSource hono/jsx */
/** What an admin can do with what a page shows: forms that lead to what would change. */
import type { Child } from "hono/jsx";
import { DEEDS, isServed } from "../deeds.ts";
import type { Asked } from "../page.ts";

/** Nothing for those who may not, nor where nobody serves it. */
export function mayDo({ inspect, visitor }: Asked, name: string): boolean {
  const deed = DEEDS[name];
  return visitor.role === "admin" && deed !== undefined && isServed(deed, inspect);
}

export function Actions({ children }: { children: Child }) {
  return (
    <section aria-label="Actions">
      <h2>Actions</h2>
      {children}
    </section>
  );
}

/** A form that leads to the preview of a deed; `fixed`: fields that are given. */
export function DeedForm({
  name,
  label,
  fixed,
  children,
}: {
  name: string;
  label: string;
  fixed: Readonly<Record<string, string>>;
  children?: Child;
}) {
  return (
    <form class="row" method="get" action={`/do/${name}`}>
      {Object.entries(fixed).map(([field, value]) => (
        <input type="hidden" name={field} value={value} />
      ))}
      {children}
      <button class={DEEDS[name]?.isDestructive === true ? "danger" : undefined} type="submit">
        {label}
      </button>
    </form>
  );
}

export function Choice({ name, label, options, chosen }: ChoiceProps) {
  return (
    <label>
      {label}
      <select name={name}>
        {options.map((option) => (
          <option value={option} selected={option === chosen}>
            {option}
          </option>
        ))}
      </select>
    </label>
  );
}

interface ChoiceProps {
  readonly name: string;
  readonly label: string;
  readonly options: readonly string[];
  readonly chosen?: string;
}
