/** @jsxImportSource hono/jsx */
/** A link to what a key names: no link where no address would hold it. */
import { isTooLong } from "../page.ts";
import { Badge } from "./pieces.tsx";

/** Of a key, on a page; the rest of a longer one is left out. */
const KEY_SHOWN_CHARACTERS = 1_000;

export function AddressLink({ to, text }: { to: string; text: string }) {
  const shown = text.length > KEY_SHOWN_CHARACTERS ? `${text.slice(0, KEY_SHOWN_CHARACTERS)}…` : text;
  if (!isTooLong(to)) {
    return (
      <a href={to}>
        <bdi>{shown}</bdi>
      </a>
    );
  }
  return (
    <>
      <bdi>{shown}</bdi>
      <Badge mood="quiet">too long for the address of a page</Badge>
    </>
  );
}
