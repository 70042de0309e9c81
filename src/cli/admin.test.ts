/** `varia status`, `varia health` and `varia admin` on a cluster of real servers in this process. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { commandsOn } from "../../test/harness/cluster-commands.ts";
import { LocalCluster } from "../../test/harness/local-cluster.ts";
import { connect } from "../client/connect.ts";

let cluster: LocalCluster;

beforeAll(async () => {
  const namespaces = "namespaces: # what there is\n  - {name: default, initialShardCount: 2, replicationFactor: 3}\n";
  cluster = await LocalCluster.start({ servers: 4, configured: 3, namespaces });
});
afterAll(async () => {
  await cluster.stop();
  expect(cluster.faults).toEqual([]);
});

const { varia, admin, status, untilHealthy } = commandsOn(() => cluster);

test("a cluster that is well: status says so and who holds what, in three forms", async () => {
  const found = await untilHealthy();
  expect(found).toMatchObject({ problems: [], fault_tolerance: 1 });
  expect(found.servers.map(({ name }: { name: string }) => name)).toEqual(["s1", "s2", "s3"]);
  expect(found.shards).toHaveLength(2);
  for (const shard of found.shards) {
    expect(shard.replicas.map(({ status }: { status: string }) => status).sort()).toEqual([
      "follower",
      "follower",
      "leader",
    ]);
    expect(shard.replicas.every((replica: { replica_id: string }) => /^\d+$/.test(replica.replica_id))).toBe(true);
    expect(shard.replicas.every((replica: { lag_entries: number }) => replica.lag_entries === 0)).toBe(true);
  }
  const table = await varia("status", "--admin-address", cluster.adminAddress);
  expect(table.code).toBe(0);
  expect(table.out).toStartWith("healthy: 1 data server may fail\n");
  expect(table.out).toContain("default/1");
  const yaml = await varia("status", "--admin-address", cluster.adminAddress, "-o", "yaml");
  expect(Bun.YAML.parse(yaml.out)).toMatchObject({ healthy: true });
}, 90_000);

test("metrics of the coordinator and of a data server, and whether they are ready", async () => {
  await untilHealthy();
  const at = (port: number, path: string) => fetch(`http://127.0.0.1:${port}${path}`);
  const text = await (await at(cluster.coordinator.httpPort, "/metrics")).text();
  for (const line of [
    "varia_coordinator_servers_available 3",
    "varia_coordinator_shards 2",
    "varia_coordinator_shards_without_leader 0",
    'varia_coordinator_elections_total{reason="first"} 2',
    'oxia_coordinator_term_count{oxia_namespace="default",shard="1"}',
    `oxia_coordinator_node_running_count{data_server="${cluster.servers[0]!.internal}"} 1`,
    'oxia_coordinator_leader_election_latency_milliseconds_count{oxia_namespace="default"} ',
    'oxia_coordinator_new_term_quorum_latency_milliseconds_count{oxia_namespace="default"} ',
    'oxia_coordinator_become_leader_latency_milliseconds_count{oxia_namespace="default"} ',
    "oxia_coordinator_metadata_store_latency_milliseconds_count ",
    'grpc_server_started_total{grpc_service="varia.admin.v1.VariaAdmin",grpc_method="GetClusterStatus",grpc_type="unary"} ',
    "process_resident_memory_bytes ",
  ]) {
    expect(text).toContain(line);
  }
  expect((await at(cluster.coordinator.httpPort, "/readyz")).status).toBe(200);
  const servers = cluster.servers.slice(0, 3);
  const texts = await Promise.all(servers.map(async ({ server }) => (await at(server!.httpPort, "/metrics")).text()));
  const sum = (name: string) =>
    texts.reduce((total, each) => total + Number(new RegExp(`^${name} (\\d+)$`, "m").exec(each)?.[1] ?? Number.NaN), 0);
  expect(sum("oxia_server_leaders_count")).toBe(2);
  expect(sum("oxia_server_followers_count")).toBe(4);
  expect(sum("varia_shards_damaged")).toBe(0);
  const lines = texts.join("").split("\n");
  const acked = lines.filter((line) => line.startsWith("oxia_server_follower_ack_offset_count{"));
  expect(acked).toHaveLength(4);
  expect(
    acked.every((line) => /oxia_namespace="default",shard="[01]",follower="127\.0\.0\.1:\d+"} \d+$/.test(line)),
  ).toBe(true);
  expect(lines.filter((line) => /^varia_follower_lag_entries\{.*\} 0$/.test(line))).toHaveLength(4);
  const following = lines.filter((line) =>
    /^varia_replica_status\{oxia_namespace="default".*status="following"} 1$/.test(line),
  );
  expect(following).toHaveLength(4);
});

test("what has happened is listed, newest first, by kind and shard; a diagnosis passes", async () => {
  await untilHealthy();
  const page = async (...words: string[]) => JSON.parse((await admin("event", "list", "-o", "json", ...words)).out);
  const events = async (...words: string[]) => (await page(...words)).events;
  const all = await events("--limit", "1000");
  expect(all.map(({ time }: { time: string }) => time)).toEqual(
    all
      .map(({ time }: { time: string }) => time)
      .sort()
      .reverse(),
  );
  const elections = await events("--kind", "election", "--shard", "1");
  expect(elections.some(({ what }: { what: string }) => what === "leader elected")).toBe(true);
  expect(
    elections.every(({ kind, shard }: { kind: string; shard: string }) => kind === "election" && shard === "default/1"),
  ).toBe(true);
  expect((await admin("event", "list", "--kind", "odd")).code).toBe(2);
  const [server] = cluster.servers;
  expect(await page("--server", server!.name)).toEqual(await page("--server", server!.internal));
  expect((await page("--server", server!.name)).events.length).toBeGreaterThan(0);
  expect((await admin("event", "list", "--server", "nobody")).code).toBe(3);
  // a page says whether there is another one, and where it begins
  const kind = ["--kind", "election"];
  const [newest, ...others] = (await page(...kind)).events;
  const first = await page(...kind, "--limit", "1");
  expect(first).toEqual({ events: [newest], has_more: true });
  const rest = await page(...kind, "--before", String(first.events[0].id));
  expect(rest).toEqual({ events: others, has_more: false });
  const yaml = Bun.YAML.parse((await admin("event", "list", "-o", "yaml", ...kind, "--limit", "1")).out);
  expect(yaml).toEqual(first);
  const table = await admin("event", "list", ...kind, "--limit", "1");
  expect(table.out.trim().split("\n")).toHaveLength(2);
  expect(table.err).toBe(`There are more: --before ${newest.id} lists those before, --limit more at once.\n`);
  expect((await admin("event", "list", ...kind)).err).toBe("");
  const diagnosis = await varia("diagnose", "--admin-address", cluster.adminAddress, "-o", "json");
  expect(diagnosis.code).toBe(0);
  const outcomes = JSON.parse(diagnosis.out).map(({ rule, outcome }: { rule: string; outcome: string }) => [
    rule,
    outcome,
  ]);
  expect(Object.fromEntries(outcomes)).toMatchObject({
    "every shard has a leader": "pass",
    "every server answers": "pass",
  });
}, 90_000);

test("the HTTP port answers the admin API too, to callers who reach this machine by an address of it", async () => {
  await untilHealthy();
  const ask = async (port: number, method: string, headers: Record<string, string> = {}) => {
    const response = await fetch(`http://127.0.0.1:${port}/${method}`, {
      ...{ method: "POST", body: "{}" },
      headers: { "content-type": "application/json", ...headers },
    });
    return { status: response.status, text: await response.text() };
  };
  const { httpPort } = cluster.coordinator;
  const cluster0 = await ask(httpPort, "varia.admin.v1.VariaAdmin/GetClusterStatus");
  expect([cluster0.status, JSON.parse(cluster0.text).servers.length]).toEqual([200, 3]);
  const namespaces = await ask(httpPort, "io.oxia.proto.v1.OxiaAdmin/ListNamespaces");
  expect(JSON.parse(namespaces.text).namespaces[0].namespace.name).toBe("default");
  const node = await ask(cluster.servers[0]!.server!.httpPort, "varia.admin.v1.VariaAdmin/GetNodeStatus");
  expect(JSON.parse(node.text)).toMatchObject({ mode: "storage" });
  // each data server tells the coordinator what it bears
  const loads = async () => {
    const { text } = await ask(httpPort, "varia.admin.v1.VariaAdmin/GetClusterStatus");
    return JSON.parse(text).servers as { version?: string; load?: Record<string, string> }[];
  };
  while ((await loads()).some(({ load }) => load === undefined)) await Bun.sleep(50);
  for (const { version, load } of await loads()) {
    expect(version).toBe("test");
    for (const field of ["residentBytes", "diskFreeBytes", "startedAtMs"] as const) {
      expect([field, Number(load![field]) > 0]).toEqual([field, true]);
    }
  }
  // what a page of another site could send by itself, and one whose name leads here
  const method = "varia.admin.v1.VariaAdmin/GetClusterStatus";
  expect((await ask(httpPort, method, { "content-type": "text/plain" })).status).toBe(415);
  expect((await ask(httpPort, method, { host: "evil.example" })).status).toBe(403);
  expect((await ask(httpPort, "varia.admin.v1.VariaAdmin/Format")).status).toBe(404);
}, 60_000);

test("names alone are printed a line each; a dry run says what would be, and nothing is changed", async () => {
  const before = await untilHealthy();
  expect((await admin("namespace", "list", "-o", "name")).out).toBe("default\n");
  expect((await admin("dataserver", "list", "-o", "name")).out).toBe("s1\ns2\ns3\n");
  for (const [words, said] of [
    [
      ["namespace", "create", "n", "--initial-shards", "2", "--replication-factor", "3"],
      "n would be made: 2 shards, 3 replicas",
    ],
    [["namespace", "patch", "default", "--notifications", "false"], "Notifications: true, would be false."],
    [["namespace", "delete", "default"], "the data of its 2 shards would be deleted"],
    [["dataserver", "create", "s9", "--public", "h:1", "--internal", "h:2"], "s9 would be added: h:1, internally h:2"],
    [["dataserver", "patch", "s1", "--public", "h:1"], `public: ${cluster.servers[0]!.public}, would be h:1.`],
    [["dataserver", "delete", "s1"], "its 2 replicas would be filled on others"],
    [["shard", "swap", "--shard", "1", "--from", "s1", "--to", "s2"], "be filled on s2, and the one on s1 deleted"],
    [["shard", "switch-leader", "--shard", "1", "--to", "s2"], "would be led by s2"],
    [["shard", "freeze", "--shard", "1", "--for", "5m"], "Shard default/1 would take no writes for 300 s."],
    [["dataserver", "drain", "s1"], "its 2 replicas would be filled on others"],
    [["shard", "thaw", "--shard", "1"], "Shard default/1 would take writes; it is not frozen."],
    [["shard", "recover", "--shard", "1", "--servers", "s1,s2", "--accept-loss"], "The shard goes on in term"],
  ] as const) {
    const { code, out, err } = await admin(...words, "--dry-run");
    expect([words, code, out]).toEqual([words, 0, ""]);
    expect(err).toContain(said);
    expect(err).toEndWith("Nothing was changed.\n");
  }
  for (const [words, code] of [
    [["namespace", "create", "default", "--replication-factor", "1"], 1],
    [["namespace", "delete", "none"], 3],
    [["dataserver", "create", "s1", "--public", "h:1", "--internal", "h:2"], 1],
    [["dataserver", "delete", "s9"], 3],
    [["shard", "swap", "--shard", "7", "--from", "s1", "--to", "s2"], 3],
    [["shard", "switch-leader", "--shard", "7", "--to", "s2"], 3],
    [["shard", "freeze", "--shard", "7", "--for", "5m"], 3],
    [["shard", "freeze", "--shard", "1", "--for", "2h"], 2],
    [["shard", "freeze", "--shard", "1", "--for", "0s"], 2],
    [["dataserver", "drain", "s9"], 3],
    [["shard", "thaw", "--shard", "7"], 3],
    [["operation", "cancel", "999"], 3],
  ] as const) {
    expect([words, (await admin(...words, "--dry-run")).code]).toEqual([words, code]);
  }
  const after = await untilHealthy();
  expect(after.shards.map(({ term }: { term: number }) => term)).toEqual(
    before.shards.map(({ term }: { term: number }) => term),
  );
  expect((await admin("namespace", "list", "-o", "name")).out).toBe("default\n");
}, 90_000);

test("sessions are listed by client, and closed once that is said", async () => {
  await untilHealthy();
  const worker = await connect({ serviceAddress: cluster.servers[0]!.public, clientIdentity: "worker-9" });
  const client = await connect({ serviceAddress: cluster.servers[1]!.public });
  try {
    await worker.put("/workers/9", "here", { ephemeral: true });
    const list = async () => JSON.parse((await admin("session", "list", "-o", "json")).out);
    const [found] = (await list()).filter(({ client: identity }: { client: string }) => identity === "worker-9");
    expect(found.session).toMatch(/^[0-9a-f]{16}$/);
    expect(found).toMatchObject({ timeout_ms: 15_000, records: 1 });
    const close = (...words: string[]) =>
      admin("session", "close", "--shard", String(found.shard), "--session", found.session, "-o", "json", ...words);
    expect((await close()).code).toBe(2); // nobody is there to be asked
    const dry = await close("--dry-run");
    expect([dry.code, dry.err]).toEqual([0, "1 records end with it.\nNothing was changed.\n"]);
    expect(await client.get("/workers/9")).toBeDefined();
    expect(JSON.parse((await close("--yes")).out)).toMatchObject({ session: found.session, records: 1 });
    expect(await client.get("/workers/9")).toBeUndefined();
    expect((await close("--yes")).code).toBe(3);
    expect((await admin("session", "list", "-n", "none")).code).toBe(3);
    // the same by the admin API
    const call = async (method: string, body: object) => {
      const response = await fetch(
        `http://127.0.0.1:${cluster.coordinator.httpPort}/varia.admin.v1.VariaAdmin/${method}`,
        {
          ...{ method: "POST", body: JSON.stringify(body) },
          headers: { "content-type": "application/json" },
        },
      );
      return { status: response.status, body: (await response.json()) as Record<string, unknown> };
    };
    const other = await connect({ serviceAddress: cluster.servers[0]!.public, clientIdentity: "worker-10" });
    await other.put("/workers/10", "here", { ephemeral: true });
    const { sessions } = (await call("ListSessions", { namespace: "default" })).body;
    const own = (sessions as Record<string, unknown>[]).find(({ clientIdentity }) => clientIdentity === "worker-10")!;
    expect(own).toMatchObject({ timeoutMs: 15_000, ephemerals: "1" });
    expect(own.session).toMatch(/^\d+$/);
    const { shard = "0", session } = own;
    expect((await call("ListSessions", { namespace: "default", shard })).body.sessions).toContainEqual(own);
    const one = (await call("GetSession", { namespace: "default", shard, session })).body;
    expect(one).toEqual({ session: own, keys: ["/workers/10"] });
    expect((await call("CloseSession", { namespace: "default", shard, session })).status).toBe(200);
    expect((await call("GetSession", { namespace: "default", shard, session })).status).toBe(404);
    expect(await client.get("/workers/10")).toBeUndefined();
    await other.close();
    expect((await call("ListSessions", { namespace: "none" })).status).toBe(404);
    expect((await call("ListSessions", {})).status).toBe(400);
    expect((await call("ListSessions", { namespace: "default", shard: 99 })).status).toBe(404);
    expect((await call("CloseSession", { namespace: "default", shard: 0, session: "12345" })).status).not.toBe(200);
  } finally {
    await Promise.all([worker.close(), client.close()]);
  }
}, 60_000);

test("health answers for the process and for readiness, with exit code 1 for what does not serve", async () => {
  await untilHealthy();
  const [, port] = cluster.servers[0]!.internal.split(":") as [string, string];
  const at = ["--host", "127.0.0.1", "--port"];
  expect(await varia("health", ...at, port, "--service", "oxia-readiness")).toEqual({
    code: 0,
    out: "SERVING\n",
    err: "",
  });
  expect((await varia("health", ...at, String(cluster.coordinator.adminPort))).out).toBe("SERVING\n");
  expect((await varia("health", ...at, port, "--service", "nothing")).code).toBe(1);
  // a data server without assignments is not ready
  const [, spare] = cluster.servers[3]!.internal.split(":") as [string, string];
  expect((await varia("health", ...at, spare, "--service", "oxia-readiness")).code).toBe(1);
  expect((await varia("health", ...at, "1", "--timeout", "2s")).code).toBe(1);
}, 90_000);

test("namespaces come and go; the file keeps its comments", async () => {
  const created = await admin("namespace", "create", "orders", "--initial-shards", "1", "--replication-factor", "3");
  expect([created.code, created.err]).toEqual([0, ""]);
  expect(created.out.split("\n")[0]!.split(/ +/)).toEqual(["NAME", "INITIAL_SHARDS", "REPLICATION_FACTOR"]);
  const found = await untilHealthy(({ shards }) => shards.length === 3);
  expect(found.shards[2]).toMatchObject({ namespace: "orders", shard: 2 });
  const client = await connect({ serviceAddress: cluster.servers[0]!.public, namespace: "orders" });
  await client.put("a", "b");
  await client.close();
  expect((await admin("namespace", "create", "orders", "--replication-factor", "3")).code).toBe(1);
  expect((await admin("namespace", "create", "wide", "--replication-factor", "9")).err).toContain("failed to create");
  const listed = JSON.parse((await admin("namespace", "list", "-o", "json")).out);
  expect(listed.map(({ name }: { name: string }) => name)).toEqual(["default", "orders"]);
  const one = JSON.parse((await admin("-o", "json", "namespace", "get", "orders")).out);
  expect(one).toMatchObject({ replication_factor: 3, notifications_enabled: true, key_sorting: "hierarchical" });
  expect(one.shards[0].status).toBe("SteadyState");
  expect((await admin("namespace", "patch", "orders", "--notifications", "false", "-o", "json")).out).toContain(
    '"notifications_enabled":false',
  );
  const file = readFileSync(cluster.configFile, "utf8");
  expect(file).toContain("# ours");
  expect(file).toContain("# what there is");
  expect(file).toContain("orders");
  expect((await admin("namespace", "delete", "orders")).code).toBe(0);
  expect((await admin("namespace", "get", "orders")).code).toBe(3);
  await untilHealthy(({ shards }) => shards.length === 2);
}, 120_000);

test("another leader, a frozen shard, and the operations that they are", async () => {
  const before = await untilHealthy();
  const [shard] = before.shards;
  const heir = cluster.servers.slice(0, 3).find(({ internal }) => internal !== shard.leader)!;
  const of = ["--shard", String(shard.shard)];
  const client = await connect({ serviceAddress: cluster.servers[1]!.public });
  try {
    expect((await admin("shard", "switch-leader", ...of, "--to", heir.name, "--note", "für Öle")).code).toBe(0);
    const [audit] = JSON.parse((await admin("event", "list", "--kind", "audit", "-o", "json")).out).events;
    const why = `SwitchLeader namespace=default shard=${shard.shard} to=${heir.name} from 127.0.0.1; note: für Öle`;
    expect(audit).toMatchObject({ what: "change made", why, shard: `default/${shard.shard}` });
    expect((await status()).shards[0].leader).toBe(heir.internal);
    expect((await admin("shard", "freeze", ...of, "--for", "60s")).code).toBe(2);
    expect((await admin("shard", "freeze", ...of, "--for", "2h", "--yes")).code).toBe(2);
    const frozen = JSON.parse((await admin("shard", "freeze", ...of, "--for", "60s", "--yes", "-o", "json")).out);
    expect(frozen).toMatchObject({ kind: "freeze-shard", state: "running", about: `default/${shard.shard}` });
    expect((await status()).shards[0].change).toContain("frozen for ");
    // writes wait for the end of it, reads do not
    let isWritten = false;
    const key = keyOf(shard);
    const write = client.put(key, "later").then(() => {
      isWritten = true;
    });
    expect(await client.get(key)).toBeUndefined();
    const listed = JSON.parse((await admin("operation", "list", "--state", "running", "-o", "json")).out);
    expect(listed.operations.map(({ id }: { id: number }) => id)).toEqual([frozen.id]);
    expect(isWritten).toBe(false);
    expect((await admin("operation", "cancel", String(frozen.id))).code).toBe(0);
    await write;
    expect(JSON.parse((await admin("operation", "get", String(frozen.id), "-o", "json")).out)).toMatchObject({
      state: "cancelled",
      what: "it was thawed",
    });
    const watched = await admin("operation", "watch", String(frozen.id));
    expect([watched.code, watched.err]).toEqual([1, expect.stringContaining("has been cancelled: it was thawed")]);
    expect((await admin("shard", "thaw", ...of)).code).toBe(1);
    const long = JSON.parse((await admin("shard", "freeze", ...of, "--for", "10m", "--yes", "-o", "json")).out);
    const following = admin("operation", "watch", String(long.id));
    // it has begun long before so many others that take as long to begin have ended
    for (let nth = 0; nth < 10; nth++) expect((await admin("operation", "get", String(long.id))).code).toBe(0);
    expect((await admin("operation", "cancel", String(long.id))).code).toBe(0);
    expect((await following).err).toContain("no write is taken behind offset");
    expect((await admin("operation", "get", "999")).code).toBe(3);
    expect((await admin("operation", "cancel", String(frozen.id))).code).toBe(1);
    const kinds = JSON.parse((await admin("operation", "list", "--kind", "switch-leader", "-o", "json")).out);
    expect(kinds).toMatchObject({ operations: [{ state: "succeeded", to: heir.internal }], has_more: false });
    const newest = JSON.parse((await admin("operation", "list", "--limit", "1", "-o", "json")).out);
    expect([newest.operations.length, newest.has_more]).toEqual([1, true]);
  } finally {
    await client.close();
  }
}, 180_000);

/** A key that lies in this shard. */
function keyOf(shard: { readonly min_hash_inclusive: number; readonly max_hash_inclusive: number }): string {
  const [min, max] = [shard.min_hash_inclusive, shard.max_hash_inclusive];
  for (let nth = 0; ; nth++) {
    const hash = Number(BigInt.asUintN(32, Bun.hash.xxHash3(`key-${nth}`)));
    if (hash >= min && hash <= max) return `key-${nth}`;
  }
}

