import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { AppliedState, part, put, range, sequencePut } from "../../test/harness/applied-state.ts";
import { bytesOf, keyOf } from "../../test/harness/client.ts";
import { Status } from "../gen/bytes/io/oxia/proto/v1/client_pb.ts";
import type { KeySorting } from "../model/keys.ts";
import { SEQUENCES_REMEMBERED_MAX } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";

const MAX = 2n ** 64n - 1n;
const sortings: KeySorting[] = ["hierarchical", "natural"];

describe.each(sortings)("in %s order", (sorting) => {
  test("keys follow the table of the spec", () => {
    const state = new AppliedState(sorting);
    expect(state.next("a", 5)).toBe("a-00000000000000000005");
    expect(state.next("a", 3)).toBe("a-00000000000000000008");
    expect(state.next("a", 6, 9)).toBe("a-00000000000000000014-00000000000000000009");
    expect(state.next("a", 6, 9, 15)).toBe("a-00000000000000000020-00000000000000000018-00000000000000000015");
    expect(state.next("a", 1)).toBe("INVALID_ARGUMENT");
    expect(state.next("a", 1, 0, 0)).toBe(`a${part(21)}${part(18)}${part(15)}`);
  });

  test("the base key is never written", () => {
    const state = new AppliedState(sorting);
    state.next("a", 5);
    expect(state.keys()).toEqual([`a${part(5)}`]);
  });

  test("a prefix may hold any byte, be empty, or end like a sequence key", () => {
    for (const prefix of ["", "/", "a/b/", "a//", "\xff", "a-", `a${part(7)}`, "é\x00\x01"]) {
      const state = new AppliedState(sorting);
      expect(state.next(prefix, 5)).toBe(prefix + part(5));
      state.restart();
      expect(state.next(prefix, 3)).toBe(prefix + part(8));
      expect(state.next(prefix, 2)).toBe(prefix + part(10));
    }
  });

  test("user keys between sequence keys are no part of the sequence", () => {
    const state = new AppliedState(sorting);
    const others = ["a", "a+x-5", "a+xxxx", "a-", "a-5", "a-00000000000000000009x", "a-0000000000000000009", "a-x"];
    state.put(...others.map((key) => put(key)));
    expect(state.next("a", 1)).toBe(`a${part(1)}`);
    state.put(put(`a${part(50)}/child`), put(`a${part(60)}x`), put(`a${part(70)}-`), put("a.b"), put("b"));
    state.restart();
    expect(state.next("a", 1)).toBe(`a${part(2)}`);
  });

  test("keys of a longer prefix are no part of it", () => {
    const state = new AppliedState(sorting);
    state.next("a-b", 100);
    state.next("ab", 200);
    state.next("a/", 300);
    state.restart();
    expect(state.next("a", 1)).toBe(`a${part(1)}`);
  });

  test("a key that a user puts counts when it has the form, from then on", () => {
    const state = new AppliedState(sorting);
    expect(state.next("a", 1)).toBe(`a${part(1)}`);
    state.put(put(`a${part(40)}`));
    expect(state.next("a", 1)).toBe(`a${part(41)}`);
    state.put(put(`a${part(3)}`));
    expect(state.next("a", 1)).toBe(`a${part(42)}`);
    state.put(put(`a${part(42)}${part(7)}`));
    expect(state.next("a", 1)).toBe("INVALID_ARGUMENT");
    expect(state.next("a", 1, 1)).toBe(`a${part(43)}${part(8)}`);
  });

  test("a sequence whose prefix is a key of another one is seen by both", () => {
    const state = new AppliedState(sorting);
    expect(state.next("a", 1)).toBe(`a${part(1)}`);
    expect(state.next(`a${part(1)}`, 7)).toBe(`a${part(1)}${part(7)}`);
    expect(state.next("a", 1)).toBe("INVALID_ARGUMENT");
    expect(state.next("a", 1, 1)).toBe(`a${part(2)}${part(8)}`);
  });

  test("once the highest keys are deleted the one below them counts", () => {
    const state = new AppliedState(sorting);
    for (const delta of [5, 5, 5]) state.next("a", delta);
    state.delete(`a${part(15)}`);
    expect(state.next("a", 1)).toBe(`a${part(11)}`);
    state.write({ deleteRanges: [range("a", "b")] });
    expect(state.userKeys()).toEqual([]);
    expect(state.next("a", 1)).toBe(`a${part(1)}`);
    state.delete(`a${part(1)}`);
    expect(state.next("a", 2)).toBe(`a${part(2)}`);
  });

  test("the highest key that its session takes along counts no more", () => {
    const state = new AppliedState(sorting);
    state.next("a", 5);
    const id = state.startSession();
    state.put({ ...sequencePut("a", 5), sessionId: BigInt(id) });
    expect(state.userKeys()).toEqual([`a${part(5)}`, `a${part(10)}`]);
    state.endSessions(id);
    expect(state.next("a", 1)).toBe(`a${part(6)}`);
  });

  test("counters past 2^53 are exact, and sums wrap at 2^64", () => {
    const state = new AppliedState(sorting);
    expect(state.next("a", 2n ** 53n)).toBe(`a${part(2n ** 53n)}`);
    expect(state.next("a", 1)).toBe(`a${part(2n ** 53n + 1n)}`);
    state.restart();
    expect(state.next("a", 1, 2n ** 63n)).toBe(`a${part(2n ** 53n + 2n)}${part(2n ** 63n)}`);
    expect(state.next("a", 1, 2n ** 63n)).toBe(`a${part(2n ** 53n + 3n)}${part(0)}`);
    expect(state.next("b", MAX - 1n)).toBe(`b${part(MAX - 1n)}`);
    expect(state.next("b", 3)).toBe(`b${part(1)}`);
  });

  test("a sum that wraps does not become the highest key: the next put goes on from that", () => {
    for (const restarts of [false, true]) {
      const state = new AppliedState(sorting);
      state.next("a", 5);
      expect(state.next("a", MAX)).toBe(`a${part(4)}`);
      if (restarts) state.restart();
      expect(state.next("a", 1)).toBe(`a${part(6)}`);
    }
  });

  test("a key with the largest counter counts the same for a replica that saw it written and for one that restarted", () => {
    const [saw, restarted] = [new AppliedState(sorting), new AppliedState(sorting)];
    for (const state of [saw, restarted]) {
      expect(state.next("a", 5)).toBe(`a${part(5)}`);
      expect(state.next("a", MAX - 5n)).toBe(`a${part(MAX)}`);
    }
    restarted.restart();
    expect(saw.next("a", 1)).toBe(restarted.next("a", 1));
    expect(saw.kv.stateHash).toBe(restarted.kv.stateHash);
  });

  test("puts of one request go on from each other, across failures of theirs", () => {
    const state = new AppliedState(sorting);
    const { puts } = state.write({
      puts: [
        sequencePut("a", 1),
        { ...sequencePut("a", 1), sessionId: 99n },
        { ...sequencePut("a", 1), expectedVersionId: 0n },
        { ...sequencePut("a", 1), expectedVersionId: -1n },
        sequencePut("a", 1, 2),
        sequencePut("b", 3),
      ],
    });
    expect(puts.map(({ status }) => status)).toEqual([
      Status.OK,
      Status.SESSION_DOES_NOT_EXIST,
      Status.UNEXPECTED_VERSION_ID,
      Status.UNEXPECTED_VERSION_ID,
      Status.OK,
      Status.OK,
    ]);
    expect(puts.map(({ key }) => key && keyOf(key))).toEqual([
      `a${part(1)}`,
      undefined,
      undefined,
      undefined,
      `a${part(2)}${part(2)}`,
      `b${part(3)}`,
    ]);
    expect(state.told).toEqual([
      `advanced a a${part(1)}`,
      `advanced a a${part(2)}${part(2)}`,
      `advanced b b${part(3)}`,
    ]);
  });
});

