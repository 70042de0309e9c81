/** What every adapter of the MetadataStore port must do, whatever it keeps its entries in. */
import { expect, test } from "bun:test";
import { METADATA_BYTES_MAX } from "../../src/model/limits.ts";
import { CLUSTER_KEY, shardKey } from "../../src/model/status-entries.ts";
import { type MetadataStore, NO_METADATA_VERSION, type SwapAnswer } from "../../src/ports.ts";

/** A place where a store lives: opened again, it holds what was stored. */
export interface MetadataPlace {
  open(): MetadataStore;
  /** Ends the store as a crash of its process would: nothing is closed in order, its hold is gone. */
  crash(store: MetadataStore): void | Promise<void>;
}

export const CLUSTER = JSON.stringify({ instanceId: "one", namespaces: { default: { replicationFactor: 3 } } });

export function shard(term: number, more = ""): string {
  return JSON.stringify({ status: "SteadyState", term: String(term), more });
}

const SHARD_0 = shardKey("default", 0);
const SHARD_1 = shardKey("default", 1);

export function changes(...entries: [string, string | undefined][]): Map<string, string | undefined> {
  return new Map(entries);
}

/** The version that a swap stored; fails the test when it did not. */
export function stored(answer: SwapAnswer): number {
  if (answer.outcome !== "stored") throw new Error(`not stored but ${JSON.stringify(answer)}`);
  return answer.version;
}

/** What stands, with its texts parsed: an adapter may write the same JSON in other words. */
export async function parsed(store: MetadataStore): Promise<Record<string, unknown>> {
  const { entries } = await store.get();
  return Object.fromEntries([...entries].map(([key, text]) => [key, JSON.parse(text)]));
}

function reasonOf(error: { reason?: string; name: string }): string {
  return error.reason ?? error.name;
}

