/**
 * The decisions of this folder played together against lost, late and repeated messages, crashes and lost disks
 * (test/harness/protocol-model/world.ts): nothing acknowledged is lost, and each rule that is taken away shows.
 *
 * One seed decides everything; a failure names it. `new World(seed, faults, plant, true)` keeps the trace.
 */
import { expect, test } from "bun:test";
import { type Faults, type Plant, type Tally, World } from "../../test/harness/protocol-model/world.ts";

const STEPS = 1200;
const SEEDS = 1000;
const SEEDS_TO_CATCH_MAX = 4000;

const FAULTS: Faults = {
  repeatOneIn: 10,
  loseOneIn: 12,
  crashesPercent: 0.5,
  disk: "lost",
  swaps: true,
  hasty: false,
  snapshots: false,
  lostCas: true,
  newShard: false,
};
/** Ensembles that change all the time. */
const HASTY: Faults = { ...FAULTS, hasty: true, disk: "kept", lostCas: false };
/** Processes that end all the time, messages that come twice. */
const CRASHES: Faults = { ...FAULTS, repeatOneIn: 2, crashesPercent: 3, disk: "kept" };
const NEW_SHARD: Faults = { ...FAULTS, newShard: true, swaps: false, repeatOneIn: 3, crashesPercent: 1 };
/** A disk comes back as an older copy of all of it, watermark included. */
const COPIED: Faults = { ...FAULTS, disk: "copied", repeatOneIn: 2, swaps: false };
const QUIET: Faults = { ...FAULTS, disk: "kept", lostCas: false, swaps: false, crashesPercent: 0 };

const WHATEVER: Readonly<Record<string, Faults>> = {
  "a lost disk": FAULTS,
  "a disk that is set back": { ...FAULTS, disk: "set back" },
  "a disk that comes back as an older copy": COPIED,
  "hasty changes, snapshots": { ...FAULTS, hasty: true, snapshots: true, repeatOneIn: 3 },
  "crashes, repeats": CRASHES,
  "a new shard": { ...NEW_SHARD, swaps: true },
  "hardly any fault": QUIET,
};

for (const [name, faults] of Object.entries(WHATEVER)) {
  test(`no violation: ${name}`, () => {
    const all: Tally = { elections: 0, swaps: 0, commits: 0, reads: 0, turned: 0, snapshots: 0, deletes: 0 };
    for (let seed = 0; seed < SEEDS; seed++) {
      const { violation, tally } = new World(seed, faults).run(STEPS);
      if (violation !== undefined) throw new Error(`seed ${seed}: ${violation}`);
      for (const key of Object.keys(all) as (keyof Tally)[]) all[key] += tally[key];
    }
    // What never happens proves nothing.
    expect(all.elections).toBeGreaterThan(SEEDS);
    expect(all.commits).toBeGreaterThan(SEEDS / 2);
    expect(all.reads).toBeGreaterThan(SEEDS / 10);
    expect(all.snapshots).toBeGreaterThan(0);
    if (faults.swaps && faults !== CRASHES) expect(all.swaps).toBeGreaterThan(SEEDS / 50);
    if (faults.hasty) expect(all.turned).toBeGreaterThan(0);
  });
}

/** What each rule prevents, with its seed in the model of safety.md, and the faults that show it soonest here. */
const PLANTED: Readonly<Record<Plant, readonly [story: string, faults: Faults]>> = {
  "votes by address": ["§1, seed 17: a server that lost its disk votes like an honest empty member", FAULTS],
  "ids stored with the result": ["§1: an empty slot is filled twice, by the lost copy and by the new one", NEW_SHARD],
  "older disk not noticed": ["§7, seed 199: a disk that was set back votes", { ...FAULTS, disk: "set back" }],
  "stamp not checked": ["§1: a disk comes back as an older copy, older than its confirmed stamp", COPIED],
  "promise not synced": ["§7, seed 4271: a dropped promise without an entry elects twice", CRASHES],
  "ensemble stored with the result": ["§2, seed 46: a change dies with its coordinator, two halves acknowledge", HASTY],
  "best head of the new ensemble only": ["§2, seed 1600: the only live copy sits where no candidate is", HASTY],
  "majority of the union": ["§2, seed 32: a majority of the union need not meet either ensemble's", HASTY],
  "change dropped, not turned round": ["§2, seed 3305: a change taken back without the joint rule", HASTY],
  "observer counts": ["§2: acks count over the stored members alone", FAULTS],
  "leads a term twice": ["§3, seed 171309: BecomeLeader repeated after a crash", { ...CRASHES, repeatOneIn: 3 }],
  "lost CAS reply taken for success": ["§3, seed 12: an election read back from the store is somebody else's", FAULTS],
  "head read before the barrier": ["§4, seed 10: an append that waits in the writer is acked after the fence", FAULTS],
  "commits earlier terms by counting": ["§5, seed 11951: Raft's figure 8", FAULTS],
  "commit told before the own-term entry": ["§5, seed 5081: the same hole, through the followers", FAULTS],
  "acks before fsync": ["§5: an ack means durable, a crash takes the rest", FAULTS],
  "held entry acked unread": ["§6: a longer log of an old term is acked and applied", FAULTS],
  "truncation trusted and entry before unchecked": [
    "§6, seed 42: a foreign tail under the leader's entries",
    { ...HASTY, hasty: false, crashesPercent: 1 },
  ],
  "applies what the log holds": ["§6: applied and acked beyond what this term's leader has verified", FAULTS],
  "read joins a round on its way": ["§8: the round was sent before the write was acknowledged", QUIET],
  "read without a round": ["§8: a deposed leader answers with an old value", FAULTS],
};

for (const [plant, [story, faults]] of Object.entries(PLANTED) as [Plant, readonly [string, Faults]][]) {
  test(`a planted violation shows: ${plant} (${story})`, () => {
    for (let seed = 0; seed < SEEDS_TO_CATCH_MAX; seed++) {
      if (new World(seed, faults, plant).run(STEPS).violation !== undefined) return;
    }
    throw new Error(`${plant}: not caught in ${SEEDS_TO_CATCH_MAX} seeds`);
  });
}

test("one seed decides everything", () => {
  const [one, two] = [0, 1].map(() => new World(7, FAULTS, undefined, true).run(STEPS));
  expect(one!.trace.length).toBeGreaterThan(10);
  expect(one!.trace).toEqual(two!.trace);
});