test("a data server is added, takes the place of another one, which is emptied; replicas are swapped", async () => {
  const client = await connect({ serviceAddress: cluster.servers[1]!.public });
  for (let index = 0; index < 50; index++) await client.put(`key-${index}`, "x".repeat(1_000));
  const s4 = cluster.servers[3]!;
  const added = await admin(
    "dataserver",
    "create",
    "s4",
    "--public",
    s4.public,
    "--internal",
    s4.internal,
    "--label",
    "zone=z",
  );
  expect([added.code, added.err]).toEqual([0, ""]);
  await untilHealthy(({ servers }) => servers.length === 4);
  const swapped = await admin("shard", "swap", "--shard", "0", "--from", "s1", "--to", "s4", "-o", "json");
  expect([swapped.code, JSON.parse(swapped.out)]).toEqual([
    0,
    { namespace: "default", shard: 0, from: "s1", to: "s4" },
  ]);
  await untilHealthy(({ servers }) => servers[0].replicas === 1);
  expect((await admin("dataserver", "delete", "s1")).code).toBe(0);
  expect((await admin("dataserver", "list")).out).toContain("draining");
  const found = await untilHealthy(({ servers }) => servers.length === 3);
  expect(found.servers.map(({ name, replicas }: Record<string, unknown>) => [name, replicas])).toEqual([
    ["s2", 2],
    ["s3", 2],
    ["s4", 2],
  ]);
  for (let index = 0; index < 50; index++) expect((await client.get(`key-${index}`))?.value).toHaveLength(1_000);
  await client.close();
  expect((await admin("dataserver", "delete", "s4")).err).toContain("failed to delete data server");
  expect(readFileSync(cluster.configFile, "utf8")).not.toContain(cluster.servers[0]!.internal);
  // a server that comes back holds a new replica where an old one has ended, and is shown as what it is
  const [s1] = cluster.servers;
  expect((await admin("dataserver", "create", "s1", "--public", s1!.public, "--internal", s1!.internal)).code).toBe(0);
  await untilHealthy(({ servers }) => servers.length === 4);
  expect((await admin("shard", "swap", "--shard", "0", "--from", "s4", "--to", "s1")).code).toBe(0);
  const back = await untilHealthy(({ servers }) => servers.length === 4 && servers[3].replicas === 1);
  const replica = back.shards[0].replicas.find(({ server }: { server: string }) => server === s1!.internal);
  expect(replica).toMatchObject({ part: "member", reason: "" });
  const text = await (await fetch(`http://127.0.0.1:${s1!.server!.httpPort}/metrics`)).text();
  const [, is] = /^varia_replica_status\{oxia_namespace="default",shard="0",status="(.*)"} 1$/m.exec(text)!;
  expect(is).toBeOneOf(["following", "leader"]);
  // emptied again, this time until nothing is left on it
  const unasked = await admin("dataserver", "drain", "s1");
  expect([unasked.code, unasked.out]).toEqual([2, ""]);
  const drained = await admin("dataserver", "drain", "s1", "--yes", "-o", "json");
  expect([drained.code, JSON.parse(drained.out)]).toMatchObject([0, { kind: "drain-server", state: "succeeded" }]);
  // nothing, where it was over before anybody looked
  for (const line of drained.err.trim().split("\n")) {
    expect(line).toBeOneOf(["", "replicas are being moved", "0 %  1 of 1 copies are still there"]);
  }
  await untilHealthy(({ servers }) => servers.length === 3);
}, 180_000);

