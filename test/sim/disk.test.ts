import { expect, test } from "bun:test";
import { CALM_DISK, DiskFull, type DiskRates, drawDiskRates, type MountedDisk, SimDisk } from "./disk.ts";
import { SimNode } from "./node.ts";
import { SimRandom } from "./random.ts";
import { Scheduler } from "./scheduler.ts";
import { Trace } from "./trace.ts";

function makeDisk(seed = 1, rates: Partial<DiskRates> = {}) {
  const scheduler = new Scheduler({ trace: new Trace({ seed }) });
  const node = new SimNode(scheduler, "n1");
  const disk = new SimDisk(node, new SimRandom(seed), { ...CALM_DISK, ...rates });
  node.start();
  return {
    scheduler,
    node,
    disk,
    run: <T>(flow: (mounted: MountedDisk) => Promise<T>): T =>
      scheduler.complete("test", () => flow(disk.mount(node.life!))),
    restart(how: "killed" | "power") {
      node.end(how);
      node.start();
    },
  };
}

type Place = ReturnType<typeof makeDisk>;

const records = (...names: string[]) => names.map((record) => ({ record, bytes: 10 }));

/** The records of a file, bad ones with a `!`; undefined when there is no such file. */
function content({ run }: Place, name: string): string[] | undefined {
  return run((disk) => disk.read<string>(name))?.map(({ record, bad }) => (bad ? `${record}!` : record));
}

async function writeSynced(disk: MountedDisk, name: string, ...names: string[]): Promise<void> {
  await disk.write(name, records(...names));
  await disk.sync(name);
  await disk.syncNames();
}

test("a process that is killed loses nothing that it wrote", () => {
  const place = makeDisk();
  place.run((disk) => disk.write("f", records("a", "b")));
  place.restart("killed");
  expect(content(place, "f")).toEqual(["a", "b"]);
});

test("when the power goes, what was synced stays; of the rest a prefix, the next one perhaps torn", () => {
  const seen = new Set<string>();
  for (let seed = 0; seed < 300; seed++) {
    const place = makeDisk(seed);
    place.run(async (disk) => {
      await writeSynced(disk, "f", "a", "b");
      await disk.write("f", records("c", "d", "e"));
    });
    place.restart("power");
    seen.add(content(place, "f")!.join(""));
  }
  expect([...seen].sort()).toEqual(["ab", "abc", "abc!", "abcd", "abcd!", "abcde", "abcde!"].sort());
});

test("what is written while a sync runs is not covered by it", () => {
  const lengths = new Set<number>();
  for (let seed = 0; seed < 50; seed++) {
    const place = makeDisk(seed, { tornChance: 0 });
    place.run(async (disk) => {
      await writeSynced(disk, "f");
      await disk.write("f", records("a"));
      const synced = disk.sync("f");
      await disk.write("f", records("b"));
      await synced;
    });
    place.restart("power");
    lengths.add(content(place, "f")!.length);
  }
  expect([...lengths].sort()).toEqual([1, 2]);
});

test("a sync that the power cuts short has synced all, some or nothing, and never resolves", () => {
  const place = makeDisk();
  let resolved = false;
  place.run((disk) => writeSynced(disk, "f"));
  const disk = place.disk.mount(place.node.life!);
  place.scheduler.spawn("syncs", async () => {
    await disk.write("f", records("a"));
    await disk.sync("f");
    resolved = true;
  });
  place.scheduler.after(0.1, "power", () => place.restart("power"));
  place.scheduler.run();
  expect(resolved).toBe(false);
});

test("a name that was not synced may be gone with its file, and a removed one be back", () => {
  const seen = new Set<string>();
  for (let seed = 0; seed < 100; seed++) {
    const place = makeDisk(seed);
    place.run(async (disk) => {
      await writeSynced(disk, "old", "o");
      await disk.write("new", records("n"));
      await disk.sync("new");
      await disk.remove("old");
    });
    place.restart("power");
    seen.add(place.disk.names().join());
  }
  expect([...seen].sort()).toEqual(["", "new", "old", "old,new"]);
});

test("a replaced file is the old one or the new one, never a mixture", () => {
  const seen = new Set<string>();
  for (let seed = 0; seed < 200; seed++) {
    const place = makeDisk(seed);
    place.run((disk) => writeSynced(disk, "f", "old"));
    const disk = place.disk.mount(place.node.life!);
    place.scheduler.spawn("replaces", () => disk.replace("f", records("new", "newer")));
    place.scheduler.run({ untilMs: place.scheduler.nowMs + new SimRandom(seed).between(0, 6) });
    place.restart("power");
    seen.add(content(place, "f")!.join());
  }
  expect([...seen].sort()).toEqual(["new,newer", "old"]);
});

