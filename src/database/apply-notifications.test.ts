import { describe, expect, test } from "bun:test";
import { AppliedState, index, part, put, range, sequencePut } from "../../test/harness/applied-state.ts";
import { bytesOf } from "../../test/harness/client.ts";
import { NO_OFFSET } from "../model/ids.ts";
import type { KeySorting } from "../model/keys.ts";
import { Refusal } from "../model/refusal.ts";

const sortings: KeySorting[] = ["hierarchical", "natural"];
const deletes = (...keys: string[]) => keys.map((key) => ({ key: bytesOf(key) }));

describe.each(sortings)("in %s order", (sorting) => {
  test("a batch names created, modified and deleted keys, sorted by their bytes", () => {
    const state = new AppliedState(sorting);
    state.put(put("b"), put("c"));
    state.write({ puts: [put("é"), put("a/z"), put("b"), put("a0"), put("a")], deletes: deletes("c") });
    expect(state.notified()).toEqual([
      "CREATED a v6",
      "CREATED a/z v3",
      "CREATED a0 v5",
      "MODIFIED b v4",
      "DELETED c",
      "CREATED é v2",
    ]);
  });

  test("of several operations on a key the last one is told", () => {
    const state = new AppliedState(sorting);
    state.put(put("a"), put("b"), put("c"));
    expect(state.put(put("a"), put("x"), put("x"), put("x"))).toEqual([0, 0, 0, 0]);
    expect(state.notified()).toEqual(["MODIFIED a v3", "MODIFIED x v6"]);
    state.write({ puts: [put("a"), put("new")], deletes: deletes("a", "new", "b") });
    expect(state.notified()).toEqual(["DELETED a", "DELETED b", "DELETED new"]);
  });

  test("a range deletion is keyed by its start, told also when nothing matched, and alone", () => {
    const state = new AppliedState(sorting);
    state.put(put("b"), put("b1"), put("b2"));
    state.write({ puts: [put("b")], deleteRanges: [range("b", "c"), range("x", "y"), range("x", "z")] });
    expect(state.userKeys()).toEqual([]);
    expect(state.notified()).toEqual(["RANGE_DELETED b c", "RANGE_DELETED x z"]);
    state.write({ deleteRanges: [range("", "")] });
    expect(state.notified()).toEqual(["RANGE_DELETED  "]);
  });

  test("failed operations and internal keys are not told of", () => {
    const state = new AppliedState(sorting);
    const session = state.startSession();
    state.write({
      puts: [
        put("a", { expectedVersionId: 9n }),
        put("b", { sessionId: 99n }),
        put("c", { sessionId: BigInt(session), secondaryIndexes: [index("i", "s")] }),
      ],
      deletes: deletes("none"),
    });
    expect(state.notified()).toEqual(["CREATED c v1"]);
  });

  test("every write entry has a batch, also one that changed nothing; a control entry has none", () => {
    const state = new AppliedState(sorting);
    state.write({});
    expect(state.notified()).toEqual([]);
    state.put(put("a", { expectedVersionId: 9n }));
    expect(state.notified()).toEqual([]);
    state.applier.applyControl({ term: 2, offset: 2, timestamp: 1 });
    expect(state.notified()).toBeUndefined();
    state.put(put("a"));
    expect(state.kv.notifications(NO_OFFSET).map(({ offset }) => offset)).toEqual([0, 1, 3]);
  });

  test("sequence puts are told of with the key that they got", () => {
    const state = new AppliedState(sorting);
    state.write({ puts: [sequencePut("s", 1), sequencePut("s", 1)] });
    expect(state.notified()).toEqual([`CREATED s${part(1)} v0`, `CREATED s${part(2)} v1`]);
  });

  test("an undone entry has an empty batch, and the next one is its own", () => {
    const state = new AppliedState(sorting);
    state.next("s", 1, 1);
    expect(state.apply({ puts: [put("a"), sequencePut("s", 1)] })).toBeInstanceOf(Refusal);
    expect(state.notified()).toEqual([]);
    state.put(put("b"));
    expect(state.notified()).toEqual(["CREATED b v1"]);
  });
});

test("created or modified goes by the count that results, which a client may override", () => {
  const state = new AppliedState();
  state.put(put("a", { overrideModificationsCount: 7n, overrideVersionId: 2n ** 60n }));
  expect(state.notified()).toEqual([`MODIFIED a v${2n ** 60n}`]);
  state.put(put("a", { overrideModificationsCount: 0n }));
  expect(state.notified()).toEqual(["CREATED a v0"]);
});

test("a batch has the entry's time", () => {
  const state = new AppliedState();
  state.now = 1_234;
  state.put(put("a"));
  state.now = 99;
  state.put(put("a"));
  expect(state.kv.notifications(NO_OFFSET).map(({ timestamp }) => timestamp)).toEqual([1_234, 99]);
});

test("in a namespace without notifications nothing is kept", () => {
  const state = new AppliedState("hierarchical", { notificationsEnabled: false });
  const session = state.startSession();
  state.put(put("a", { sessionId: BigInt(session) }));
  state.write({ deleteRanges: [range("", "")] });
  state.endSessions(session);
  expect(state.kv.notifications(NO_OFFSET)).toEqual([]);
  expect(state.keys()).toEqual([]);
});

test("a replica that applies the log keeps the very batches of the leader", () => {
  const [leader, follower] = [new AppliedState(), new AppliedState()];
  for (const state of [leader, follower]) {
    if (state === follower) state.applier.listener = undefined;
    const session = state.startSession();
    state.put(put("a", { sessionId: BigInt(session) }), put("b"), put("a"));
    state.write({ deletes: deletes("b"), deleteRanges: [range("x", "")] });
    state.endSessions(session);
  }
  expect(follower.kv.notifications(NO_OFFSET)).toEqual(leader.kv.notifications(NO_OFFSET));
});
