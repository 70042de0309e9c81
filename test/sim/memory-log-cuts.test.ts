/** Cuts, snapshots, adoptions and new lives of one replica on a simulated disk, with a crash anywhere: the log is as before a step or as behind it. */
import { expect, test } from "bun:test";
import { type Head, NO_OFFSET, type ReplicaId } from "../../src/model/ids.ts";
import type { ReplicaLife } from "../../src/ports.ts";
import { entry, life, readAll } from "../contract/log.ts";
import { SimDisk } from "./disk.ts";
import { type MemoryLog, openMemoryLog } from "./memory-log.ts";
import { SimNode } from "./node.ts";
import { SimRandom } from "./random.ts";
import { Scheduler } from "./scheduler.ts";
import { Trace } from "./trace.ts";

/** What the log of shard 0 should hold: an id, and terms from the entry behind `base` on. */
interface Model {
  readonly id: ReplicaId;
  readonly base: number;
  readonly terms: readonly number[];
}

function empty({ replicaId }: ReplicaLife): Model {
  return { id: replicaId, base: NO_OFFSET, terms: [] };
}

function cut({ id, base, terms }: Model, to: number): Model {
  return { id, base, terms: terms.slice(0, to - base) };
}

/** Where terms end, of a log that is read through. */
function termEnds({ base, terms }: Model) {
  return terms.flatMap((term, nth) => (terms[nth + 1] === term ? [] : [{ term, offset: base + 1 + nth }]));
}

test("whatever the crashes, a log is as before a cut or as behind it", () => {
  for (let seed = 0; seed < 60; seed++) {
    const scheduler = new Scheduler({ trace: new Trace({ seed }) });
    const random = new SimRandom(seed);
    const node = new SimNode(scheduler, "n1");
    const disk = new SimDisk(node, random.split("disk"));
    const script = random.split("script");
    const run = <T>(flow: () => Promise<T>): T => scheduler.complete("test", flow);
    const open = (): MemoryLog => {
      const life = node.start();
      const ports = { life, disk: disk.mount(life), random: random.split(`log ${life.number}`) };
      return run(() => openMemoryLog({ ...ports, retentionMs: 10_000, segmentEntriesMax: 5 }));
    };
    let log = open();
    const first = life();
    run(() => log.create(0, first));
    let term = 0;
    let model = empty(first);
    /** What it may be after a crash: more appends than were answered may have become durable. */
    let possible: Model[] = [model];
    const step = async () => {
      const head: Head = await log.promise(0, ++term);
      const size = model.terms.length;
      const to = model.base + script.int(0, size + 1);
      const pick = script.int(0, 12);
      if (pick < 5) {
        const entries = [1, 2, 3].map((n) => entry(term, head.offset + n));
        possible = [0, 1, 2, 3].map((n) => ({ ...model, terms: [...model.terms, ...new Array(n).fill(term)] }));
        await Promise.all(entries.map((one) => log.append(0, one, term)));
      } else if (pick < 8) {
        possible = [model, cut(model, to)];
        await log.truncate(0, { acceptedUnder: term, expectedHead: head, to });
      } else if (pick === 8) {
        const base = { term: term - 1, offset: head.offset + script.int(1, 5), crc: term };
        possible = [model, { ...model, base: base.offset, terms: [] }];
        await log.install(0, term, base);
      } else if (pick < 11) {
        const adopter = life(term);
        if (pick === 9) await log.end(0, "a test");
        possible = [model, { ...model, id: adopter.replicaId }];
        await log.adopt(0, adopter);
      } else {
        const next = life(term);
        possible = [model, empty(next)];
        await log.end(0, "a test");
        await log.remove(0);
        await log.create(0, next);
      }
      model = possible.at(-1)!;
      possible = [model];
    };
    const steps = async () => {
      for (let i = 0; i < 15; i++) await step();
    };
    for (let round = 0; round < 8; round++) {
      scheduler.spawn("steps", steps, node.life);
      scheduler.run({ untilMs: scheduler.nowMs + script.between(0, 150) });
      node.end(script.pick(["power", "power", "killed"] as const));
      log = open();
      let found = log.replicas()[0];
      const fresh = life(term);
      const isNew = possible.some((one) => one.base === NO_OFFSET && one.terms.length === 0);
      expect(found !== undefined || isNew).toBe(true);
      if (found !== undefined && found.ended !== "") {
        expect(found.ended).toBe("a test");
        if (script.chance(0.5)) {
          found = run(() => log.adopt(0, fresh));
          possible = possible.map((one) => ({ ...one, id: fresh.replicaId }));
        } else {
          run(() => log.remove(0));
          found = undefined;
        }
      }
      if (found === undefined) {
        found = run(() => log.create(0, fresh));
        possible = [empty(fresh)];
      }
      expect(found.damage).toBeUndefined();
      const entries = run(() => readAll(log, 0, found.base.offset + 1));
      const is = { id: found.replicaId, base: found.base.offset, terms: entries.map((one) => one.term) };
      expect(run(() => log.shape(0))).toEqual({ base: found.base, termEnds: termEnds(is) });
      expect(possible).toContainEqual(is);
      expect(found.head.offset).toBe(is.base + is.terms.length);
      model = is;
      possible = [model];
      term = Math.max(term, found.promise);
    }
  }
});
