import { expect, test } from "bun:test";
import { EMPTY_HEAD } from "../model/ids.ts";
import { compareHeads } from "./replica-state.ts";

test("heads are ordered by term, then offset", () => {
  const heads = [EMPTY_HEAD, { term: 1, offset: 9 }, { term: 2, offset: 0 }, { term: 2, offset: 3 }];
  expect([...heads].reverse().sort(compareHeads)).toEqual(heads);
});