/** Runs the contract on stores that `place` makes, one a test. */
export function metadataStoreContract(name: string, place: () => MetadataPlace): void {
  const contract = (words: string, run: (at: MetadataPlace) => Promise<void>) =>
    test(`${name}: ${words}`, () => run(place()));

  contract("a new store is empty, and says so again when it is opened again", async (at) => {
    for (let round = 0; round < 2; round++) {
      const store = at.open();
      expect(await store.get()).toEqual({ version: NO_METADATA_VERSION, entries: new Map() });
      await store.close();
    }
  });

  contract("a change names entries; the others stay", async (at) => {
    let store = at.open();
    let version = stored(
      await store.compareAndSwap(
        NO_METADATA_VERSION,
        changes([CLUSTER_KEY, CLUSTER], [SHARD_0, shard(1)], [SHARD_1, shard(1)]),
      ),
    );
    version = stored(await store.compareAndSwap(version, changes([SHARD_1, shard(2)])));
    for (let round = 0; round < 2; round++) {
      expect(await parsed(store)).toEqual({
        [CLUSTER_KEY]: JSON.parse(CLUSTER),
        [SHARD_0]: JSON.parse(shard(1)),
        [SHARD_1]: JSON.parse(shard(2)),
      });
      expect((await store.get()).version).toBe(version);
      await store.close();
      store = at.open();
    }
    version = stored(
      await store.compareAndSwap(version, changes([SHARD_0, undefined], ["shard/7/default", undefined])),
    );
    await store.close();
    store = at.open();
    expect(Object.keys(await parsed(store)).sort()).toEqual([CLUSTER_KEY, SHARD_1].sort());
    await store.close();
  });

  contract("another version than the one that stands is a conflict, and changes nothing", async (at) => {
    const store = at.open();
    const first = stored(await store.compareAndSwap(NO_METADATA_VERSION, changes([CLUSTER_KEY, CLUSTER])));
    const before = await store.get();
    for (const wrong of [NO_METADATA_VERSION, first - 1, first + 1, 0.5]) {
      const answer = await store.compareAndSwap(wrong, changes([CLUSTER_KEY, "{}"]));
      expect(answer).toEqual({ outcome: "conflict", version: first });
    }
    expect(await store.get()).toEqual(before);
    await store.close();
  });

  contract("of changes that race for a version one is stored, the first", async (at) => {
    const store = at.open();
    let version = stored(await store.compareAndSwap(NO_METADATA_VERSION, changes([CLUSTER_KEY, CLUSTER])));
    for (let round = 0; round < 3; round++) {
      const racing = [0, 1, 2, 3].map((n) => store.compareAndSwap(version, changes([SHARD_0, shard(10 * round + n)])));
      const answers = await Promise.all(racing);
      expect(answers.map(({ outcome }) => outcome)).toEqual(["stored", "conflict", "conflict", "conflict"]);
      version = stored(answers[0]!);
      expect(answers.slice(1)).toEqual(Array(3).fill({ outcome: "conflict", version }));
      expect((await parsed(store))[SHARD_0]).toEqual(JSON.parse(shard(10 * round)));
    }
    await store.close();
  });

  contract("versions rise, over restarts, crashes, and when everything is deleted", async (at) => {
    const versions: number[] = [];
    let expected = NO_METADATA_VERSION;
    for (let round = 0; round < 4; round++) {
      const store = at.open();
      expect(await store.get()).toEqual({ version: expected, entries: new Map() });
      for (const text of [CLUSTER, undefined]) {
        expected = stored(await store.compareAndSwap(expected, changes([CLUSTER_KEY, text])));
        versions.push(expected);
      }
      if (round % 2 === 0) await store.close();
      else await at.crash(store);
    }
    expect(versions).toEqual([...new Set(versions)].sort((a, b) => a - b));
    expect(versions[0]!).toBeGreaterThan(NO_METADATA_VERSION);
  });

  contract("what was stored stands after a crash", async (at) => {
    let store = at.open();
    const version = stored(await store.compareAndSwap(NO_METADATA_VERSION, changes([CLUSTER_KEY, CLUSTER])));
    const last = stored(await store.compareAndSwap(version, changes([SHARD_0, shard(5)])));
    await at.crash(store);
    store = at.open();
    expect((await store.get()).version).toBe(last);
    expect((await parsed(store))[SHARD_0]).toEqual(JSON.parse(shard(5)));
    await store.close();
  });

  contract("what a reader got does not change under it, nor what it makes of it", async (at) => {
    const store = at.open();
    const version = stored(await store.compareAndSwap(NO_METADATA_VERSION, changes([CLUSTER_KEY, CLUSTER])));
    const before = await store.get();
    (before.entries as Map<string, string>).set(SHARD_1, "{}");
    await store.compareAndSwap(version, changes([SHARD_0, shard(1)]));
    expect([...before.entries.keys()]).toEqual([CLUSTER_KEY, SHARD_1]);
    expect([...(await store.get()).entries.keys()].sort()).toEqual([CLUSTER_KEY, SHARD_0].sort());
    await store.close();
  });

  contract("a large document is stored whole; past the bound it is refused, and nothing is changed", async (at) => {
    let store = at.open();
    const large = shard(1, "x".repeat(METADATA_BYTES_MAX / 2));
    const version = stored(
      await store.compareAndSwap(NO_METADATA_VERSION, changes([CLUSTER_KEY, CLUSTER], [SHARD_0, large])),
    );
    const refused = await store.compareAndSwap(version, changes([SHARD_1, large])).catch(reasonOf);
    expect(refused).toBe("RESOURCE_EXHAUSTED");
    const next = stored(await store.compareAndSwap(version, changes([SHARD_0, undefined], [SHARD_1, large])));
    await store.close();
    store = at.open();
    expect((await store.get()).version).toBe(next);
    expect(await parsed(store)).toEqual({ [CLUSTER_KEY]: JSON.parse(CLUSTER), [SHARD_1]: JSON.parse(large) });
    await store.close();
  });

  contract("keys and texts may hold any characters", async (at) => {
    let store = at.open();
    const namespaces = ["a/b", "ключ 🔑", "__proto__", 'quote" \n # : -', ""];
    const cluster = `{"namespaces":{${namespaces.map((name) => `${JSON.stringify(name)}:{}`).join(",")}}}`;
    const entries = namespaces.map((name, id): [string, string] => [shardKey(name, id), shard(id, `${name}\u0000`)]);
    stored(await store.compareAndSwap(NO_METADATA_VERSION, changes([CLUSTER_KEY, cluster], ...entries)));
    await store.close();
    store = at.open();
    const found = await store.get();
    for (const [key, text] of entries) expect(JSON.parse(found.entries.get(key)!)).toEqual(JSON.parse(text));
    expect(found.entries.size).toBe(namespaces.length + 1);
    await store.close();
  });

  contract("who has opened it holds it alone, until it is closed", async (at) => {
    const store = at.open();
    expect(() => at.open()).toThrow("in use");
    stored(await store.compareAndSwap(NO_METADATA_VERSION, changes([CLUSTER_KEY, CLUSTER])));
    expect(() => at.open()).toThrow("in use");
    await store.close();
    const other = at.open();
    await store.close(); // again: it ends nobody else's hold
    expect(() => at.open()).toThrow("in use");
    expect(await store.get().catch(reasonOf)).toBe("RESOURCE_UNAVAILABLE");
    expect(await store.compareAndSwap(0, changes()).catch(reasonOf)).toBe("RESOURCE_UNAVAILABLE");
    await other.close();
  });
}
