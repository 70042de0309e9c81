/** What a page is: a function from what was asked to a title and a body; `live` bodies are sent again as they change. */
import type { HtmlEscapedString } from "hono/utils/html";
import type { Visitor } from "./gate.ts";
import type { Inspect } from "./inspect.ts";

/** Of a page's path and query: a longer one is refused, and linked nowhere. What it holds is more than a key should have. */
export const ADDRESS_CHARACTERS_MAX = 16_384;

export interface Asked {
  readonly inspect: Inspect;
  /** Of the path's places, in their order, decoded. */
  readonly places: readonly string[];
  readonly query: URLSearchParams;
  /** Who asks. */
  readonly visitor: Visitor;
  /** An answer of the cluster that is so old will do. */
  readonly maxAgeMs: number;
  /** One that is older has a newer one asked for, which the next reader gets. Default: none is. */
  readonly refreshAgeMs?: number;
}

export interface Page {
  readonly title: string;
  readonly body: HtmlEscapedString | Promise<HtmlEscapedString>;
  /** Sent again whenever it changes. */
  readonly live?: boolean;
  /** It has charts that can be read point by point, where there is a script. */
  readonly charts?: boolean;
  /** Below the body, as it was when it was asked for: forms keep what is typed into them. */
  readonly still?: HtmlEscapedString | Promise<HtmlEscapedString> | null;
  /** Default 200. */
  readonly status?: 400 | 401 | 403 | 404 | 409 | 413 | 414 | 429 | 500 | 503;
}

export type PageOf = (asked: Asked) => Promise<Page> | Page;

/** What a page cannot show, in words for its reader. */
export class PageError extends Error {
  override readonly name = "PageError";
  readonly status: 400 | 403 | 404 | 409 | 413 | 414;

  constructor(status: PageError["status"], message: string) {
    super(message);
    this.status = status;
  }
}

export function isTooLong(address: string): boolean {
  return address.length > ADDRESS_CHARACTERS_MAX;
}
