import { Database } from "bun:sqlite";
import { afterAll, expect, test } from "bun:test";
import {
  appendFileSync,
  copyFileSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { CLUSTER_KEY, shardKey } from "../../src/model/status-entries.ts";
import { type MetadataStore, NO_METADATA_VERSION } from "../../src/ports.ts";
import { openFileMetadata } from "../../src/storage/metadata/file-directory.ts";
import { MemoryMetadata, openMemoryMetadata } from "../../src/storage/metadata/memory.ts";
import { openSqliteMetadata } from "../../src/storage/metadata/sqlite.ts";
import {
  CLUSTER,
  changes,
  type MetadataPlace,
  metadataStoreContract,
  parsed,
  shard,
  stored,
} from "./metadata-store.ts";

const folder = mkdtempSync(join(tmpdir(), "varia-metadata-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let nth = 0;
function fresh(name: string): string {
  return join(folder, `${nth++}`, name);
}

/** The files beside `path` as they are now, at a place of their own: what a killed process leaves. */
function copyOf(path: string): string {
  const copy = fresh("x");
  cpSync(dirname(path), dirname(copy), { recursive: true });
  return join(dirname(copy), path.slice(dirname(path).length + 1));
}

function onDisk(name: string, open: (path: string) => MetadataStore): () => MetadataPlace {
  return () => {
    let path = fresh(name);
    return {
      open: () => open(path),
      crash: async (store) => {
        path = copyOf(path);
        await store.close();
      },
    };
  };
}

metadataStoreContract("memory", () => {
  const memory = new MemoryMetadata();
  return { open: () => openMemoryMetadata(memory), crash: (store) => store.close() };
});
metadataStoreContract("SQLite", onDisk("metadata.sqlite", openSqliteMetadata));
metadataStoreContract("file", onDisk("cluster-status.json", openFileMetadata));

const SHARD_0 = shardKey("default", 0);

/** Stores a document at each of the terms; answers the last version. */
async function fill(store: MetadataStore, ...terms: number[]): Promise<number> {
  let { version } = await store.get();
  for (const term of terms) {
    version = stored(await store.compareAndSwap(version, changes([CLUSTER_KEY, CLUSTER], [SHARD_0, shard(term)])));
  }
  return version;
}

async function termAt(path: string): Promise<unknown> {
  const store = openFileMetadata(path);
  const { [SHARD_0]: found } = await parsed(store);
  await store.close();
  return (found as { term: string } | undefined)?.term;
}

for (const kind of ["file", "sqlite"] as const) {
  const open = kind === "file" ? openFileMetadata : openSqliteMetadata;
  const holder = (path: string) =>
    Bun.spawn([process.execPath, join(import.meta.dir, "metadata-holder.ts"), kind, path], { stdin: "pipe" });

  test(`${kind}: another process is refused, and a killed one holds nothing`, async () => {
    const path = fresh("store");
    const first = open(path);
    const refused = holder(path);
    expect(await new Response(refused.stdout).text()).toContain("in use");
    await first.close();

    const child = holder(path);
    const { value } = await child.stdout.getReader().read();
    expect(new TextDecoder().decode(value)).toContain("stored");
    expect(() => open(path)).toThrow("in use");
    child.kill("SIGKILL");
    await child.exited;
    const second = open(path);
    expect(await parsed(second)).toEqual({ [CLUSTER_KEY]: JSON.parse(CLUSTER) });
    await second.close();
  });

  test(`${kind}: a disk that fails ends the store; before the change's last step it is known to have changed nothing`, async () => {
    const path = fresh("store");
    const script = `ulimit -f 1024; trap "" XFSZ; exec "$@"`;
    const words = [process.execPath, join(import.meta.dir, "metadata-holder.ts"), kind, path, "1500000"];
    const { stdout } = Bun.spawnSync(["bash", "-c", script, "bash", ...words]);
    const [first, second, third] = stdout.toString().split("\n");
    expect(first).toBe("stored");
    // SQLite writes when it commits: whether the commit mark has reached the disk is not for us to say
    expect(second).toStartWith(kind === "sqlite" ? "unknown" : "fault: ");
    expect(third).toBe("RESOURCE_UNAVAILABLE");
    const store = open(path);
    expect(await parsed(store)).toEqual({ [CLUSTER_KEY]: JSON.parse(CLUSTER) });
    await store.close();
  });

  test(`${kind}: a flipped bit is found, or changes nothing`, async () => {
    const path = fresh("store");
    const store = open(path);
    const version = await fill(store, 1, 2, 3);
    const expected = await parsed(store);
    await store.close();
    const bytes = readFileSync(path);
    const step = Math.max(1, Math.floor(bytes.length / 400));
    for (let at = 0; at < bytes.length; at += step) {
      const flipped = Uint8Array.from(bytes);
      flipped[at]! ^= 1 << (at % 8);
      const copy = copyOf(path);
      writeFileSync(copy, flipped);
      let opened: MetadataStore;
      try {
        opened = open(copy);
      } catch {
        continue;
      }
      expect({ at, version: (await opened.get()).version, ...(await parsed(opened)) }).toEqual({
        at,
        version,
        ...expected,
      });
      await opened.close();
      rmSync(dirname(copy), { recursive: true });
    }
  });

  test(`${kind}: a file that is cut short is damaged, not empty`, async () => {
    const path = fresh("store");
    const store = open(path);
    await fill(store, 1);
    await store.close();
    for (const part of [0.1, 0.5, 0.99]) {
      const copy = copyOf(path);
      truncateSync(copy, Math.floor(statSync(copy).size * part));
      expect(() => open(copy)).toThrow("is damaged");
    }
    writeFileSync(path, "no status at all");
    expect(() => open(path)).toThrow("is damaged");
  });
}

test("SQLite: a row that is lost, or of another time, is damage", async () => {
  const path = fresh("store");
  const store = openSqliteMetadata(path);
  await fill(store, 1);
  const older = copyOf(path);
  await fill(store, 2);
  await store.close();
  const old = new Database(older).query("SELECT key, text, crc FROM entry WHERE key = ?").values(SHARD_0)[0]!;
  for (const statement of ["DELETE FROM entry WHERE key = ?1", "INSERT OR REPLACE INTO entry VALUES (?1, ?2, ?3)"]) {
    const copy = copyOf(path);
    const database = new Database(copy);
    database.query(statement).run(...(old.slice(0, statement.startsWith("DELETE") ? 1 : 3) as [string]));
    database.close();
    expect(() => openSqliteMetadata(copy)).toThrow("the entries");
  }
  const copy = copyOf(path);
  const database = new Database(copy);
  database.run("DELETE FROM whole");
  database.close();
  expect(() => openSqliteMetadata(copy)).toThrow("the row of the whole");
});

test("SQLite: a flipped bit in the -wal is found before SQLite drops what is behind it", async () => {
  const path = fresh("store");
  const store = openSqliteMetadata(path);
  await fill(store, 1, 2, 3);
  const copy = copyOf(path);
  await store.close();
  const bytes = readFileSync(`${copy}-wal`);
  bytes[32 + 24 + 100]! ^= 4;
  writeFileSync(`${copy}-wal`, bytes);
  expect(() => openSqliteMetadata(copy)).toThrow("a frame's checksum differs");
});

test("file: after a crash between any two steps the old document stands, or the new one", async () => {
  const path = fresh("cluster-status.json");
  const store = openFileMetadata(path);
  await fill(store, 1, 2);
  await store.close();
  // `.new` holds term 1, the file term 2; with their names exchanged it is a change from 1 to 2 that was interrupted
  const before = () => {
    const at = copyOf(path);
    renameSync(at, `${at}.tmp`);
    renameSync(`${at}.new`, at);
    renameSync(`${at}.tmp`, `${at}.new`);
    return at;
  };
  const steps: { readonly crash: (at: string) => void; readonly term: string }[] = [
    { crash: (at) => truncateSync(`${at}.new`, 0), term: "1" },
    { crash: (at) => truncateSync(`${at}.new`, 10), term: "1" },
    { crash: (at) => unlinkSync(`${at}.new`), term: "1" },
    { crash: () => undefined, term: "1" },
    { crash: (at) => linkSync(at, `${at}.old`), term: "1" },
    {
      crash: (at) => {
        linkSync(at, `${at}.old`);
        renameSync(`${at}.new`, at);
      },
      term: "2",
    },
  ];
  for (const { crash, term } of steps) {
    const at = before();
    crash(at);
    expect(await termAt(at)).toBe(term);
    expect(readdirSync(dirname(at)).sort()).toEqual(readdirSync(dirname(path)).sort());
    const again = openFileMetadata(at);
    await fill(again, 3);
    await again.close();
    expect(await termAt(at)).toBe("3");
  }
});

test("file: a rename that fails leaves the outcome unknown; the store answers nothing more until it is opened again", async () => {
  const path = fresh("cluster-status.json");
  const store = openFileMetadata(path);
  const version = await fill(store, 1);
  unlinkSync(`${path}.new`);
  const answer = await store.compareAndSwap(version, changes([SHARD_0, shard(2)]));
  expect(answer.outcome).toBe("unknown");
  await expect(store.get()).rejects.toThrow("failed");
  await expect(store.compareAndSwap(version, changes([SHARD_0, shard(2)]))).rejects.toThrow("failed");
  await store.close();
  expect(await termAt(path)).toBe("1");
});

test("file: who writes it in spite of the lock is not overwritten", async () => {
  for (const meddle of [
    (path: string) => appendFileSync(path, " "),
    (path: string) => {
      copyFileSync(path, `${path}.copy`);
      renameSync(`${path}.copy`, path);
    },
    (path: string) => unlinkSync(path),
  ]) {
    const path = fresh("cluster-status.json");
    const store = openFileMetadata(path);
    const version = await fill(store, 1);
    meddle(path);
    const left = existsSync(path) ? readFileSync(path, "utf8") : undefined;
    await expect(store.compareAndSwap(version, changes([SHARD_0, shard(2)]))).rejects.toThrow("another program");
    expect(existsSync(path) ? readFileSync(path, "utf8") : undefined).toBe(left);
    await expect(store.get()).rejects.toThrow("failed");
    await store.close();
  }
});

/** What Oxia 0.16's coordinator writes, with two fields that neither of us knows. */
const OXIA = `namespaces:
    default:
        replicationFactor: 1
        later: [1, 9007199254740993]
        shards:
            0:
                status: 1
                term: 4
                leader:
                    name: 127.0.0.1:16649
                    public: 127.0.0.1:16648
                    internal: 127.0.0.1:16649
                ensemble:
                    - name: 127.0.0.1:16649
                      public: 127.0.0.1:16648
                      internal: 127.0.0.1:16649
                      zone: a
                int32HashRange:
                    min: 0
                    max: 4294967295
shardIdGenerator: 1
instanceId: fd4ee537-b551-4a16-b590-4607020da854
`;

test("file: what Oxia has written is read and kept, and no version is used twice when it takes over in between", async () => {
  const path = fresh("cluster-status.json");
  mkdirSync(dirname(path));
  writeFileSync(path, OXIA);
  const versions: number[] = [];
  for (let round = 0; round < 3; round++) {
    const store = openFileMetadata(path);
    const { [CLUSTER_KEY]: cluster, [SHARD_0]: first } = await parsed(store);
    expect(cluster).toMatchObject({
      shardIdGenerator: 1,
      namespaces: { default: { replicationFactor: 1, later: [1, "9007199254740993"] } },
    });
    expect(first).toMatchObject({ status: 1, term: 4, ensemble: [{ internal: "127.0.0.1:16649", zone: "a" }] });
    const { version } = await store.get();
    versions.push(version, stored(await store.compareAndSwap(version, changes([SHARD_0, shard(5)]))));
    expect(JSON.parse(readFileSync(path, "utf8"))).toMatchObject({
      varia: { version: String(versions.at(-1)) },
      namespaces: { default: { later: [1, "9007199254740993"], shards: { 0: { term: "5" } } } },
    });
    await store.close();
    writeFileSync(path, OXIA);
  }
  writeFileSync(path, "");
  const store = openFileMetadata(path);
  versions.push((await store.get()).version);
  await store.close();
  expect(versions).toEqual([...new Set(versions)].sort((a, b) => a - b));
  expect(versions[0]).toBeGreaterThan(NO_METADATA_VERSION);
});

test.skipIf(Bun.which("flock") === null)(
  "file: Oxia's lock is respected, and one that waits gets it only in the end",
  async () => {
    const path = fresh("cluster-status.json");
    const store = openFileMetadata(path);
    await fill(store, 1);
    const waiting = Bun.spawn(["flock", path, "true"]);
    await fill(store, 2, 3, 4);
    expect(Bun.spawnSync(["flock", "-n", path, "true"]).exitCode).toBe(1);
    expect(waiting.exitCode).toBeNull();
    await store.close();
    expect(await waiting.exited).toBe(0);

    const oxia = Bun.spawn(["flock", path, "sh", "-c", "echo held; read end"], { stdin: "pipe" });
    await oxia.stdout.getReader().read();
    expect(() => openFileMetadata(path)).toThrow("in use");
    oxia.stdin.end();
    await oxia.exited;
    expect(await termAt(path)).toBe("4");
  },
);
