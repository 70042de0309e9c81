import { expect, test } from "bun:test";
import { Inbox } from "./inbox.ts";

function counted(pauseAt: number) {
  const told: string[] = [];
  const source = { pause: () => void told.push("pause"), resume: () => void told.push("resume") };
  return { inbox: new Inbox<number>(pauseAt, source), told };
}

test("messages come in order, whether they wait for the reader or the reader for them", async () => {
  const { inbox } = counted(10);
  const first = inbox.next();
  inbox.push(1);
  inbox.push(2);
  inbox.push(3);
  expect([await first, await inbox.next(), await inbox.next()]).toEqual([1, 2, 3]);
});

test("the source pauses at the bound, goes on at half of it, and loses nothing in between", async () => {
  const { inbox, told } = counted(4);
  for (let n = 0; n < 6; n++) inbox.push(n);
  expect({ told: [...told], paused: inbox.paused, unread: inbox.unread }).toEqual({
    told: ["pause"],
    paused: true,
    unread: 6,
  });
  for (let n = 0; n < 4; n++) expect(await inbox.next()).toBe(n);
  expect({ told, paused: inbox.paused }).toEqual({ told: ["pause", "resume"], paused: false });
  expect([await inbox.next(), await inbox.next()]).toEqual([4, 5]);
});

test("what is unread comes before the end, and the end again and again", async () => {
  const { inbox } = counted(4);
  inbox.push(1);
  inbox.end();
  inbox.push(2);
  expect([await inbox.next(), await inbox.next(), await inbox.next()]).toEqual([1, undefined, undefined]);
});

test("an error ends it too: the reader that waits hears it, and whoever reads later", async () => {
  const { inbox } = counted(4);
  const waiting = inbox.next();
  inbox.end(new Error("gone"));
  await expect(waiting).rejects.toThrow("gone");
  await expect(inbox.next()).rejects.toThrow("gone");
});

test("closing drops what is unread", async () => {
  const { inbox } = counted(4);
  inbox.push(1);
  inbox.close(new Error("closed"));
  await expect(inbox.next()).rejects.toThrow("closed");
});

test("two readers at once are a bug", () => {
  const { inbox } = counted(4);
  void inbox.next();
  expect(() => inbox.next()).toThrow("two readers");
});
