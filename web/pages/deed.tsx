/** @jsxImportSource hono/jsx */
/** `/do/NAME`: what a change will do, before it is made. */
import { NOTE_CHARACTERS_MAX } from "../../src/ops/events.ts";
import { type Deed, fieldsOf } from "../deed.ts";
import { type Asked, type Page, PageError } from "../page.ts";
import { CopyAs } from "../parts/pieces.tsx";

/** Why it is done, in the reader's own words. */
export const NOTE_FIELD = "note";

export async function deedPage(deed: Deed, name: string, { inspect, query, visitor }: Asked): Promise<Page> {
  if (visitor.role !== "admin") throw new PageError(403, "A viewer's token changes nothing: log in with an admin's.");
  const fields = fieldsOf(deed, query);
  const { lines, command, typed } = await deed.preview(inspect, fields);
  const body = (
    <>
      <h1>{deed.title}</h1>
      <ul class="card plan">
        {lines.map((line) => (
          <li>{line}</li>
        ))}
      </ul>
      <form class="row" method="post" action={`/do/${name}`}>
        <input type="hidden" name="token" value={visitor.formToken} />
        {Object.entries(fields).map(([field, value]) => (
          <input type="hidden" name={field} value={value} />
        ))}
        <label>
          Note for the events
          <input name={NOTE_FIELD} autocomplete="off" maxlength={NOTE_CHARACTERS_MAX} />
        </label>
        {typed === undefined ? null : (
          <label>
            {`Type ${typed} to go on`}
            <input name="typed" autocomplete="off" required pattern={escaped(typed)} />
          </label>
        )}
        <button class={deed.isDestructive === true ? "danger" : "primary"} type="submit">
          {deed.verb}
        </button>
        <a class="button" href="/" data-back="">
          Leave it
        </a>
      </form>
      <CopyAs commands={command === undefined ? [] : [command]} />
    </>
  );
  return { title: deed.title, body };
}

/** As a pattern of HTML, which holds for the whole. */
function escaped(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
}
