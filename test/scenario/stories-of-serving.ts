/** Stories of votes, fences, first entries of terms, and of leaders that do not know yet that they are none (safety.md §1, §4, §5, §8). */
import { EMPTY_BYTES } from "../../src/lib/bytes.ts";
import { CALM_DISK } from "../sim/disk.ts";
import { PROMISES } from "../sim/memory-log-files.ts";
import { Stage } from "./stage.ts";
import type { Story } from "./stories.ts";

/** A leader that only clients still reach, while its successor has answered a write. */
function deposed(stage: Stage) {
  const old = stage.leader;
  const { term } = stage.stored;
  const leader = stage.replica(old)!.serving!;
  const others = [...stage.nodesBut(old), stage.cluster.store];
  stage.cut([old.node], others);
  stage.untilLedAfter(term);
  stage.write(1);
  return { old, leader, rejoin: () => stage.join([old.node], others) };
}

export const serving: Readonly<Record<string, Story>> = {
  "a server that lost its disk answers like an honest empty member": (seed) => {
    const stage = new Stage({ seed });
    stage.settle();
    const { leader } = stage;
    const [wiped, behind] = stage.followers;
    stage.cut([behind.node], [leader.node, wiped.node]);
    stage.write(3);
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

  "an append waits in the log while NewTerm comes": (seed) => {
    const stage = new Stage({ seed });
    stage.settle();
    stage.write(2);
    const { leader } = stage;
    const { term } = stage.stored;
    for (const { disk } of stage.followers) {
      disk.rates = { ...CALM_DISK, sync: { minMs: 100, typicalMs: 200, maxMs: 200, tailChance: 0 } };
    }
    // it goes on writing while its successor is elected
    const coordinator = [stage.coordinator, stage.cluster.store];
    stage.cut([leader.node], coordinator);
    const isSucceeded = () => stage.stored.term > term && stage.stored.leader !== undefined;
    for (let write = 0; write < 1_000 && !isSucceeded(); write++) {
      if (stage.replica(leader)?.serving?.serving === true) stage.offer(leader);
      stage.pass(10);
    }
    stage.join([leader.node], coordinator);
    stage.end();
  },

  "a promise is dropped without an entry": (seed) => {
    const stage = new Stage({ seed });
    stage.settle();
    stage.pass(1_000);
    const [dropped, other] = stage.followers;
    const { leader } = stage;
    const { term } = stage.stored;
    // its coordinator reaches it, and no leader
    stage.cut([dropped.node], [leader.node, other.node]);
    stage.kill(leader, 500);
    stage.untilLedAfter(term);
    stage.expect("it has promised the new term", stage.replica(dropped)!.state.promise > term);
    stage.powerOff(dropped);
    stage.cluster.invariants.diskFault(dropped.internal, false);
    const { records } = dropped.disk.file(PROMISES)!;
    dropped.disk.flipBitAt(PROMISES, records.length - 1);
    stage.join([dropped.node], [leader.node, other.node]);
    stage.start(dropped);
    stage.pass(2_000);
    stage.end();
  },

  "a member reaches the coordinator and no peer": (seed) => {
    const stage = new Stage({ seed });
    stage.settle();
    stage.write(2);
    stage.settle();
    const [alone] = stage.followers;
    const others = stage.cluster.dataServers.filter((machine) => machine !== alone).map(({ node }) => node);
    stage.cut([alone.node], others);
    // whoever leads fails time and again: the other two always find together
    for (let elections = 0; elections < 4; elections++) {
      const { term } = stage.stored;
      stage.kill(stage.leader, 500);
      const isLed = () => stage.stored.term > term && stage.stored.leader !== undefined;
      stage.until("the other two elect one of them", isLed, 25_000);
      stage.write(1);
    }
    stage.end();
  },

  "a leader reaches the coordinator and no peer": (seed) => {
    const stage = new Stage({ seed });
    stage.settle();
    stage.write(2);
    stage.settle();
    const nodes = stage.cluster.dataServers.map(({ node }) => node);
    const heads = () => stage.cluster.dataServers.map((machine) => stage.replica(machine)?.state.head.offset);
    const before = heads();
    for (const node of nodes) {
      stage.cut(
        [node],
        nodes.filter((other) => other !== node),
      );
    }
    stage.kill(stage.leader, 500);
    stage.pass(30_000);
    stage.expect(
      "no log has grown",
      heads().every((head, nth) => head === before[nth]),
    );
    stage.end();
  },

  "a deposed leader is asked for a value": (seed) => {
    const stage = new Stage({ seed });
    stage.settle();
    stage.write(2);
    const { leader, rejoin } = deposed(stage);
    let isConfirmed = false;
    const confirmed = () => {
      isConfirmed = true;
    };
    try {
      const round = leader.confirmRead();
      if (round === undefined) confirmed();
      else round.then(confirmed, () => {});
    } catch {
      // it knows that it hears from nobody
    }
    stage.pass(20_000);
    stage.expect("a deposed leader answers no read", !isConfirmed);
    rejoin();
    stage.end();
  },

  "a leader that one of five follows is asked for a value": (seed) => {
    const stage = new Stage({ seed, dataServers: 5, replicationFactor: 5 });
    stage.settle();
    stage.write(2);
    const old = stage.leader;
    const { term } = stage.stored;
    const leader = stage.replica(old)!.serving!;
    const [follower] = stage.followers;
    const left = [old.node, follower.node];
    const right = [...stage.nodesBut(old, follower), stage.cluster.store];
    stage.cut(left, right);
    stage.untilLedAfter(term);
    stage.write(1);
    let isConfirmed = false;
    const confirmed = () => {
      isConfirmed = true;
    };
    try {
      leader.confirmRead()?.then(confirmed, () => {});
    } catch {
      // it knows that it hears from too few
    }
    stage.pass(20_000);
    stage.expect("one answer of five confirms no read", !isConfirmed);
    stage.join(left, right);
    stage.end();
  },

  "a heartbeat meets the end of its session": (seed) => {
    const stage = new Stage({ seed });
    stage.settle();
    const old = stage.leader;
    const leader = stage.replica(old)!.serving!;
    const id = stage.call("a session", () => leader.createSession(500, EMPTY_BYTES)) as number;
    const others = stage.followers.map(({ node }) => node);
    // its end is proposed, and cannot be committed yet
    stage.cut([old.node], others);
    stage.pass(1_500);
    let isConfirmed = false;
    leader.keepAlive(id)?.then(
      () => {
        isConfirmed = true;
      },
      () => {},
    );
    stage.join([old.node], others);
    stage.pass(300);
    stage.expect("a session whose heartbeat was answered lives", !isConfirmed || leader.sessionCount === 1);
    stage.end();
  },

  "a deposed leader is sent a heartbeat": (seed) => {
    const stage = new Stage({ seed });
    stage.settle();
    const first = stage.leader;
    const id = stage.call("a session", () =>
      stage.replica(first)!.serving!.createSession(10_000, EMPTY_BYTES),
    ) as number;
    const { leader, rejoin } = deposed(stage);
    let isConfirmed = false;
    const confirmed = () => {
      isConfirmed = true;
    };
    try {
      const round = leader.keepAlive(id);
      if (round === undefined) confirmed();
      else round.then(confirmed, () => {});
    } catch {
      // it knows that it hears from nobody
    }
    stage.pass(9_000);
    stage.expect("a deposed leader answers no heartbeat", !isConfirmed);
    rejoin();
    stage.end();
  },
};