test("a wiped disk is empty; one that is set back holds what was durable when it was copied", () => {
  const place = makeDisk();
  place.run(async (disk) => {
    await writeSynced(disk, "f", "a");
    await disk.write("f", records("not synced"));
  });
  const copy = place.disk.copy();
  place.run((disk) => writeSynced(disk, "f", "b"));
  for (let round = 0; round < 2; round++) {
    place.node.end("power");
    place.disk.restore(copy);
    place.node.start();
    expect(content(place, "f")).toEqual(["a"]);
    place.run((disk) => writeSynced(disk, "f", "c"));
  }
  place.node.end("power");
  place.disk.wipe();
  place.node.start();
  expect(place.disk.names()).toEqual([]);
  expect(() => place.disk.wipe()).toThrow("under a running process");
});

test("a full disk takes nothing of what does not fit, and everything once there is space", () => {
  const place = makeDisk();
  place.disk.limit(35);
  const write = (...names: string[]) =>
    place.run((disk) =>
      disk.write("f", records(...names)).then(
        () => "written",
        (error) => (error as Error).name,
      ),
    );
  expect(write("a", "b")).toBe("written");
  expect(write("c", "d")).toBe(DiskFull.name);
  expect(write("c")).toBe("written");
  place.disk.limit();
  expect(write("d", "e")).toBe("written");
  expect(content(place, "f")).toEqual(["a", "b", "c", "d", "e"]);
});

test("EIO at the n-th operation ends the process: nothing more is done, nothing resolves", () => {
  for (const n of [1, 2, 3, 4]) {
    const place = makeDisk();
    let steps = 0;
    const disk = place.disk.mount(place.node.life!);
    place.disk.failAfter(n);
    place.scheduler.spawn("steps", async () => {
      await disk.write("f", records("a"));
      steps++;
      await disk.sync("f");
      steps++;
      await disk.read("f");
      steps++;
      await disk.write("f", records("b"));
      steps++;
    });
    place.scheduler.run();
    expect([steps, place.node.life]).toEqual([n - 1, undefined]);
    place.node.start();
    expect(content(place, "f")).toEqual(n === 1 ? undefined : ["a"]);
  }
});

test("after a sync that failed, the page cache vouches for what the disk does not hold, until it is written again", () => {
  for (const rewritten of [false, true]) {
    const place = makeDisk(1, { tornChance: 0 });
    place.run((disk) => writeSynced(disk, "f", "a"));
    place.disk.failAfter(2);
    place.scheduler.spawn("fails", () => writeSynced(place.disk.mount(place.node.life!), "f", "b"));
    place.scheduler.run();
    place.node.start();
    expect(content(place, "f")).toEqual(["a", "b"]);
    place.run(async (disk) => {
      if (rewritten) await disk.rewrite("f");
      await writeSynced(disk, "f", "c");
    });
    place.restart("power");
    expect(content(place, "f")).toEqual(rewritten ? ["a", "b", "c"] : ["a", "b!", "c"]);
  }
});

test("a flipped bit is found when the record is read, now or after a restart", () => {
  const place = makeDisk();
  place.run((disk) => writeSynced(disk, "f", "a", "b", "c"));
  place.run((disk) => writeSynced(disk, "g", "x"));
  expect(place.disk.flipBit((name) => name === "h")).toBeUndefined();
  const flipped = place.disk.flipBit((name) => name === "f")!;
  const expected = ["a", "b", "c"].map((name) => (name === flipped.record ? `${name}!` : name));
  expect(content(place, "f")).toEqual(expected);
  place.restart("power");
  expect(content(place, "f")).toEqual(expected);
});

test("syncs take as long as their rates say", () => {
  for (let seed = 0; seed < 20; seed++) {
    const rates = drawDiskRates(new SimRandom(seed));
    const place = makeDisk(seed, rates);
    place.run((disk) => disk.write("f", records("a")));
    for (let i = 0; i < 50; i++) {
      const before = place.scheduler.nowMs;
      place.run((disk) => disk.sync("f"));
      const took = place.scheduler.nowMs - before;
      expect(took).toBeGreaterThanOrEqual(rates.sync.minMs);
      expect(took).toBeLessThanOrEqual(rates.sync.maxMs + 0.002);
    }
  }
});
