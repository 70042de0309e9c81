import { describe, expect, test } from "bun:test";
import { AppliedState, index, part, put, range, sequencePut } from "../../test/harness/applied-state.ts";
import { bytesOf, keyOf } from "../../test/harness/client.ts";
import { Status } from "../gen/bytes/io/oxia/proto/v1/client_pb.ts";
import type { KeySorting } from "../model/keys.ts";
import { SESSIONS_REMEMBERED_MAX } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import { escapeKey, sessionIdOf, sessionKey } from "./session-key.ts";

const sortings: KeySorting[] = ["hierarchical", "natural"];
const keyOfSession = (id: number) => keyOf(sessionKey(id));
const shadow = (id: number, key: string) => `${keyOfSession(id)}/${keyOf(escapeKey(bytesOf(key)))}`;
const inSession = (key: string, id: number, options = {}) => put(key, { sessionId: BigInt(id), ...options });
const shadows = (state: AppliedState) =>
  state.keys("__oxia/session/").filter((key) => sessionIdOf(bytesOf(key)) === undefined);

describe.each(sortings)("in %s order", (sorting) => {
  test("a session is a record, consumes a version, and has an empty batch of notifications", () => {
    const state = new AppliedState(sorting);
    state.put(put("a"));
    const id = state.startSession(15_000);
    expect(id).toBe(1);
    expect(state.keys()).toEqual(["a", "__oxia/session/0000000000000001"]);
    expect(state.notified()).toEqual([]);
    expect(state.told).toEqual(["started 1 15000"]);
    expect(state.write({ puts: [put("b")] }).puts[0]!.version!.versionId).toBe(2n);
  });

  test("an ephemeral record has a shadow; versions tell its session", () => {
    const state = new AppliedState(sorting);
    const id = state.startSession();
    const { puts } = state.write({ puts: [inSession("a/b", id)] });
    expect(puts[0]!.version!.sessionId).toBe(BigInt(id));
    expect(shadows(state)).toEqual([`__oxia/session/${"0".repeat(16)}/a%2Fb`]);
  });

  test("the end of a session deletes its records and nothing else, and tells subscribers of each", () => {
    const state = new AppliedState(sorting);
    const [mine, other] = [state.startSession(), state.startSession()];
    const keys = ["", "/", "a/b/c", "a//", "%41", "A", "\xff\xfe", "\x00", "__oxia", "é"];
    state.put(...keys.map((key) => inSession(key, mine)));
    state.put(inSession("theirs", other), put("nobody's"));
    state.endSessions(mine);
    expect(state.userKeys()).toEqual(["nobody's", "theirs"].sort());
    expect(state.keys("__oxia/")).toEqual([keyOfSession(other), shadow(other, "theirs")]);
    expect(state.notified()).toEqual(keys.toSorted().map((key) => `DELETED ${key}`));
    expect(state.told.slice(2)).toEqual([`ended ${mine}`]);
  });

  test.each([
    ["a put of the same session keeps the shadow", (id: number) => inSession("a", id), true],
    ["a put without a session takes it away, and the record lives on", () => put("a"), false],
  ])("%s", (_, again, dies) => {
    const state = new AppliedState(sorting);
    const id = state.startSession();
    state.put(inSession("a", id));
    state.put(again(id));
    expect(shadows(state)).toEqual(dies ? [shadow(id, "a")] : []);
    state.endSessions(id);
    expect(state.userKeys()).toEqual(dies ? [] : ["a"]);
    expect(state.notified()).toEqual(dies ? ["DELETED a"] : []);
  });

  test("a put of another session moves the shadow: the record dies with that one", () => {
    const state = new AppliedState(sorting);
    const [first, second] = [state.startSession(), state.startSession()];
    state.put(inSession("a", first));
    state.put(inSession("a", second));
    expect(shadows(state)).toEqual([shadow(second, "a")]);
    state.endSessions(first);
    expect(state.userKeys()).toEqual(["a"]);
    state.endSessions(second);
    expect(state.keys()).toEqual([]);
  });

  test("a plain record becomes ephemeral by a put with a session", () => {
    const state = new AppliedState(sorting);
    state.put(put("a"));
    const id = state.startSession();
    state.put(inSession("a", id));
    state.endSessions(id);
    expect(state.keys()).toEqual([]);
  });

  test("a put that fails moves no shadow", () => {
    const state = new AppliedState(sorting);
    const [first, second] = [state.startSession(), state.startSession()];
    state.put(inSession("a", first));
    expect(
      state.put(
        inSession("a", second, { expectedVersionId: 99n }),
        inSession("a", 1234),
        put("a", { expectedVersionId: -1n }),
      ),
    ).toEqual([Status.UNEXPECTED_VERSION_ID, Status.SESSION_DOES_NOT_EXIST, Status.UNEXPECTED_VERSION_ID]);
    expect(shadows(state)).toEqual([shadow(first, "a")]);
  });

  test("delete and delete-range take the shadow along; a key made anew outlives the session", () => {
    const state = new AppliedState(sorting);
    const id = state.startSession();
    state.put(inSession("a", id), inSession("b", id), inSession("c", id));
    state.delete("a");
    state.write({ deleteRanges: [range("b", "c")] });
    expect(shadows(state)).toEqual([shadow(id, "c")]);
    state.put(put("a"), put("b"));
    state.endSessions(id);
    expect(state.userKeys()).toEqual(["a", "b"]);
    expect(state.notified()).toEqual(["DELETED c"]);
  });

  test("a delete-range over everything leaves the sessions and takes all shadows", () => {
    const state = new AppliedState(sorting);
    const [first, second] = [state.startSession(), state.startSession()];
    state.put(inSession("a/1", first, { secondaryIndexes: [index("i", "s")] }), inSession("b", second), put("c"));
    state.write({ deleteRanges: [range("", "")] });
    expect(state.keys()).toEqual([keyOfSession(first), keyOfSession(second)]);
  });

  test("index entries of ephemeral records go with them", () => {
    const state = new AppliedState(sorting);
    const id = state.startSession();
    state.put(
      inSession("a", id, { secondaryIndexes: [index("i", "1"), index("i", "2"), index("j", "")] }),
      put("b", { secondaryIndexes: [index("i", "1")] }),
    );
    expect(state.keys("__oxia/idx/").length).toBe(4);
    state.endSessions(id);
    expect(state.keys("__oxia/idx/").length).toBe(1);
    expect(state.userKeys()).toEqual(["b"]);
  });

  test("more records than one step of an end holds all go", () => {
    const state = new AppliedState(sorting);
    const id = state.startSession();
    state.put(...Array.from({ length: 2_500 }, (_, n) => inSession(`k/${n}`, id)));
    state.endSessions(id);
    expect(state.keys()).toEqual([]);
    expect(state.notified()?.length).toBe(2_500);
  });

  test("one entry ends several sessions; ids near each other are not mixed up", () => {
    const state = new AppliedState(sorting);
    const ids = Array.from({ length: 18 }, () => state.startSession());
    state.put(...ids.map((id) => inSession(`of ${id}`, id)));
    state.endSessions(ids[1]!, ids[17]!, 5_000);
    expect(state.userKeys()).toEqual(
      ids
        .filter((id) => id !== 1 && id !== 17)
        .map((id) => `of ${id}`)
        .sort(),
    );
    expect(state.told.slice(18)).toEqual(["ended 1", "ended 17"]);
    expect(state.notified()).toEqual(["DELETED of 1", "DELETED of 17"]);
  });

  test("a session that ended twice ended once", () => {
    const state = new AppliedState(sorting);
    const id = state.startSession();
    state.endSessions(id, id);
    state.endSessions(id);
    expect(state.told.filter((each) => each.startsWith("ended"))).toEqual([`ended ${id}`]);
  });

  test("a sequence put may be ephemeral", () => {
    const state = new AppliedState(sorting);
    const id = state.startSession();
    state.put({ ...sequencePut("a", 1), sessionId: BigInt(id) });
    expect(shadows(state)).toEqual([shadow(id, `a${part(1)}`)]);
    state.endSessions(id);
    expect(state.keys()).toEqual([]);
  });
});

