import { expect, test } from "bun:test";
import { YamlText } from "./yaml-text.ts";

const TEXT = `# servers of ours
servers:
  - &one {public: "a:1", internal: "a:2"}
  -
    public: b:1
    internal: b:2
  - *one
serverMetadata:
  b.example:2:
    labels:
      rack.row: 7
"quoted":
  <<: *one
`;

test("a value's line is told by its path, or that of what it is missing in", () => {
  const text = new YamlText(TEXT, { merge: false });
  for (const [path, line] of [
    ["servers", 2],
    ["servers.0.internal", 3],
    ["servers.1", 5],
    ["servers.1.internal", 6],
    ["servers.1.name", 5],
    ["servers.2", 7],
    ["servers.2.internal", 3],
    ["servers.9", 2],
    ["serverMetadata.b.example:2", 9],
    ["serverMetadata.b.example:2.labels.rack.row", 11],
    ["serverMetadata.c", 8],
    ["quoted.internal", 12],
  ] as const) {
    expect([path, text.placeOf(path)]).toEqual([path, `line ${line}: `]);
  }
  for (const path of ["", "none", "none.1"]) expect(text.placeOf(path)).toBe("");
  expect(new YamlText("- 1", { merge: false }).placeOf("")).toBe("");
  expect(new YamlText("", { merge: false }).placeOf("a")).toBe("");
});

test("fields of another mapping are taken in where that is wanted", () => {
  const quoted = (merge: boolean) => (new YamlText(TEXT, { merge }).value as Record<string, unknown>).quoted;
  expect(quoted(true)).toEqual({ public: "a:1", internal: "a:2" });
  expect(Object.keys(quoted(false) as object)).toEqual(["<<"]);
});

test("what is no YAML says where and why", () => {
  expect(() => new YamlText("a: 1\nb: [1,\nc: 2\n", { merge: false })).toThrow(/^line 3, column 1: .*\]/);
  expect(() => new YamlText("a: 1\na: 2\n", { merge: false })).toThrow("line 2, column 1: Map keys must be unique");
  expect(() => new YamlText('{"a": 1,\n "b": }x', { merge: false })).toThrow("line 2, column ");
});