test("too few deltas undo the whole entry, which counts as applied", () => {
  const state = new AppliedState();
  const session = state.startSession();
  state.put(put("kept"), put("gone"));
  state.next("a", 1, 1);
  const before = { keys: state.keys(), hash: state.kv.stateHash, applied: state.kv.applied, told: state.told.length };
  const response = state.apply({
    puts: [put("new"), put("kept", { sessionId: BigInt(session) }), sequencePut("b", 1), sequencePut("a", 1)],
    deletes: [{ key: bytesOf("gone") }],
    deleteRanges: [range("", "")],
  });
  expect(response).toBeInstanceOf(Refusal);
  expect((response as Refusal).reason).toBe("INVALID_ARGUMENT");
  expect((response as Refusal).message).toContain("missing some sequence deltas");
  expect(state.keys()).toEqual(before.keys);
  expect(state.kv.stateHash).toBe(before.hash);
  expect(state.kv.applied).toEqual({ ...before.applied, offset: before.applied.offset + 1 });
  expect(state.told.length).toBe(before.told);
  expect(state.notified()).toEqual([]);
});

test("what an undone entry wrote is not remembered of any sequence, nor is its session", () => {
  const state = new AppliedState();
  state.next("a", 1, 1);
  expect(state.apply({ puts: [sequencePut("b", 5), sequencePut("a", 1)] })).toBeInstanceOf(Refusal);
  expect(state.applier.highestSequenceKey(bytesOf("b"))).toBeUndefined();
  expect(state.next("b", 1)).toBe(`b${part(1)}`);
  expect(state.next("a", 1, 1)).toBe(`a${part(2)}${part(2)}`);
});

