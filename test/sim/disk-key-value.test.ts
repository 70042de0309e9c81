import { expect, test } from "bun:test";
import { text, utf8 } from "../../src/lib/bytes.ts";
import { keyOrder } from "../../src/model/keys.ts";
import { CALM_DISK, drawDiskRates, SimDisk } from "./disk.ts";
import { type DiskKeyValue, keyValueName, openDiskKeyValue } from "./disk-key-value.ts";
import { type Ending, SimNode } from "./node.ts";
import { SimRandom } from "./random.ts";
import { Scheduler } from "./scheduler.ts";
import { Trace } from "./trace.ts";

class World {
  readonly scheduler = new Scheduler({ trace: new Trace({ seed: 1 }) });
  readonly node = new SimNode(this.scheduler, "n1");
  readonly random: SimRandom;
  readonly disk: SimDisk;
  readonly flushCommits: number;
  state!: DiskKeyValue;

  constructor({ seed = 1, flushCommits = 1_000, calm = true } = {}) {
    this.random = new SimRandom(seed);
    const rates = calm ? CALM_DISK : drawDiskRates(this.random.split("rates"));
    this.disk = new SimDisk(this.node, this.random.split("disk"), rates);
    this.flushCommits = flushCommits;
    this.open();
  }

  open(): void {
    const life = this.node.start();
    const { flushCommits } = this;
    const options = { life, disk: this.disk.mount(life), shard: 3, order: keyOrder("natural"), flushCommits } as const;
    this.state = this.scheduler.complete("opens", () => openDiskKeyValue(options));
  }

  restart(how: Ending): void {
    this.node.end(how);
    this.open();
  }

  /** Entry `offset` puts the key of that number, and tells subscribers of it. */
  apply(offset: number): void {
    this.state.put(utf8(`key ${offset}`), utf8(`row ${offset}`));
    this.state.commit(
      { offset, term: 1, versionId: offset },
      { timestamp: 1_000 + offset, entries: utf8(`${offset}`) },
    );
  }

  flush(): void {
    this.scheduler.complete("flushes", () => this.state.flush());
  }
}

test("after a crash the state is that of the last flush, as a whole", () => {
  for (const how of ["killed", "power"] as const) {
    const world = new World();
    for (let offset = 0; offset < 5; offset++) world.apply(offset);
    const { stateHash } = world.state;
    world.flush();
    for (let offset = 5; offset < 9; offset++) world.apply(offset);
    world.state.put(utf8("not committed"), utf8(""));
    world.restart(how);
    expect(world.state.applied).toEqual({ offset: 4, term: 1, versionId: 4 });
    expect([world.state.rowCount, world.state.stateHash, world.state.flushed]).toEqual([5, stateHash, 4]);
    expect(text(world.state.get(utf8("key 4"))!)).toBe("row 4");
    expect(world.state.notifications(2).map(({ offset }) => offset)).toEqual([3, 4]);
    for (let offset = 5; offset < 9; offset++) world.apply(offset);
    world.flush();
    world.restart(how);
    expect(world.state.applied.offset).toBe(8);
  }
});

test("without a flush all is lost, and so is a file that was taken away", () => {
  const world = new World();
  world.apply(0);
  world.restart("power");
  expect(world.state.applied.offset).toBe(-1);
  world.apply(0);
  world.flush();
  world.node.end("killed");
  world.disk.lose(keyValueName(3));
  world.open();
  expect([world.state.applied.offset, world.state.rowCount, world.state.damage]).toEqual([-1, 0, undefined]);
});

test("a crash at any time leaves a flush done or undone, never below one that was completed", () => {
  const found = new Set<number>();
  for (let seed = 0; seed < 100; seed++) {
    const world = new World({ seed, calm: false, flushCommits: 4 });
    const random = world.random.split("test");
    let offset = -1;
    const work = async () => {
      for (;;) {
        await world.state.room();
        world.apply(++offset);
        await world.scheduler.sleep(random.between(0, 2));
      }
    };
    world.scheduler.spawn("work", work, world.node.life);
    world.scheduler.run({ untilMs: world.scheduler.nowMs + random.between(0, 100) });
    const before = { flushed: world.state.flushed, applied: world.state.applied.offset };
    world.restart("power");
    const { applied, rowCount, damage } = world.state;
    expect(damage).toBeUndefined();
    expect(applied.offset).toBeGreaterThanOrEqual(before.flushed);
    expect(applied.offset).toBeLessThanOrEqual(before.applied);
    expect(rowCount).toBe(applied.offset + 1);
    found.add(applied.offset - before.flushed);
  }
  expect(found.size).toBeGreaterThan(1);
});

test("a flipped bit is damage, and nothing of the state is there", () => {
  const world = new World();
  world.apply(0);
  world.flush();
  world.node.end("killed");
  world.disk.flipBitAt(keyValueName(3), 0);
  world.open();
  expect(world.state.damage).toMatchObject({ file: keyValueName(3) });
  expect(world.state.rowCount).toBe(0);
});

test("a full disk is told, does not hold up the end, and flushes go on once there is space", () => {
  const world = new World();
  world.disk.limit(10);
  world.apply(0);
  void world.state.flush();
  world.scheduler.run({ untilMs: 5_000 });
  expect(world.state.full).toBe(true);
  world.disk.limit();
  // nothing is committed while it is full: it finds out by itself
  world.scheduler.run({ untilMs: 7_000 });
  expect([world.state.full, world.state.flushed]).toEqual([false, 0]);
  world.disk.limit(10);
  world.apply(1);
  void world.state.flush();
  world.scheduler.run({ untilMs: 10_000 });
  world.scheduler.complete("closes", () => world.state.close());
  world.restart("killed");
  expect(world.state.applied.offset).toBe(0);
});

test("past its bound of commits it asks callers to wait for a flush", () => {
  const world = new World();
  for (let offset = 0; offset < 256; offset++) {
    expect(world.state.room()).toBeUndefined();
    world.apply(offset);
  }
  world.scheduler.complete("waits", () => world.state.room()!);
  expect([world.state.flushed, world.state.room()]).toEqual([255, undefined]);
});
