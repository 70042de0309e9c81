import { expect, test } from "bun:test";
import { Serial } from "./serial.ts";

test("tasks run one at a time, in order, and go on behind one that fails", async () => {
  const serial = new Serial();
  const seen: string[] = [];
  const task =
    (name: string, fails = false) =>
    async () => {
      seen.push(`${name} begins`);
      await Promise.resolve();
      seen.push(`${name} ends`);
      if (fails) throw new Error(name);
      return name;
    };
  const first = serial.run(task("first", true));
  const second = serial.run(task("second"));
  expect(serial.size).toBe(2);
  await expect(first).rejects.toThrow("first");
  expect(await second).toBe("second");
  expect(seen).toEqual(["first begins", "first ends", "second begins", "second ends"]);
  expect(serial.size).toBe(0);
});
