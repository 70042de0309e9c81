/** What `varia admin` shows and changes of single processes, and events as they happen, on a cluster of real servers. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { variaCommand } from "../../test/client/server.ts";
import { commandsOn } from "../../test/harness/cluster-commands.ts";
import { LocalCluster } from "../../test/harness/local-cluster.ts";

let cluster: LocalCluster;

beforeAll(async () => {
  const namespaces = "namespaces: # what there is\n  - {name: default, initialShardCount: 2, replicationFactor: 3}\n";
  cluster = await LocalCluster.start({ servers: 3, namespaces });
});
afterAll(async () => {
  await cluster.stop();
  expect(cluster.faults).toEqual([]);
});

const { varia, admin, untilHealthy } = commandsOn(() => cluster);

test("events are printed as they happen, in order, until it is interrupted", async () => {
  await untilHealthy();
  const words = [...variaCommand(), "admin", "--admin-address", cluster.adminAddress, "event", "watch", "--after", "1"];
  const child = Bun.spawn([...words, "--kind", "audit", "-o", "json"], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const reader = child.stdout.getReader();
  let out = "";
  const until = async (text: string) => {
    while (!out.includes(text)) out += new TextDecoder().decode((await reader.read()).value);
  };
  for (const level of ["debug", "info"]) {
    expect((await admin("log-level", level, "--note", `now ${level}`)).code).toBe(0);
    await until(`now ${level}`);
  }
  child.kill("SIGINT");
  for (let read = await reader.read(); !read.done; read = await reader.read())
    out += new TextDecoder().decode(read.value);
  expect(await child.exited).toBe(130);
  const events = JSON.parse(out) as { id: number; kind: string }[];
  expect(events.every(({ kind }) => kind === "audit")).toBe(true);
  expect(events.map(({ id }) => id)).toEqual(events.map(({ id }) => id).sort((a, b) => a - b));
  const far = await varia("admin", "--admin-address", "127.0.0.1:1", "event", "watch");
  expect([far.code, far.err]).toEqual([5, expect.stringContaining("Nothing answers at 127.0.0.1:1")]);
  expect((await admin("event", "watch", "--kind", "odd")).code).toBe(2);
}, 60_000);

test("how much a process logs is shown and changed, of the coordinator and of a data server", async () => {
  const [server] = cluster.servers;
  for (const address of [cluster.adminAddress, server!.public]) {
    const level = async (...words: string[]) => {
      const { out } = await varia("admin", "--admin-address", address, "-o", "json", "log-level", ...words);
      return JSON.parse(out);
    };
    expect(await level()).toEqual({ log_level: "info" });
    const dry = await varia("admin", "--admin-address", address, "log-level", "debug", "--dry-run");
    expect(dry).toEqual({ code: 0, out: "", err: "Log level: info, would be debug.\nNothing was changed.\n" });
    expect(await level("debug")).toEqual({ log_level: "debug", before: "info" });
    expect(await level()).toEqual({ log_level: "debug" });
    expect(await level("info")).toEqual({ log_level: "info", before: "debug" });
  }
  for (const words of [["loud"], ["loud", "--dry-run"]]) expect((await admin("log-level", ...words)).code).toBe(2);
}, 60_000);

test("a coordinator asks a data server for its callers, and says which one it does not know or cannot reach", async () => {
  await untilHealthy();
  const [first] = cluster.servers;
  const shown = JSON.parse((await admin("dataserver", "status", first!.name, "-o", "json")).out);
  expect(shown).toMatchObject({ name: first!.name, mode: "storage", log_level: "info" });
  expect(
    shown.replicas.map(({ namespace, shard }: { namespace: string; shard: number }) => [namespace, shard]),
  ).toEqual(
    expect.arrayContaining([
      ["default", 0],
      ["default", 1],
    ]),
  );
  const settings = JSON.parse((await admin("dataserver", "config", first!.internal, "-o", "json")).out);
  const byName = new Map(settings.map((one: { name: string; value: string }) => [one.name, one.value]));
  expect(byName.get("internal-addr")).toBe(first!.internal);
  const level = async (...words: string[]) =>
    JSON.parse((await admin("log-level", ...words, "--server", "s2", "-o", "json")).out);
  const { log_level: before } = await level();
  expect(await level("warn")).toEqual({ log_level: "warn", before });
  expect(await level()).toEqual({ log_level: "warn" });
  await level(before);
  const unknown = await admin("dataserver", "status", "nobody");
  expect([unknown.code, unknown.err]).toEqual([3, 'Error: data server "nobody" not found\n']);
  const own = await varia("admin", "--admin-address", first!.public, "log-level", "--server", "s2");
  expect([own.code, own.err]).toEqual([3, 'Error: this process answers for itself alone: ask a coordinator of "s2"\n']);
  const get = async (path: string) => (await fetch(`http://127.0.0.1:${cluster.coordinator.httpPort}${path}`)).text();
  expect(await get("/node?server=s2")).toContain("Replicas here");
  expect(await get("/configuration?server=s2")).toContain("What s2 was started with");
  expect(await get("/performance?server=s2")).toContain("s2 in the last hour");
  expect(await get("/node?server=nobody")).toContain("not found");
});

test("a look that is old enough is answered at once, and a newer one is there for who asks next", async () => {
  await untilHealthy();
  const look = async (request: object): Promise<number> => {
    const at = `http://127.0.0.1:${cluster.coordinator.httpPort}/varia.admin.v1.VariaAdmin/GetClusterStatus`;
    const body = JSON.stringify(request);
    const response = await fetch(at, { method: "POST", headers: { "content-type": "application/json" }, body });
    return Number(((await response.json()) as { observedAtMs: string }).observedAtMs);
  };
  const first = await look({});
  while (Date.now() <= first + 1) await Bun.sleep(1);
  expect(await look({ maxAgeMs: 60_000 })).toBe(first);
  expect(await look({ maxAgeMs: 60_000, refreshAgeMs: 1 })).toBe(first);
  let now = first;
  while (now === first) now = await look({ maxAgeMs: 60_000 });
  expect(now).toBeGreaterThan(first);
}, 30_000);
