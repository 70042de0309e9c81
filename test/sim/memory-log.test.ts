import { expect, test } from "bun:test";
import type { Head, LogEntry } from "../../src/model/ids.ts";
import { WATERMARK_LAG_MS_MAX } from "../../src/model/limits.ts";
import type { Refusal } from "../../src/model/refusal.ts";
import { entry, life } from "../contract/log.ts";
import { drawDiskRates, SimDisk } from "./disk.ts";
import { type MemoryLog, openMemoryLog } from "./memory-log.ts";
import { PROMISES, type PromisesRecord, segmentName, WATERMARK } from "./memory-log-files.ts";
import { type Ending, SimNode } from "./node.ts";
import { SimRandom } from "./random.ts";
import { Scheduler } from "./scheduler.ts";
import { Trace } from "./trace.ts";

const RETENTION_MS = 10_000;

class World {
  readonly scheduler: Scheduler;
  readonly node: SimNode;
  readonly disk: SimDisk;
  readonly random: SimRandom;
  log!: MemoryLog;

  constructor(seed = 1) {
    this.scheduler = new Scheduler({ trace: new Trace({ seed }) });
    this.random = new SimRandom(seed);
    this.node = new SimNode(this.scheduler, "n1");
    this.disk = new SimDisk(this.node, this.random.split("disk"), drawDiskRates(this.random.split("rates")));
    this.open();
  }

  open(): void {
    const life = this.node.start();
    const options = { life, disk: this.disk.mount(life), random: this.random.split(`log ${life.number}`) };
    this.log = this.run(() => openMemoryLog({ ...options, retentionMs: RETENTION_MS, segmentEntriesMax: 5 }));
  }

  restart(how: Ending): void {
    this.node.end(how);
    this.open();
  }

  run<T>(flow: () => Promise<T>): T {
    return this.scheduler.complete("test", flow);
  }

  /** A shard with entries 0 … count - 1 of one term. */
  shard(shard: number, term: number, count: number): void {
    this.run(async () => {
      await this.log.create(shard, life());
      await this.log.promise(shard, term);
      for (let offset = 0; offset < count; offset++) await this.log.append(shard, entry(term, offset));
    });
  }

  outcome(promise: () => Promise<unknown>): string {
    return this.run(() =>
      promise().then(
        () => "done",
        (error: Refusal) => error.reason,
      ),
    );
  }
}

async function readAll(log: MemoryLog, shard: number, from = 0): Promise<LogEntry[]> {
  const all: LogEntry[] = [];
  for (;;) {
    const some = await log.read(shard, from + all.length);
    if (some.length === 0) return all;
    all.push(...some);
  }
}

test("what waits while a sync runs is one group", () => {
  const world = new World();
  world.shard(0, 1, 0);
  world.run(() => Promise.all(Array.from({ length: 50 }, (_, offset) => world.log.append(0, entry(1, offset)))));
  expect(world.log.stats()).toMatchObject({ commits: 1, entriesAppended: 50 });
});

test("a promise is a barrier: what waits is committed before it and in its answer, or dropped", () => {
  const outcomes = new Set<string>();
  for (let seed = 0; seed < 30; seed++) {
    const world = new World(seed);
    world.shard(0, 1, 2);
    const appended = world.log.append(0, entry(1, 2)).then(
      () => "committed",
      (error: Refusal) => error.reason,
    );
    const head = world.run(() => world.log.promise(0, 2));
    outcomes.add(`${head.offset} ${world.run(() => appended)}`);
  }
  expect([...outcomes].sort()).toEqual(["1 RESOURCE_UNAVAILABLE", "2 committed"]);
});

