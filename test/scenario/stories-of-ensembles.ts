/** Stories of ensembles that change, and of the store that says so (safety.md §2, §9). */
import { shardKey } from "../../src/model/status-entries.ts";
import { PLACE, Stage } from "./stage.ts";
import type { Story } from "./stories.ts";

/** A swap of a follower up to the moment in which both ensembles are stored, with the cluster cut in two there. */
function cutInDoubt(seed: number) {
  const stage = new Stage({ seed, dataServers: 4 });
  stage.settle();
  stage.write(3);
  const { leader, spare } = stage;
  const [going, staying] = stage.followers;
  stage.askSwap(going, spare);
  stage.until("both ensembles are stored", () => stage.stored.formerMembers.length > 0);
  const left = [leader.node, going.node];
  const right = [staying.node, spare.node, stage.coordinator, stage.cluster.store];
  stage.cut(left, right);
  return { stage, leader, going, staying, spare, left, right };
}

/** The store holds the shard as a coordinator of Oxia has left it, adopted in its present term: without replica ids. */
function forgetIds({ cluster, stored }: Stage): void {
  const { version, entries } = cluster.metadata.state();
  const key = shardKey(PLACE.namespace, PLACE.shard);
  const document = JSON.parse(entries.get(key)!);
  const ensemble = document.ensemble.map((member: object) => ({
    ...member,
    replicaId: "0",
    mintedTerm: undefined,
    countedTerm: undefined,
  }));
  cluster.invariants.changes.forget(PLACE.shard);
  const adopted = JSON.stringify({ ...document, ensemble, adoptedTerm: String(stored.term) });
  cluster.metadata.swap({ expected: version, changes: new Map([[key, adopted]]) });
}

export const ensembles: Readonly<Record<string, Story>> = {
  "an election in the middle of a change": (seed) => {
    const { stage, leader, left, right } = cutInDoubt(seed);
    const { terms } = stage;
    // the freeze lapses, and the old leader goes on with most of the old ensemble
    stage.pass(3_500);
    stage.write(2, leader);
    stage.pass(10_000);
    stage.expect("nobody was elected without a majority of the old ensemble", stage.terms === terms);
    stage.join(left, right);
    stage.end();
  },

  "the best head sits with the member that goes": (seed) => {
    const { stage, leader, going, left, right } = cutInDoubt(seed);
    stage.pass(3_500);
    stage.write(2, leader);
    stage.powerOff(leader);
    stage.join(left, right);
    stage.expect("it is there", stage.replica(going) !== undefined);
    stage.pass(20_000);
    stage.end();
  },

  "an election while a lost member is filled anew": (seed) => {
    const stage = new Stage({ seed });
    stage.settle();
    stage.write(3);
    const { leader } = stage;
    const [lost] = stage.followers;
    stage.replaceDisk(lost);
    stage.start(lost);
    stage.until("both ensembles are stored", () => stage.stored.formerMembers.length > 0);
    const others = [...stage.nodesBut(leader), stage.cluster.store];
    stage.cut([leader.node], others);
    const { terms } = stage;
    // of the old ensemble one member is there; the new copy at the lost one's address is none of it
    stage.pass(10_000);
    stage.expect("nobody was elected without a majority of the old ensemble", stage.terms === terms);
    stage.join([leader.node], others);
    stage.end();
  },

  "a new member is away when a change ends": (seed) => {
    const { stage, going, spare, left, right } = cutInDoubt(seed);
    stage.powerOff(spare);
    stage.join(left, right);
    stage.until("the change is over", () => stage.stored.formerMembers.length === 0);
    stage.write(2);
    stage.pass(10_000);
    stage.expect("the removed copy is kept", (stage.replica(going)?.state.id ?? 0n) !== 0n);
    stage.start(spare);
    stage.end();
    stage.until("the removed copy is deleted", () => (stage.replica(going)?.state.id ?? 0n) === 0n);
  },

  "a removed copy's server is away": (seed) => {
    const { stage, going, left, right } = cutInDoubt(seed);
    stage.powerOff(going);
    stage.join(left, right);
    stage.until("the change is over", () => stage.stored.formerMembers.length === 0);
    stage.write(2);
    stage.pass(10_000);
    stage.start(going);
    stage.end();
    stage.until("the removed copy is deleted", () => (stage.replica(going)?.state.id ?? 0n) === 0n);
  },

  "a swap under load, with a slow follower": (seed) => {
    const stage = new Stage({ seed, dataServers: 4 });
    stage.settle();
    const { leader, spare } = stage;
    const [going, staying] = stage.followers;
    stage.cluster.network.slow(leader.node, staying.node, 100);
    stage.askSwap(going, spare);
    for (let write = 0; write < 400 && stage.stored.formerMembers.length === 0; write++) {
      stage.offer(leader);
      stage.pass(2);
    }
    stage.until("both ensembles are stored, or the change is over", () => stage.stored.term > 0);
    stage.end();
  },

  "DeleteShard comes once more, behind a new copy": (seed) => {
    const stage = new Stage({ seed, dataServers: 4 });
    stage.settle();
    stage.write(2);
    const { spare } = stage;
    const [going] = stage.followers;
    stage.askSwap(going, spare);
    const lives = () => (stage.replica(going)?.state.id ?? 0n) !== 0n;
    stage.until("the copy is deleted", () => !lives());
    stage.settle();
    stage.askSwap(spare, going);
    stage.until("another copy is there", lives);
    stage.call("DeleteShard", () => going.calls.again(going.peer!, "deleteShard"));
    stage.end();
  },

  "a member of an adopted shard has lost its disk": (seed) => {
    const stage = new Stage({ seed });
    stage.settle();
    const { leader } = stage;
    const [wiped, behind] = stage.followers;
    stage.cut([behind.node], [leader.node, wiped.node]);
    stage.write(3);
    stage.kill(stage.cluster.coordinators[0]!, 2_000);
    forgetIds(stage);
    stage.powerOff(leader);
    stage.replaceDisk(wiped);
    stage.start(wiped);
    stage.join([behind.node], [leader.node, wiped.node]);
    const { terms } = stage;
    stage.pass(15_000);
    stage.expect("nobody was elected by an empty disk", stage.terms === terms);
    stage.start(leader);
    stage.end();
  },

  "the store comes back as an older one": (seed) => {
    const stage = new Stage({ seed });
    const { cluster } = stage;
    stage.settle();
    stage.write(2);
    const { entries } = cluster.metadata.state();
    for (let elections = 0; elections < 3; elections++) {
      const { term } = stage.stored;
      stage.kill(stage.leader, 100);
      stage.untilLedAfter(term);
      stage.settle();
      stage.write(1);
    }
    stage.kill(cluster.coordinators[0]!, 1_000);
    cluster.invariants.changes.forget(0);
    const { version, entries: now } = cluster.metadata.state();
    const changes = new Map<string, string | undefined>([...now.keys()].map((key) => [key, entries.get(key)]));
    cluster.metadata.swap({ expected: version, changes });
    const { terms } = stage;
    stage.pass(30_000);
    stage.expect("no election was held on a store that has gone back", stage.terms === terms);
  },
};
