import { expect, test } from "bun:test";
import { errorOf } from "../../test/harness/fake-client.ts";
import { ItemQueue } from "./item-queue.ts";

const DONE = { done: true, value: undefined } as const;
const item = (value: number) => ({ done: false, value }) as const;

test("items wait for readers, and readers for items, in order", async () => {
  const queue = new ItemQueue<number>();
  queue.push(1);
  queue.push(2);
  expect([await queue.next(), await queue.next()]).toEqual([item(1), item(2)]);
  const waiting = [queue.next(), queue.next()];
  queue.push(3);
  queue.push(4);
  expect(await Promise.all(waiting)).toEqual([item(3), item(4)]);
});

test("what waits comes before the end, the error once", async () => {
  const queue = new ItemQueue<number>();
  queue.push(1);
  queue.end(new Error("over"));
  queue.push(2);
  expect(await queue.next()).toEqual(item(1));
  expect((await errorOf(queue.next())).message).toBe("over");
  expect(await queue.next()).toEqual(DONE);
});

test("of several readers one hears the error", async () => {
  const queue = new ItemQueue<number>();
  const [first, second] = [errorOf(queue.next()), queue.next()];
  queue.end(new Error("over"));
  expect((await first).message).toBe("over");
  expect(await second).toEqual(DONE);
});

test("closing drops what waits, and an error that nobody has heard", async () => {
  const queue = new ItemQueue<number>();
  queue.push(1);
  queue.end(new Error("over"));
  queue.close();
  expect(await queue.next()).toEqual(DONE);
});

test("a newer item takes the place of the one that waits", async () => {
  const queue = new ItemQueue<number>();
  queue.replace(1);
  queue.replace(2);
  expect([await queue.next(), queue.length]).toEqual([item(2), 0]);
});