test("whatever the crashes, nothing that was acknowledged is lost, and a crash alone is no damage", () => {
  const hashes = new Set<string>();
  for (let seed = 0; seed < 150; seed++) {
    const world = new World(seed);
    const random = world.random.split("script");
    const acked = new Map<number, { promise: number; led: number; head: number; written: number }>();
    for (let round = 0; round < 6; round++) {
      const work = async () => {
        for (const shard of [0, 1, 2]) {
          if (!acked.has(shard)) {
            if (!world.log.replicas().some((one) => one.shard === shard)) await world.log.create(shard, life());
            acked.set(shard, { promise: -1, led: -1, head: -1, written: -1 });
          }
        }
        for (let i = 0; i < 40; i++) {
          const shard = random.int(0, 3);
          const known = acked.get(shard)!;
          const pick = random.int(0, 10);
          if (pick === 0 || known.promise < 0) {
            await world.log.promise(shard, known.promise + 1);
            known.promise++;
          } else if (pick === 1) {
            await world.log.markLed(shard, known.promise).then(
              () => {
                known.led = known.promise;
              },
              () => {},
            );
          } else {
            const { head } = known;
            known.written = Math.max(known.written, head + 3);
            const ok = (offset: number) => () => {
              known.head = Math.max(known.head, offset);
            };
            const some = [1, 2, 3].map((n) =>
              world.log.append(shard, entry(known.promise, head + n, `${round}`)).then(ok(head + n), () => {}),
            );
            await Promise.all(some);
          }
          if (random.chance(0.2)) world.log.release(shard, known.head - random.int(0, 5));
        }
      };
      world.scheduler.spawn("work", work, world.node.life);
      world.scheduler.run({ untilMs: world.scheduler.nowMs + random.between(0, 300) });
      const before = world.log;
      world.restart(random.pick(["power", "power", "killed"] as const));
      expect(before).not.toBe(world.log);
      for (const replica of world.log.replicas()) {
        const known = acked.get(replica.shard);
        expect(replica.damage).toBeUndefined();
        if (known === undefined) continue;
        expect(replica.promise).toBeGreaterThanOrEqual(known.promise);
        expect(replica.led).toBeGreaterThanOrEqual(known.led);
        expect(replica.head.offset).toBeGreaterThanOrEqual(known.head);
        expect(replica.head.offset).toBeLessThanOrEqual(known.written);
        const read = readAll(world.log, replica.shard, replica.base.offset + 1);
        const last = world.run(() =>
          read.then(
            (entries) => entries.at(-1)?.offset ?? replica.base.offset,
            (error: Refusal) => error.reason, // trimmed since it was opened
          ),
        );
        expect(["FAILED_PRECONDITION", replica.head.offset]).toContain(last);
        Object.assign(known, { promise: replica.promise, led: replica.led, head: replica.head.offset });
        known.written = known.head;
      }
    }
    hashes.add(world.scheduler.trace.hash);
  }
  expect(hashes.size).toBe(150);
});

test("EIO at any operation ends the node; started again, also after a power cut, it has what was acknowledged or says that it is damaged", () => {
  let ended = 0;
  for (let n = 1; n <= 120; n++) {
    const world = new World(n);
    world.disk.failAfter(n);
    let head = -1;
    const work = async () => {
      await world.log.create(0, life());
      await world.log.promise(0, 1);
      for (let offset = 0; offset < 20; offset++) {
        await world.log.append(0, entry(1, offset));
        head = offset;
        if (offset % 5 === 4) await readAll(world.log, 0);
      }
    };
    world.scheduler.spawn("work", work, world.node.life);
    world.scheduler.run();
    if (world.node.life === undefined) {
      ended++;
      world.open();
    }
    world.disk.failAfter();
    world.restart("killed");
    expect(world.log.replicas()[0]?.head.offset ?? -1).toBeGreaterThanOrEqual(head);
    world.restart("power");
    const [replica] = world.log.replicas();
    expect(replica?.damage).toBeUndefined();
    expect(replica?.head.offset ?? -1).toBeGreaterThanOrEqual(head);
  }
  expect(ended).toBeGreaterThan(50);
});

test("a flipped bit is told as damage, refused when it is read, or without effect", () => {
  const told = { damaged: 0, refused: 0, without: 0 };
  for (let seed = 0; seed < 200; seed++) {
    const world = new World(seed);
    for (const shard of [0, 1]) world.shard(shard, 1, 12);
    world.log.release(0, 11);
    world.run(() => world.log.close());
    const before = world.log.replicas().map(({ replicaId }) => replicaId);
    world.node.end("power");
    world.disk.flipBit();
    world.open();
    for (const [nth, replica] of world.log.replicas().entries()) {
      const { shard, damage, head } = replica;
      if (damage !== undefined) {
        told.damaged++;
        expect(world.outcome(() => world.log.promise(shard, 2))).toBe("DATA_LOSS");
        expect(world.outcome(() => world.log.append(shard, entry(1, 12)))).toBe("NODE_IS_NOT_MEMBER");
        continue;
      }
      expect([replica.replicaId, replica.promise, head.offset]).toEqual([before[nth]!, 1, 11]);
      if (world.outcome(() => readAll(world.log, shard)) === "DATA_LOSS") told.refused++;
      else told.without++;
    }
    const damaged = world.log.replicas().map(({ damage }) => damage !== undefined);
    world.restart("power");
    expect(world.log.replicas().map(({ damage }) => damage !== undefined)).toEqual(damaged);
  }
  expect(told.damaged).toBeGreaterThan(50);
  expect(told.refused).toBeGreaterThan(5);
  expect(told.without).toBeGreaterThan(20);
});

