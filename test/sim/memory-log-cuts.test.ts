/** Cuts, snapshots and new lives of one replica on a simulated disk, with a crash anywhere: the log is as before a step or as behind it. */
import { expect, test } from "bun:test";
import { type Head, NO_OFFSET } from "../../src/model/ids.ts";
import { entry, life, readAll } from "../contract/log.ts";
import { SimDisk } from "./disk.ts";
import { type MemoryLog, openMemoryLog } from "./memory-log.ts";
import { SimNode } from "./node.ts";
import { SimRandom } from "./random.ts";
import { Scheduler } from "./scheduler.ts";
import { Trace } from "./trace.ts";

/** What the log of shard 0 should hold: terms from the entry behind `base` on. */
interface Model {
  readonly base: number;
  readonly terms: readonly number[];
}

const EMPTY: Model = { base: NO_OFFSET, terms: [] };

function cut({ base, terms }: Model, to: number): Model {
  return { base, terms: terms.slice(0, to - base) };
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
    run(() => log.create(0, life()));
    let term = 0;
    let model = EMPTY;
    /** What it may be after a crash: more appends than were answered may have become durable. */
    let possible: Model[] = [model];
    const step = async () => {
      const head: Head = await log.promise(0, ++term);
      const size = model.terms.length;
      const to = model.base + script.int(0, size + 1);
      const pick = script.int(0, 10);
      if (pick < 5) {
        const entries = [1, 2, 3].map((n) => entry(term, head.offset + n));
        possible = [0, 1, 2, 3].map((n) => ({ ...model, terms: [...model.terms, ...new Array(n).fill(term)] }));
        await Promise.all(entries.map((one) => log.append(0, one, term)));
      } else if (pick < 8) {
        possible = [model, cut(model, to)];
        await log.truncate(0, { acceptedUnder: term, expectedHead: head, to });
      } else if (pick === 8) {
        const base = { term: term - 1, offset: head.offset + script.int(1, 5), crc: term };
        possible = [model, { base: base.offset, terms: [] }];
        await log.install(0, term, base);
      } else {
        possible = [model, EMPTY];
        await log.end(0, "a test");
        await log.remove(0);
        await log.create(0, life());
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
      if (found !== undefined && found.ended !== "") {
        expect(found.ended).toBe("a test");
        run(() => log.remove(0));
        found = undefined;
      }
      found ??= run(() => log.create(0, life()));
      expect(found.damage).toBeUndefined();
      const entries = run(() => readAll(log, 0, found.base.offset + 1));
      const is = { base: found.base.offset, terms: entries.map((one) => one.term) };
      expect(possible).toContainEqual(is);
      expect(found.head.offset).toBe(is.base + is.terms.length);
      model = is;
      possible = [model];
      term = Math.max(term, found.promise);
    }
  }
});
