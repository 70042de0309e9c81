/** Stories of disks that are lost, are set back, or lose a part of what they held (safety.md §1, §7). */
import { OPTIONS } from "../harness/replica-server.ts";
import type { DiskCopy } from "../sim/disk.ts";
import { CALM_DISK, SimDisk } from "../sim/disk.ts";
import { Network } from "../sim/network.ts";
import { CALM } from "../sim/network-rates.ts";
import { SimNode } from "../sim/node.ts";
import { SimRandom } from "../sim/random.ts";
import { Scheduler } from "../sim/scheduler.ts";
import { Trace } from "../sim/trace.ts";
import { Violation } from "../sim/violation.ts";
import { aloneOn } from "./alone.ts";
import { PLACE, Stage } from "./stage.ts";
import type { Story } from "./stories.ts";

export const disks: Readonly<Record<string, Story>> = {
  "a disk older than its counted term": (seed) => {
    const stage = new Stage({ seed });
    stage.settle();
    stage.write(2);
    const [old] = stage.followers;
    const copy = old.disk.copy();
    const { term } = stage.stored;
    stage.kill(stage.leader, 500);
    stage.untilLedAfter(term);
    stage.settle();
    stage.write(3);
    stage.replaceDisk(old, copy);
    stage.start(old);
    stage.pass(2_000);
    stage.end();
  },

  "a disk older than what it has acked": (seed) => {
    const stage = new Stage({ seed });
    stage.settle();
    stage.write(2);
    const [old] = stage.followers;
    const copy = old.disk.copy();
    stage.write(5);
    stage.replaceDisk(old, copy);
    stage.start(old);
    stage.pass(2_000);
    stage.end();
  },

  "a stream before the greeting": (seed) => {
    const stage = new Stage({ seed });
    stage.settle();
    stage.write(2);
    stage.pass(100);
    const [old] = stage.followers;
    const copy = old.disk.copy();
    const before = stage.cluster.invariants.confirmedStamp(old.internal);
    stage.until(
      "a later stamp is confirmed",
      () => stage.cluster.invariants.confirmedStamp(old.internal) > before,
      180_000,
    );
    stage.cut([stage.coordinator], [old.node]);
    stage.replaceDisk(old, copy);
    stage.start(old);
    stage.pass(3_000);
    stage.end();
  },

  "a log has lost its end": (seed) => {
    const stage = new Stage({ seed });
    stage.settle();
    stage.write(6);
    stage.pass(1_000);
    const [old] = stage.followers;
    stage.powerOff(old);
    // all rows of the open segment but the first: what follows nothing looks like a write that was never synced
    const newest = old.disk
      .names()
      .filter((name) => name.startsWith("log/segment-"))
      .sort()
      .at(-1)!;
    const { records } = old.disk.file(newest)!;
    stage.cluster.invariants.diskFault(old.internal, false);
    for (let nth = 1; nth < records.length; nth++) old.disk.flipBitAt(newest, nth);
    stage.start(old);
    stage.pass(2_000);
    stage.end();
  },

  "a log older than its state": (seed) => {
    const stage = new Stage({ seed, knobs: { flushCommits: 1 } });
    stage.settle();
    stage.write(3);
    stage.pass(500);
    const [old, other] = stage.followers;
    const copy = old.disk.copy();
    stage.write(4);
    stage.pass(500);
    const { leader } = stage;
    const { files } = old.disk.copy();
    const state = [...files].filter(([name]) => name.startsWith("kv/"));
    const mixed: DiskCopy = { files: new Map([...copy.files, ...state]) };
    stage.kill(leader, 5_000);
    stage.replaceDisk(old, mixed);
    stage.start(old);
    stage.pass(3_000);
    stage.expect("the other follower lives", stage.replica(other) !== undefined);
    stage.end();
  },

  "a state has lost its checkpoint": (seed) => {
    const stage = new Stage({ seed, knobs: { flushCommits: 1, segmentEntriesMax: 2 } });
    stage.settle();
    for (let nth = 0; nth < 4; nth++) {
      stage.write(3);
      stage.pass(500);
    }
    const [old] = stage.followers;
    const idOf = () => stage.stored.members.find(({ server }) => server === old.internal)?.replicaId;
    const before = idOf();
    stage.loseFiles(old, (name) => name.startsWith("kv/"));
    stage.start(old);
    stage.until("it is filled anew, under another id", () => idOf() !== undefined && idOf() !== before);
    stage.end();
  },

  "a follower is greeted while it takes a snapshot": (seed) => {
    const stage = new Stage({ seed, knobs: { flushCommits: 1, segmentEntriesMax: 2, logRetentionMs: 0 } });
    stage.settle();
    const [away] = stage.followers;
    stage.powerOff(away);
    for (let nth = 0; nth < 4; nth++) {
      stage.write(3);
      stage.pass(500);
    }
    // its coordinator is heard at some moment of what the snapshot has it do
    stage.cut([stage.coordinator], [away.node]);
    away.storage.rates = { ...away.storage.rates, sync: { minMs: 5, typicalMs: 30, maxMs: 100, tailChance: 0 } };
    stage.start(away);
    stage.pass(100 * (seed % 20));
    stage.join([stage.coordinator], [away.node]);
    stage.until("it follows", () => stage.replica(away)?.state.streaming === true);
    stage.end();
  },

  "a disk is lost between NewTerm and BecomeLeader": (seed) => {
    const stage = new Stage({ seed });
    const becoming = () =>
      stage.cluster.dataServers.find((one) => stage.replica(one)?.state.status === "becoming-leader");
    stage.until("a replica is to lead", () => becoming() !== undefined);
    const lost = becoming()!;
    const { peer } = lost;
    stage.expect("it serves its peers", peer !== undefined);
    stage.replaceDisk(lost);
    stage.start(lost);
    stage.until("it was greeted", () => lost.server?.instance !== undefined);
    // both come once more: the one makes an empty copy, the other finds it
    stage.call("NewTerm", () => lost.calls.again(lost.peer!, "newTerm"));
    stage.call("BecomeLeader", () => lost.calls.again(lost.peer!, "becomeLeader"));
    stage.end();
  },

  "a loss is accepted": (seed) => {
    const stage = new Stage({ seed });
    stage.settle();
    stage.write(3);
    const kept = stage.leader;
    const id = stage.stored.members.find(({ server }) => server === kept.internal)!.replicaId;
    for (const lost of stage.followers) stage.replaceDisk(lost);
    stage.pass(5_000);
    const { coordinator } = stage.cluster.coordinators[0]!;
    stage.cluster.invariants.changes.forget(PLACE.shard);
    const accepted = stage.call("the loss", () => coordinator!.acceptLoss(PLACE, [kept.internal]));
    stage.expect(`the loss was accepted: ${accepted}`, !(accepted instanceof Error));
    stage.cluster.invariants.changes.forget(PLACE.shard);
    const { members } = stage.stored;
    stage.expect(
      "the chosen replica has a new id",
      members.every(({ replicaId }) => replicaId !== id),
    );
    stage.end();
  },

  "a server alone starts again": (seed) => {
    const random = new SimRandom(seed);
    const scheduler = new Scheduler({ trace: new Trace({ seed, command: "bun run sim" }) });
    const node = new SimNode(scheduler, "alone");
    new Network(scheduler, random.split("network"), CALM).attach(node);
    const disk = new SimDisk(node, random.split("disk"));
    let term = -1;
    for (let start = 0; start < 3; start++) {
      const life = node.start();
      const led = scheduler.complete("alone", () => aloneOn(life, disk, random.split(life.name)));
      if (led <= term) throw new Violation("Story", `term ${led} is led again after ${term}`);
      term = led;
      node.end("power");
    }
  },

  "an id is minted between two words of an older disk": (seed) => {
    const stage = new Stage({ seed, dataServers: 4 });
    stage.settle();
    const { spare } = stage;
    const server = spare.server!;
    const held = spare.stamp!;
    // both words come while the log is slow: the second one is heard while the replica is made
    spare.disk.rates = { ...CALM_DISK, sync: { minMs: 100, typicalMs: 150, maxMs: 200, tailChance: 0 } };
    let minted: bigint | undefined;
    let isGreeted = false;
    const asked = { ...PLACE, term: 1, replicaId: 0n, countedTerm: -1, adopt: false, confirmedStamp: held + 10 };
    void server.newTerm({ ...asked, options: OPTIONS }).then(({ replicaId }) => {
      minted = replicaId;
    });
    const word = { instanceId: server.instance!, stamp: held + 30, confirmedStamp: held + 20 };
    void server.handshake(word).then(() => {
      isGreeted = true;
    });
    stage.until("both have their answers", () => minted !== undefined && isGreeted);
    stage.expect("the replica that was made behind the first word lives", stage.replica(spare)!.state.id === minted);
    spare.disk.rates = CALM_DISK;
    stage.end();
  },
};