test("damage in a closed segment ends the shards that need its rows, elsewhere all", () => {
  const damagedBy = (file: (name: string) => boolean): boolean[] => {
    const world = new World(3);
    world.shard(0, 1, 5); // fills segment 1
    world.shard(1, 1, 8); // fills segment 2, and three rows of segment 3
    world.log.release(1, 7);
    world.run(() => world.log.close());
    world.node.end("killed");
    expect(world.disk.flipBit(file)).toBeDefined();
    world.open();
    return world.log.replicas().map(({ damage }) => damage !== undefined);
  };
  expect(damagedBy((name) => name === segmentName(1))).toEqual([true, false]);
  expect(damagedBy((name) => name === segmentName(2))).toEqual([false, false]);
  expect(damagedBy((name) => name === segmentName(3))).toEqual([true, true]);
});

test("entries that are not all there are adopted by nobody, whether their id had ended before or ends by it", () => {
  for (const end of ["", "deleted"]) {
    for (const [file, refused] of [
      [segmentName(1), ["DATA_LOSS", "done"]],
      [segmentName(3), ["DATA_LOSS", "DATA_LOSS"]],
      [PROMISES, ["DATA_LOSS", "DATA_LOSS"]],
    ] as const) {
      const world = new World(3);
      world.shard(0, 1, 5); // fills segment 1
      world.shard(1, 1, 8); // fills segment 2, and three rows of segment 3
      if (end !== "") for (const shard of [0, 1]) world.run(() => world.log.end(shard, end));
      world.run(() => world.log.close());
      world.node.end("killed");
      world.disk.flipBitAt(file, 0);
      world.open();
      const outcomes = [0, 1].map((shard) => world.outcome(() => world.log.adopt(shard, life())));
      expect(`${end} ${file} ${outcomes}`).toBe(`${end} ${file} ${refused}`);
      world.restart("power");
      expect(world.outcome(() => world.log.adopt(0, life()))).toBe("DATA_LOSS");
    }
  }
});

test("damage that a read finds ends the ids that it concerns, before it is told", () => {
  for (const [file, nth, [shard, offset], ends] of [
    [segmentName(1), 2, [0, 2], [true, false]],
    [segmentName(2), 1, [1, 1], [false, false]], // its state has it in a checkpoint
    [segmentName(3), 1, [1, 6], [true, true]], // still written to
  ] as const) {
    const world = new World(3);
    world.shard(0, 1, 5); // fills segment 1
    world.shard(1, 1, 8); // fills segment 2, and three rows of segment 3
    world.log.release(1, 4);
    world.run(() => world.log.promise(1, 1)); // stores what was released
    world.disk.flipBitAt(file, nth);
    expect(world.outcome(() => world.log.at(shard, offset))).toBe("DATA_LOSS");
    const ended = () => world.log.replicas().map((one) => one.ended !== "");
    expect([file, ...ended()]).toEqual([file, ...ends]);
    world.restart("power");
    expect([file, ...ended()]).toEqual([file, ...ends]);
  }
});

test("a cut is forgotten once no segment is left that it cuts", () => {
  const world = new World();
  world.shard(0, 1, 12);
  let head = 11;
  for (let term = 2; term < 30; term++) {
    world.run(async () => {
      const expectedHead = await world.log.promise(0, term);
      await world.log.truncate(0, { acceptedUnder: term, expectedHead, to: head - 1 });
      for (let n = 0; n < 3; n++) await world.log.append(0, entry(term, head + n));
    });
    head += 2;
    world.log.release(0, head - 4);
    world.scheduler.run({ untilMs: world.scheduler.nowMs + RETENTION_MS });
  }
  world.restart("power");
  expect(world.log.replicas()[0]).toMatchObject({ head: { offset: head }, damage: undefined });
  const stored = world.run(() => world.disk.mount(world.node.life!).read<PromisesRecord>(PROMISES));
  expect(stored![0]!.record.replicas[0]!.cuts.length).toBeLessThan(5);
});

