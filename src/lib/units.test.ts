import { expect, test } from "bun:test";
import { parseBytes, parseDurationMs } from "./units.ts";

test("durations are read as Go writes them", () => {
  expect(parseDurationMs("1h")).toBe(3_600_000);
  expect(parseDurationMs("1h0m0s")).toBe(3_600_000);
  expect(parseDurationMs("1m30s")).toBe(90_000);
  expect(parseDurationMs("500ms")).toBe(500);
  expect(parseDurationMs("1.5s")).toBe(1500);
  expect(parseDurationMs("0")).toBe(0);
});

test("what is no duration is undefined", () => {
  for (const text of ["", "5", "h", "1x", "1h ", "-1s", "1h2"]) expect(parseDurationMs(text)).toBeUndefined();
});

test("sizes take binary units with or without the i and the b", () => {
  expect(parseBytes("512m")).toBe(512 * 1024 * 1024);
  expect(parseBytes("64MiB")).toBe(64 * 1024 * 1024);
  expect(parseBytes("1.5k")).toBe(1536);
  expect(parseBytes("1048576")).toBe(1_048_576);
  for (const text of ["", "m", "12q", "-1", "1e6"]) expect(parseBytes(text)).toBeUndefined();
});
