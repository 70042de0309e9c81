/** Stories of leaders, and of calls that come once more or late (safety.md §3, §6). */
import { EMPTY_BYTES } from "../../src/lib/bytes.ts";
import type { Append, SnapshotChunk } from "../../src/model/peer-messages.ts";
import { Refusal } from "../../src/model/refusal.ts";
import type { DataServerMachine } from "../sim/cluster.ts";
import { PLACE, Stage } from "./stage.ts";
import type { Story } from "./stories.ts";

export const leading: Readonly<Record<string, Story>> = {
  "BecomeLeader comes once more after a crash": (seed) => {
    const stage = new Stage({ seed });
    stage.settle();
    stage.write(3);
    const nodes = stage.cluster.dataServers.map(({ node }) => node);
    for (const node of nodes)
      stage.cut(
        [node],
        nodes.filter((other) => other !== node),
      );
    stage.kill(stage.leader, 500);
    const isBecoming = (machine: DataServerMachine) => stage.replica(machine)?.state.status === "becoming-leader";
    stage.until("a replica is to lead", () => stage.cluster.dataServers.some(isBecoming));
    // it has marked the term, and reaches nobody: not one entry of it is in its log
    const crashed = stage.cluster.dataServers.find(isBecoming)!;
    stage.powerOff(crashed);
    for (const node of nodes)
      stage.join(
        [node],
        nodes.filter((other) => other !== node),
      );
    stage.pass(100);
    stage.start(crashed);
    stage.until("it was greeted", () => stage.replica(crashed)?.state.introduced === true);
    stage.call("BecomeLeader", () => crashed.calls.again(crashed.peer!, "becomeLeader"));
    stage.end();
  },

  "two coordinators claim the same term": (seed) => {
    const stage = new Stage({ seed, coordinators: 2 });
    stage.settle();
    for (let elections = 0; elections < 4; elections++) {
      stage.write(1);
      const { term } = stage.stored;
      stage.kill(stage.leader, 3_000);
      stage.untilLedAfter(term);
      stage.settle();
    }
    stage.end();
  },

  "a leader is sent entries of its own term": (seed) => {
    const stage = new Stage({ seed });
    stage.settle();
    stage.write(2);
    const { leader } = stage;
    const { term } = stage.stored;
    const replicaId = stage.replica(leader)!.state.id;
    const first = { term, entry: undefined, commitOffset: 0, ackedOffset: 0, replicaId, readRound: 1 };
    const messages = [
      { ...first, previousEntryCrc: 0, previousTerm: term, previousCrc: 0, cumulativeAcksSupported: true },
    ];
    const outcome = stage.call("Replicate", () =>
      leader.peer!.replicate(
        { ...PLACE, term },
        { next: async () => messages.shift() as Append | undefined, send() {} },
      ),
    );
    if (!(outcome instanceof Refusal)) throw outcome;
    stage.write(2);
    stage.end();
  },

  "Truncate comes once more": (seed) => {
    const stage = new Stage({ seed });
    stage.settle();
    stage.write(2);
    // the old leader keeps an entry that nobody else has
    const old = stage.leader;
    const { term } = stage.stored;
    const others = stage.nodesBut(old);
    stage.cut([old.node], [...others, stage.cluster.store]);
    stage.offer(old);
    stage.untilLedAfter(term);
    stage.write(2);
    stage.join([old.node], [...others, stage.cluster.store]);
    stage.settle();
    stage.write(3);
    stage.settle();
    const { leader } = stage;
    stage.cut([old.node], [leader.node]);
    stage.pass(10_000);
    stage.call("Truncate", () => old.calls.again(old.peer!, "truncate"));
    stage.join([old.node], [leader.node]);
    stage.end();
  },

  "a snapshot comes once more": (seed) => {
    const stage = new Stage({ seed });
    stage.settle();
    stage.write(3);
    stage.settle();
    const { leader } = stage;
    const [follower] = stage.followers;
    const chunks: SnapshotChunk[] = [];
    const { term } = stage.stored;
    const replicaId = stage.replica(follower)!.state.id;
    stage.call("a snapshot", async () => {
      const state = await stage.replica(leader)!.kv!.send();
      const last = stage.replica(leader)!.state.head;
      const empty = {
        term,
        content: EMPTY_BYTES,
        chunkIndex: 0,
        chunkCount: 1,
        rowCount: undefined,
        stateHash: undefined,
      };
      chunks.push({ ...empty, name: "state-1", last, replicaId });
      for (let content = await state.next(); content !== undefined; content = await state.next()) {
        chunks.push({ ...empty, name: "state", content, last: undefined, replicaId: undefined });
      }
      const { rowCount, stateHash } = state;
      chunks.push({ ...empty, name: "state", last: undefined, replicaId: undefined, rowCount, stateHash });
      state.release();
    });
    stage.write(4);
    stage.settle();
    stage.cut([follower.node], [leader.node]);
    stage.pass(10_000);
    stage.call("SendSnapshot", () =>
      follower.peer!.sendSnapshot({ ...PLACE, term }, { next: async () => chunks.shift() }),
    );
    stage.join([follower.node], [leader.node]);
    stage.end();
  },
};