test("a file that is missing is damage", () => {
  for (const file of [WATERMARK, PROMISES, segmentName(1), segmentName(2), segmentName(3)]) {
    const world = new World(3);
    world.shard(0, 1, 12);
    world.run(() => world.log.close());
    world.node.end("killed");
    world.disk.lose(file);
    world.open();
    expect([file, world.log.replicas().map(({ damage }) => damage !== undefined)]).toEqual([file, [true]]);
  }
});

test("a wiped disk is a node without replicas; one that is set back is what it was, and cannot tell", () => {
  const world = new World();
  world.shard(0, 1, 3);
  world.scheduler.run();
  const copy = world.disk.copy();
  world.run(() => world.log.promise(0, 5));
  world.node.end("killed");
  world.disk.restore(copy);
  world.open();
  expect(world.log.replicas()).toMatchObject([{ promise: 1, head: { offset: 2 }, damage: undefined }]);
  world.node.end("killed");
  world.disk.wipe();
  world.open();
  expect(world.log.replicas()).toEqual([]);
});

test("on a full disk clients' entries are refused, terms and control entries go on, and all is well once there is space", () => {
  const world = new World();
  world.shard(0, 1, 3);
  world.scheduler.run();
  world.disk.limit(world.disk.usedBytes);
  expect(world.outcome(() => world.log.append(0, entry(1, 3)))).toBe("RESOURCE_EXHAUSTED");
  expect(world.run(() => world.log.promise(0, 2))).toMatchObject({ offset: 2 });
  const control: LogEntry = { term: 2, offset: 3, timestamp: 1, value: new Uint8Array([0x12, 0]) };
  expect(world.outcome(() => world.log.append(0, control))).toBe("done");
  world.restart("power");
  expect(world.log.replicas()).toMatchObject([{ promise: 2, head: { offset: 3 }, damage: undefined }]);
  world.disk.limit();
  expect(world.outcome(() => world.log.append(0, entry(2, 4)))).toBe("done");
});

test("segments that every state has in a checkpoint are trimmed once they are old", () => {
  const world = new World();
  world.shard(0, 1, 12);
  world.log.release(0, 8);
  world.scheduler.run({ untilMs: world.scheduler.nowMs + RETENTION_MS });
  world.log.release(0, 9);
  const baseOf = (log: MemoryLog): Head => log.replicas()[0]!.base;
  world.scheduler.run();
  expect(world.log.stats().segments).toBe(2); // the third one was closed for its age just now
  expect(world.outcome(() => world.log.read(0, 9))).toBe("FAILED_PRECONDITION");
  expect(world.run(() => readAll(world.log, 0, 10)).map(({ offset }) => offset)).toEqual([10, 11]);
  world.restart("power");
  expect(baseOf(world.log)).toMatchObject({ term: 1, offset: 9 });
  expect(world.run(() => readAll(world.log, 0, 10)).map(({ offset }) => offset)).toEqual([10, 11]);
  expect(world.outcome(() => world.log.append(0, entry(1, 12)))).toBe("done");
});

test("segments that were let go by a record which is gone are missing", () => {
  const world = new World();
  world.shard(0, 1, 11);
  world.log.release(0, 9);
  world.scheduler.run({ untilMs: world.scheduler.nowMs + RETENTION_MS });
  world.log.release(0, 10);
  world.scheduler.run({ untilMs: world.scheduler.nowMs + RETENTION_MS + 1 });
  world.log.release(0, 10);
  const promises = () => world.run(() => world.disk.mount(world.node.life!).read<PromisesRecord>(PROMISES));
  while (world.disk.names().includes(segmentName(3))) world.scheduler.run({ untilMs: world.scheduler.nowMs + 1 });
  const last = promises()!.length - 1;
  world.node.end("power");
  world.disk.flipBitAt(PROMISES, last);
  world.open();
  expect(world.log.replicas()).toMatchObject([{ damage: { file: PROMISES } }]);
});

test("the watermark follows within its bound: from then on a tail that is gone is damage", () => {
  const world = new World();
  world.shard(0, 1, 3);
  world.scheduler.run({ untilMs: world.scheduler.nowMs + WATERMARK_LAG_MS_MAX + 20_000 });
  world.node.end("killed");
  world.disk.flipBitAt(segmentName(1), 2);
  world.open();
  expect(world.log.replicas()[0]!.damage).toMatchObject({ what: expect.stringContaining("durable up to 2") });
});
