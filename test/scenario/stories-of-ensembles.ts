/** Stories of ensembles that change, and of the store that says so (safety.md §2, §9). */
import { Stage } from "./stage.ts";
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

  "a change is turned round": (seed) => {
    const { stage, leader, going, left, right, spare } = cutInDoubt(seed);
    stage.powerOff(spare);
    stage.powerOff(leader);
    stage.join(left, right);
    stage.pass(30_000);
    stage.expect("the member that goes is there", stage.replica(going) !== undefined);
    stage.end();
  },

  "DeleteShard comes once more, behind a new copy": (seed) => {
    const stage = new Stage({ seed, dataServers: 4 });
    stage.settle();
    stage.write(2);
    const { spare } = stage;
    const [going] = stage.followers;
    stage.askSwap(going, spare);
    stage.until(
      "the copy is deleted",
      () => stage.replica(going)?.state.id === 0n || stage.replica(going) === undefined,
    );
    stage.settle();
    stage.askSwap(spare, going);
    const isBack = () => stage.stored.members.some(({ server }) => server === going.internal);
    stage.until("it is a member again", isBack);
    stage.settle();
    stage.call("DeleteShard", () => going.calls.again(going.peer!, "deleteShard"));
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