test("two of three gone for ever: status says so, the loss is shown first, and the shard goes on", async () => {
  const found = await untilHealthy();
  for (const name of ["s2", "s3"]) await cluster.stopServer(cluster.servers.find((server) => server.name === name)!);
  for (let now = found; now.fault_tolerance !== -1; now = await status()) await Bun.sleep(50);
  const sick = await varia("status", "--admin-address", cluster.adminAddress);
  expect(sick.code).toBe(1);
  expect(sick.out).toStartWith("unavailable: a shard has stopped\n");
  const words = ["shard", "recover", "--shard", "1", "--servers", "s4"];
  const plan = await admin(...words);
  expect(plan.code).toBe(0);
  expect(plan.err).toContain("cannot be asked");
  expect(plan.err).toContain("Nothing was changed");
  const unasked = await admin(...words, "--accept-loss");
  expect([unasked.code, unasked.out]).toEqual([2, ""]);
  const done = await admin(...words, "--accept-loss", "--yes", "-o", "json");
  expect([done.code, JSON.parse(done.out)]).toMatchObject([0, { namespace: "default", shard: 1 }]);
  const shard = async () => (await status()).shards.find((each: { shard: number }) => each.shard === 1);
  while ((await shard()).leader !== cluster.servers[3]!.internal) await Bun.sleep(50);
  expect((await shard()).replicas.filter(({ part }: { part: string }) => part === "member")).toHaveLength(1);
  expect((await shard()).problems).toEqual(["it has 1 of 3 replicas"]);
}, 120_000);