test("the highest key is found whether it is remembered or not", () => {
  const state = new AppliedState();
  expect(state.applier.highestSequenceKey(bytesOf("a"))).toBeUndefined();
  state.next("a", 5);
  expect(keyOf(state.applier.highestSequenceKey(bytesOf("a"))!)).toBe(`a${part(5)}`);
  state.restart();
  expect(keyOf(state.applier.highestSequenceKey(bytesOf("a"))!)).toBe(`a${part(5)}`);
  state.delete(`a${part(5)}`);
  expect(state.applier.highestSequenceKey(bytesOf("a"))).toBeUndefined();
});

test("more prefixes than are remembered go on all the same", () => {
  const state = new AppliedState();
  const prefixes = Array.from({ length: SEQUENCES_REMEMBERED_MAX + 10 }, (_, n) => `p${n}`);
  state.write({ puts: prefixes.map((prefix) => sequencePut(prefix, 2)) });
  for (const prefix of [prefixes[0]!, prefixes[5]!, prefixes.at(-1)!])
    expect(state.next(prefix, 3)).toBe(prefix + part(5));
});

test("whether keys are read in order is told before: only while no highest key is remembered", () => {
  const state = new AppliedState();
  const write = { puts: [{ key: bytesOf("a"), sequenceKeyDeltas: [1] }], deletes: [], deleteRanges: [] };
  const readsInOrder = () => state.applier.readsInOrder(write as never);
  expect(readsInOrder()).toBe(true);
  state.next("a", 1);
  expect(readsInOrder()).toBe(false);
  state.put(put(`a${part(9)}`));
  expect(readsInOrder()).toBe(true);
});

/** What the spec says, in its plainest form: the highest key is looked for among all keys, each time. */
function nextByTheSpec(keys: readonly string[], prefix: string, deltas: readonly bigint[]): string | undefined {
  const limit = prefix + part(MAX);
  const parts = (key: string) =>
    [...key.slice(prefix.length).matchAll(/-(\d{20})/gy)].map(([, digits]) => BigInt(digits!));
  const highest = keys
    .filter((key) => key.startsWith(prefix) && key < limit && key.length > prefix.length)
    .filter((key) => parts(key).length * 21 === key.length - prefix.length && parts(key).every((n) => n <= MAX))
    .sort()
    .at(-1);
  const before = highest === undefined ? [] : parts(highest);
  if (deltas.length < before.length) return undefined;
  return prefix + deltas.map((delta, at) => part(BigInt.asUintN(64, (before[at] ?? 0n) + delta))).join("");
}

const prefix = fc.constantFrom("a", `a${part(1)}`, "a/", "", "b\xff");
const delta = fc.constantFrom(1n, 2n, 2n ** 53n, 2n ** 63n, MAX - 1n, MAX);
const laterDelta = fc.oneof(delta, fc.constant(0n));
const counter = fc.constantFrom(1n, 2n, 3n, MAX - 1n, MAX, MAX + 1n, 10n ** 20n - 1n);
const userKey = fc
  .tuple(prefix, fc.array(counter, { maxLength: 2 }), fc.constantFrom("", "", "", "x", "/"))
  .map(([start, counters, end]) => start + counters.map(part).join("") + end);
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      prefix,
      deltas: fc.tuple(delta, fc.array(laterDelta, { maxLength: 2 })).map(([a, b]) => [a, ...b]),
    }),
  },
  { weight: 2, arbitrary: fc.record({ put: userKey }) },
  { weight: 2, arbitrary: fc.record({ remove: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ from: userKey, to: userKey }) },
);

test("whatever else happens, keys are those of the spec, also on a replica that remembers nothing", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.constantFrom(...sortings), (steps, sorting) => {
      const leader = new AppliedState(sorting);
      const forgetful = new AppliedState(sorting);
      const both = (init: Parameters<AppliedState["apply"]>[0]) => {
        forgetful.restart();
        forgetful.apply(init);
        return leader.apply(init);
      };
      for (const each of steps) {
        if ("prefix" in each) {
          const expected = nextByTheSpec(leader.keys(), each.prefix, each.deltas);
          const response = both({ puts: [sequencePut(each.prefix, ...each.deltas)] });
          if (expected === undefined) expect(response).toBeInstanceOf(Refusal);
          else expect(keyOf((response as { puts: { key: Uint8Array }[] }).puts[0]!.key)).toBe(expected);
        } else if ("put" in each) both({ puts: [put(each.put)] });
        else if ("remove" in each) {
          const keys = leader.keys();
          if (keys.length > 0) both({ deletes: [{ key: bytesOf(keys[each.remove % keys.length]!) }] });
        } else both({ deleteRanges: [range(each.from, each.to)] });
        expect(forgetful.kv.stateHash).toBe(leader.kv.stateHash);
      }
    }),
    { numRuns: 400 },
  );
});
