import { expect, test } from "bun:test";
import { EMPTY_HEAD, type EntryId } from "../../src/model/ids.ts";
import type { KeyValue } from "../../src/ports.ts";
import { addAll, contents, fill, open, PLACE, received, type Sent, sent } from "../contract/key-values.ts";
import { refusal } from "../contract/log.ts";
import { drawDiskRates, SimDisk } from "./disk.ts";
import { DiskKeyValues } from "./disk-key-values.ts";
import { type Ending, SimNode } from "./node.ts";
import { SimRandom } from "./random.ts";
import { Scheduler } from "./scheduler.ts";
import { Trace } from "./trace.ts";

class World {
  readonly scheduler: Scheduler;
  readonly node: SimNode;
  readonly disk: SimDisk;
  keyValues!: DiskKeyValues;

  constructor(seed: number) {
    this.scheduler = new Scheduler({ trace: new Trace({ seed }) });
    const random = new SimRandom(seed);
    this.node = new SimNode(this.scheduler, "n1");
    this.disk = new SimDisk(this.node, random.split("disk"), drawDiskRates(random.split("rates")));
    this.start();
  }

  start(): void {
    const life = this.node.start();
    this.keyValues = new DiskKeyValues({ life, disk: this.disk.mount(life), pieceBytesMax: 700 });
  }

  restart(how: Ending): void {
    this.node.end(how);
    this.start();
  }

  run<T>(flow: () => Promise<T>): T {
    return this.scheduler.complete("test", flow);
  }

  open(base: EntryId = EMPTY_HEAD): KeyValue {
    return this.run(() => open(this.keyValues, PLACE, base));
  }

  /** The shard with a few entries, flushed, and what another one is to send it. */
  prepare(): { readonly old: unknown; readonly fresh: unknown; readonly state: Sent } {
    return this.run(async () => {
      const other = await open(this.keyValues, { ...PLACE, shard: 9 });
      fill(other, 20);
      const state = await sent(other);
      const kv = await open(this.keyValues);
      fill(kv, 5);
      await kv.flush();
      return { old: contents(kv), fresh: contents(other), state };
    });
  }
}

test("whatever operation of the disk a crash meets, either state is there as a whole, the new one once it was complete", () => {
  const seen = new Set<string>();
  for (let seed = 0; seed < 400; seed++) {
    const world = new World(seed);
    const { old, fresh, state } = world.prepare();
    const progress = { complete: false, switched: false };
    world.disk.failAfter(1 + (seed % 40));
    world.scheduler.spawn(
      "transfer",
      async () => {
        const receiver = await received(world.keyValues, state);
        progress.complete = true;
        await receiver.switchTo();
        progress.switched = true;
      },
      world.node.life,
    );
    world.scheduler.run({
      untilMs: world.scheduler.nowMs + 60_000,
      until: () => world.node.life === undefined || progress.switched,
    });
    world.disk.failAfter();
    world.node.end("power");
    world.start();
    // the log begins with the new state as soon as it is complete
    const now = contents(world.open(progress.complete ? state.applied : EMPTY_HEAD));
    if (!progress.complete) expect(now).toEqual(old);
    else expect(now).toEqual(fresh);
    seen.add(JSON.stringify(progress));
    expect(world.disk.names().filter((name) => /incoming|received/.test(name))).toEqual([]);
  }
  expect(seen.size).toBe(3);
});

test("a crash while a state is removed leaves it whole or nothing of it, and what follows is whole", () => {
  const seen = new Set<boolean>();
  for (let seed = 0; seed < 60; seed++) {
    const world = new World(seed);
    const { old, fresh, state } = world.prepare();
    world.disk.failAfter(1 + (seed % 4));
    world.scheduler.spawn("remove", () => world.keyValues.remove(PLACE), world.node.life);
    world.scheduler.run({ untilMs: world.scheduler.nowMs + 60_000, until: () => world.node.life === undefined });
    world.disk.failAfter();
    world.restart("power");
    const kv = world.open();
    if (kv.applied.offset >= 0) expect(contents(kv)).toEqual(old);
    seen.add(kv.applied.offset >= 0);
    const now = world.run(async () => (await received(world.keyValues, state)).switchTo());
    expect(contents(now)).toEqual(fresh);
  }
  expect(seen.size).toBe(2);
});

test("a disk that fills up while a state is received refuses it, keeps the old one, and has its space back", () => {
  const world = new World(1);
  const { old, fresh, state } = world.prepare();
  const used = world.disk.usedBytes;
  for (const room of [0, 100, 1_000, 3_000]) {
    world.disk.limit(used + room);
    expect(world.run(() => refusal(received(world.keyValues, state)))).toBe("RESOURCE_EXHAUSTED");
    expect(world.disk.usedBytes).toBe(used);
  }
  world.disk.limit();
  world.restart("killed");
  expect(contents(world.open(state.applied))).toEqual(old);
  expect(contents(world.run(async () => (await received(world.keyValues, state)).switchTo()))).toEqual(fresh);
});

test("a received state with a flipped bit is not taken up", () => {
  const world = new World(1);
  const { old, state } = world.prepare();
  world.run(() => received(world.keyValues, state));
  world.node.end("killed");
  world.disk.flipBitAt("kv/shard-3.received", 0);
  world.start();
  expect(contents(world.open(state.applied))).toEqual(old);
});

test("a damaged state gives way to one that was received, and can be removed", () => {
  const world = new World(1);
  const { fresh, state } = world.prepare();
  world.run(() => received(world.keyValues, state));
  world.node.end("killed");
  world.disk.flipBitAt("kv/shard-3", 0);
  world.start();
  expect(contents(world.open(state.applied))).toEqual(fresh);
  world.node.end("killed");
  world.disk.flipBitAt("kv/shard-3", 0);
  world.start();
  expect(world.run(() => world.keyValues.open(PLACE, EMPTY_HEAD))).toMatchObject({ damage: { file: "kv/shard-3" } });
  world.run(() => world.keyValues.remove(PLACE));
  expect(world.open().rowCount).toBe(0);
});

test("an interrupted transfer is begun again from its first piece", () => {
  const world = new World(1);
  const { fresh, state } = world.prepare();
  world.run(async () => addAll(await world.keyValues.receive(PLACE), state.pieces.slice(0, 3)));
  const now = world.run(async () => (await received(world.keyValues, state)).switchTo());
  expect(contents(now)).toEqual(fresh);
});
