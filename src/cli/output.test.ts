import { expect, test } from "bun:test";
import { hexDump } from "../../web/parts/text.ts";
import { json, keyObject, printObject, printObjects, recordObject, versionObject } from "./output.ts";

const VERSION = {
  versionId: 2n ** 62n + 1n,
  modificationsCount: 3,
  createdTimestamp: 0,
  modifiedTimestamp: 1_795_549_713_737,
  sessionId: undefined,
  clientIdentity: undefined,
};
const utf8 = (text: string) => new TextEncoder().encode(text);

async function* pages<T>(...all: T[][]): AsyncGenerator<T[]> {
  yield* all;
}

function collector() {
  let written = "";
  const write = (data: string | Uint8Array) => {
    written += typeof data === "string" ? data : new TextDecoder().decode(data);
    return Promise.resolve();
  };
  return { write, written: () => written };
}

test("a version is told in Oxia's words, with ids in full", () => {
  expect(json(versionObject(utf8("a/b"), VERSION))).toBe(
    '{"key":"a/b","version_id":4611686018427387905,"created_timestamp":"1970-01-01T00:00:00.000Z",' +
      '"modified_timestamp":"2026-11-24T19:48:33.737Z","modifications_count":3,"ephemeral":false,"session_id":0,' +
      '"client_identity":""}',
  );
});

test("what is not UTF-8 is base64 under another name", () => {
  const record = recordObject({ key: Uint8Array.of(0xff), value: Uint8Array.of(0xc3, 0x28), version: VERSION });
  expect(record).toMatchObject({ key_base64: "/w==", value_base64: "wyg=" });
  expect(keyObject(utf8("é"))).toEqual({ key: "é" });
});

test("a list is one JSON array, however its pages fall", async () => {
  for (const all of [pages([{ a: 1 }], [], [{ a: 2 }, { a: 3 }]), pages([], [{ a: 1 }, { a: 2 }, { a: 3 }])]) {
    const { write, written } = collector();
    await printObjects("json", all, write);
    expect(JSON.parse(written())).toEqual([{ a: 1 }, { a: 2 }, { a: 3 }]);
  }
});

test("an empty list is an empty list in JSON and YAML, and nothing as a table", async () => {
  for (const [form, expected] of [
    ["json", "[]\n"],
    ["yaml", "[]\n"],
    ["table", ""],
  ] as const) {
    const { write, written } = collector();
    await printObjects(form, pages([], []), write);
    expect(written()).toBe(expected);
  }
});

test("a list is one YAML sequence", async () => {
  const { write, written } = collector();
  await printObjects("yaml", pages([{ a: 2n ** 62n }], [{ a: "x: y" }]), write);
  expect(written()).toBe('- a: 4611686018427387904\n- a: "x: y"\n');
});

test("a table has a column for each field, as wide as it must be, and no control characters", async () => {
  const { write, written } = collector();
  await printObjects(
    "table",
    pages([{ key: "a", value: "long value" }], [{ key: "bcd\n\u001b[31m", value_base64: "/w==" }]),
    write,
  );
  expect(written()).toBe("KEY  VALUE\na    long value\nbcd\\x0a\\x1b[31m  base64:/w==\n");
});

test("one object is one document", async () => {
  const { write, written } = collector();
  await printObject("json", { a: 1 }, write);
  await printObject("yaml", { a: 1 }, write);
  await printObject("table", { a: 1 }, write);
  expect(written()).toBe('{"a":1}\na: 1\nA\n1\n');
});

test("a hex dump is laid out as hexdump -C does it", () => {
  expect(hexDump(utf8("caf\u00e9"))).toBe("00000000  63 61 66 c3 a9                                    |caf..|\n");
  expect(hexDump(utf8("0123456789abcdefg"))).toBe(
    "00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|\n" +
      "00000010  67                                                |g|\n",
  );
  expect(hexDump(new Uint8Array(0))).toBe("");
});
