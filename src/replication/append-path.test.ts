/** The bound that all followers of a node share. The rest of a follower's way is tested in follow.test.ts. */
import { expect, test } from "bun:test";
import { ManualClock } from "../../test/harness/manual-clock.ts";
import { OPTIONS, ScriptedLeader, ScriptedStream, SHARD } from "../../test/harness/replica-server.ts";
import { ModelKeyValue } from "../../test/sim/model-key-value.ts";
import { keyOrder } from "../model/keys.ts";
import { Refusal } from "../model/refusal.ts";
import type { Log } from "../ports.ts";
import { decide } from "../protocol/replica.ts";
import { NOTHING, type Replica as State } from "../protocol/replica-state.ts";
import { AppendPath } from "./append-path.ts";
import { FollowerMemory } from "./follower-memory.ts";
import { Turns } from "./turns.ts";

/** A follower whose log answers when the test says so. */
function follower(memory: FollowerMemory) {
  const waiting: (() => void)[] = [];
  const log = {
    append: () => new Promise<void>((resolve) => waiting.push(resolve)),
    read: async () => leader.entries.slice(kv.applied.offset + 1),
  };
  const leader = new ScriptedLeader().add(1).add(1, "a").add(1, "b").add(1, "c");
  const kv = new ModelKeyValue(keyOrder("hierarchical"));
  const clock = new ManualClock();
  let state: State = { ...NOTHING, status: "fenced", id: 5n, promise: 1, introduced: true };
  const opened = decide(state, "OpenReplicate", { term: 1, replicaId: 5n, ackedOffset: -1 });
  state = opened.next;
  const failed = (what: unknown) => {
    throw what;
  };
  const stream = new ScriptedStream(1, leader);
  const path = new AppendPath(
    { log: log as unknown as Log, kv, clock, turns: new Turns(clock), memory },
    {
      shard: SHARD,
      options: OPTIONS,
      state: () => ({ ...state, applied: kv.applied.offset }),
      become: (next) => {
        state = next;
      },
      alarm: failed,
      fault: failed,
    },
    stream,
    true,
  );
  stream.open(5n).entry(0, 3).entry(1, 3).entry(2, 3).entry(3, 3);
  void stream.next().then((first) => path.serve(first!).catch(() => {}));
  return { waiting, kv, stream, path };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test("past the node's bound each follower has one entry under way and keeps none, so that none waits for another", async () => {
  const memory = new FollowerMemory(1);
  const followers = [follower(memory), follower(memory)];
  for (let n = 0; n < 4; n++) {
    await turn();
    for (const { waiting } of followers) expect(waiting.length).toBe(1);
    expect(memory.appending).toBeGreaterThan(0);
    for (const { waiting } of followers) waiting.shift()!();
  }
  await turn();
  for (const { stream, kv } of followers) {
    expect(stream.lastAck?.offset).toBe(3);
    expect(kv.applied.offset).toBe(3);
  }
  expect(memory).toMatchObject({ appending: 0, kept: 0 });
});

test("what a stopped stream has kept is given back, and what was on its way when the log answers", async () => {
  const memory = new FollowerMemory();
  const { waiting, path } = follower(memory);
  await turn();
  expect(waiting.length).toBe(4);
  expect(memory.kept).toBeGreaterThan(0);
  path.stop(new Refusal("RESOURCE_UNAVAILABLE", "over"));
  expect(memory.kept).toBe(0);
  for (const answer of waiting) answer();
  await path.settled();
  expect(memory.appending).toBe(0);
});
