import { expect, test } from "bun:test";
import { ack, newQuorum, ownDurable } from "./quorum.ts";

test("with replication factor 1 the own durable head is committed", () => {
  const quorum = newQuorum(1, 5);
  quorum.sent = 7;
  expect(ownDurable(quorum, 6)).toBe(6);
  expect(ownDurable(quorum, 7)).toBe(7);
});

test("nothing is committed before the own-term entry is", () => {
  const quorum = newQuorum(3, 5);
  quorum.sent = 5;
  expect(ack(quorum, 1n, 4)).toBe(-1);
  expect(ownDurable(quorum, 4)).toBe(-1);
  expect(ack(quorum, 1n, 5)).toBe(-1);
  expect(ownDurable(quorum, 5)).toBe(5);
});

test("an ack that comes before the own fsync is kept and counts when the fsync returns", () => {
  const quorum = newQuorum(3, 0);
  quorum.sent = 3;
  expect(ack(quorum, 1n, 3)).toBe(-1);
  expect(ownDurable(quorum, 2)).toBe(2);
});

test("replication factor 5 needs two followers, the slower of the best two decides", () => {
  const quorum = newQuorum(5, 0);
  quorum.sent = 9;
  ownDurable(quorum, 9);
  ack(quorum, 1n, 9);
  expect(quorum.committed).toBe(-1);
  ack(quorum, 2n, 4);
  expect(quorum.committed).toBe(4);
  ack(quorum, 3n, 7);
  expect(quorum.committed).toBe(7);
});

test("an older ack never moves the commit back, and one past what was sent is a bug", () => {
  const quorum = newQuorum(3, 0);
  quorum.sent = 5;
  ownDurable(quorum, 5);
  ack(quorum, 1n, 5);
  expect(ack(quorum, 1n, 2)).toBe(5);
  expect(() => ack(quorum, 1n, 6)).toThrow("ack past what was sent");
});