test("a put into a session that has ended fails, also right after puts into it", () => {
  const state = new AppliedState();
  const id = state.startSession();
  state.put(inSession("a", id));
  state.endSessions(id);
  expect(state.put(inSession("a", id))).toEqual([Status.SESSION_DOES_NOT_EXIST]);
  expect(state.keys()).toEqual([]);
});

test("a session that an undone entry saw is looked up again", () => {
  const state = new AppliedState();
  const id = state.startSession();
  state.next("s", 1, 1);
  expect(state.apply({ puts: [inSession("a", id), sequencePut("s", 1)] })).toBeInstanceOf(Refusal);
  expect(state.keys("__oxia/")).toEqual([keyOfSession(id)]);
  state.endSessions(id);
  expect(state.put(inSession("a", id))).toEqual([Status.SESSION_DOES_NOT_EXIST]);
});

test("more sessions than are remembered to exist do exist", () => {
  const state = new AppliedState();
  const ids = Array.from({ length: SESSIONS_REMEMBERED_MAX + 2 }, () => state.startSession());
  const { puts } = state.write({ puts: ids.map((id) => inSession("same", id)) });
  expect(puts.every(({ status }) => status === Status.OK)).toBe(true);
  expect(shadows(state)).toEqual([shadow(ids.at(-1)!, "same")]);
});

test.each([-1n, 2n ** 53n, 2n ** 63n - 1n, -(2n ** 63n)])("session %d does not exist", (sessionId) => {
  const state = new AppliedState();
  state.startSession();
  expect(state.put(put("a", { sessionId }))).toEqual([Status.SESSION_DOES_NOT_EXIST]);
});

test("of a replica that restarts between any two entries the state is the same", () => {
  const states = [new AppliedState(), new AppliedState()] as const;
  for (const [at, state] of states.entries()) {
    const then = (action: () => void) => {
      if (at === 1) state.restart();
      action();
    };
    then(() => state.startSession());
    then(() => state.startSession());
    then(() => state.put(inSession("a", 0, { secondaryIndexes: [index("i", "x")] }), inSession("b", 1)));
    then(() => state.put(inSession("a", 1), { ...sequencePut("q", 4), sessionId: 0n }));
    then(() => state.endSessions(0));
    then(() => state.put(inSession("z", 0), { ...sequencePut("q", 1), sessionId: 1n }));
    then(() => state.endSessions(1));
  }
  expect(states[0].kv.stateHash).toBe(states[1].kv.stateHash);
  expect(states[0].kv.applied).toEqual(states[1].kv.applied);
  expect(states[0].keys()).toEqual([]);
});
