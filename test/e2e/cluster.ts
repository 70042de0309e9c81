/**
 * A cluster of the compiled executable: data servers and one coordinator, each a process with directories of its own,
 * in a network of its own. Everything that can happen to a machine can be done to a member: it is killed, stopped and
 * resumed, cut off, and its disk is wiped, copied, brought back, or small.
 *
 *     DIRECTORY/cluster.yaml       the configuration
 *     DIRECTORY/s1/{db,wal}        a data server's directories; s1.log is all that its processes wrote
 *     DIRECTORY/c/                 the coordinator's metadata
 */
import { closeSync, cpSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { ShardAssignmentsRequestSchema, ShardAssignmentsSchema } from "../../src/gen/io/oxia/proto/v1/client_pb.ts";
import { GetClusterStatusResponseSchema } from "../../src/gen/varia/admin/v1/admin_pb.ts";
import { Connection, type Reply } from "../harness/grpc.ts";
import { type Network, openNetwork, run } from "./network.ts";
import { serverCommand } from "./varia.ts";

const PUBLIC_PORT = 6648;
const INTERNAL_PORT = 6649;
const HTTP_PORT = 8080;
const COORDINATOR_ADMIN_PORT = 6651;
/** Longer than any start takes on a busy machine. */
const START_MS_MAX = 60_000;
const STOP_MS_MAX = 30_000;
const POLL_MS = 20;
/** The tests are not on the machine of any member: they show who they are. */
export const ADMIN_TOKEN = "admin-of-this-cluster";
export const VIEWER_TOKEN = "viewer-of-this-cluster";

export interface ClusterOptions {
  readonly directory: string;
  readonly servers?: number;
  readonly shards?: number;
  /** Flags of the data servers. */
  readonly flags?: readonly string[];
  /** The coordinator's flags for its store; default: SQLite. */
  readonly metadata?: readonly string[];
  /** Sizes of small disks, by server. */
  readonly diskBytes?: Readonly<Record<string, number>>;
  readonly environment?: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

export class Cluster {
  readonly directory: string;
  readonly network: Network;
  readonly servers: readonly Member[];
  readonly coordinator: Member;

  /** Writes the configuration and starts all members at once. */
  static async start(options: ClusterOptions): Promise<Cluster> {
    const cluster = new Cluster(options);
    try {
      await Promise.all(cluster.members.map((member) => member.start()));
      return cluster;
    } catch (error) {
      await cluster.remove();
      throw error;
    }
  }

  private constructor(options: ClusterOptions) {
    this.directory = options.directory;
    mkdirSync(options.directory, { recursive: true });
    const names = Array.from({ length: options.servers ?? 3 }, (_, index) => `s${index + 1}`);
    this.network = openNetwork([...names, "c"]);
    this.servers = names.map(
      (name) => new Member(this, name, dataServerWords(this, name, options.flags ?? []), options),
    );
    this.coordinator = new Member(this, "c", coordinatorWords(this, options.metadata), options);
    writeFileSync(this.configuration, configuration(this, options.shards ?? 4));
    writeFileSync(this.tokenFile, `admin ${ADMIN_TOKEN}\nviewer ${VIEWER_TOKEN}\n`);
  }

  get configuration(): string {
    return join(this.directory, "cluster.yaml");
  }

  get tokenFile(): string {
    return join(this.directory, "tokens");
  }

  get members(): readonly Member[] {
    return [...this.servers, this.coordinator];
  }

  get addresses(): readonly string[] {
    return this.servers.map((server) => server.publicAddress);
  }

  /** Who leads each shard, as the first server says that answers; a shard without a leader is absent. */
  async leaders(): Promise<ReadonlyMap<bigint, Member>> {
    const asked = this.servers.filter((server) => server.running && !server.paused);
    const answers = await Promise.all(asked.map((server) => server.assignments().catch(() => undefined)));
    const leaders = new Map<bigint, Member>();
    for (const assignment of answers.find((answer) => answer !== undefined) ?? []) {
      const leader = this.servers.find((server) => server.publicAddress === assignment.leader);
      if (leader !== undefined) leaders.set(assignment.shard, leader);
    }
    return leaders;
  }

  /** The server that leads most shards; waits until somebody leads. */
  async leader(): Promise<Member> {
    for (let waited = 0; waited < START_MS_MAX; waited += POLL_MS) {
      const led = [...(await this.leaders()).values()];
      const [most] = this.servers.toSorted((a, b) => count(led, b) - count(led, a));
      if (most !== undefined && count(led, most) > 0) return most;
      await Bun.sleep(POLL_MS);
    }
    throw new Error("no server leads a shard");
  }

  /** What is wrong, as the coordinator says; empty: every shard has a leader and all its replicas, caught up. */
  async problems(): Promise<readonly string[]> {
    try {
      const reply = await this.coordinator.call(COORDINATOR_ADMIN_PORT, "/varia.admin.v1.VariaAdmin/GetClusterStatus");
      if (reply.messages[0] === undefined) return [`the coordinator does not tell: ${reply.message}`];
      const { healthy, problems } = fromBinary(GetClusterStatusResponseSchema, reply.messages[0]);
      return healthy || problems.length > 0 ? problems : ["it is not healthy, and does not say why"];
    } catch (error) {
      return [`the coordinator does not answer: ${(error as Error).message}`];
    }
  }

  /** Cuts a server off from all other members, clients excepted. */
  isolate(member: Member, direction: "both" | "in" | "out"): void {
    for (const other of this.members) {
      if (other === member) continue;
      if (direction !== "out") this.network.cut(other.name, member.name);
      if (direction !== "in") this.network.cut(member.name, other.name);
    }
  }

  /** Ends all members at once and waits for that; the directories stay. */
  async killAll(): Promise<void> {
    await Promise.all(this.members.map((member) => member.kill()));
  }

  /** Ends everything and gives back the network and the small disks; the directory stays, for who wants to look. */
  async remove(): Promise<void> {
    await this.killAll();
    for (const member of this.members) member.unmount();
    this.network.remove();
  }
}

function count(all: readonly Member[], one: Member): number {
  return all.filter((member) => member === one).length;
}

function dataServerWords(cluster: Cluster, name: string, flags: readonly string[]): readonly string[] {
  const host = cluster.network.hostOf(name);
  const ports = ["-p", `${host}:${PUBLIC_PORT}`, "-i", `${host}:${INTERNAL_PORT}`, "-m", `${host}:${HTTP_PORT}`];
  const directory = join(cluster.directory, name);
  const access = ["--admin-token-file", cluster.tokenFile];
  return [
    "storage",
    ...ports,
    ...access,
    "--data-dir",
    join(directory, "db"),
    "--wal-dir",
    join(directory, "wal"),
    ...flags,
  ];
}

function coordinatorWords(cluster: Cluster, metadata: readonly string[] | undefined): readonly string[] {
  const host = cluster.network.hostOf("c");
  const admin = ["-p", `${host}:${COORDINATOR_ADMIN_PORT}`];
  const ports = [...admin, "-i", `${host}:${INTERNAL_PORT}`, "-m", `${host}:${HTTP_PORT}`];
  const store = metadata ?? ["--metadata-dir", join(cluster.directory, "c")];
  const access = ["--admin-token-file", cluster.tokenFile];
  return ["coordinator", ...ports, ...access, "--cconfig", cluster.configuration, ...store];
}

function configuration(cluster: Cluster, shards: number): string {
  const servers = cluster.servers.map(
    ({ name, publicAddress, internalAddress }) =>
      `  - {name: ${name}, public: "${publicAddress}", internal: "${internalAddress}"}`,
  );
  const namespace = `  - {name: default, initialShardCount: ${shards}, replicationFactor: ${Math.min(3, servers.length)}}`;
  return ["servers:", ...servers, "namespaces:", namespace, ""].join("\n");
}

/** One machine of the cluster: at most one process at a time, and what stays when it ends. */
export class Member {
  readonly name: string;
  readonly directory: string;
  readonly host: string;
  /** Whether it is stopped by SIGSTOP. */
  paused = false;
  /** What its next process finds in its environment. */
  environment: Readonly<Record<string, string>>;
  readonly #cluster: Cluster;
  readonly #words: readonly string[];
  #process: Bun.Subprocess | undefined;
  #mounted = false;
  /** Where its log ended when the process that runs was started. */
  #logStart = 0;

  constructor(cluster: Cluster, name: string, words: readonly string[], options: ClusterOptions) {
    this.#cluster = cluster;
    this.name = name;
    this.host = cluster.network.hostOf(name);
    this.directory = join(cluster.directory, name);
    this.environment = options.environment?.[name] ?? {};
    this.#words = words;
    mkdirSync(this.directory, { recursive: true });
    const size = options.diskBytes?.[name];
    if (size === undefined) return;
    run("mount", "-t", "tmpfs", "-o", `size=${size}`, "tmpfs", this.directory);
    this.#mounted = true;
  }

  get publicAddress(): string {
    return `${this.host}:${PUBLIC_PORT}`;
  }

  get internalAddress(): string {
    return `${this.host}:${INTERNAL_PORT}`;
  }

  get httpAddress(): string {
    return `${this.host}:${HTTP_PORT}`;
  }

  get running(): boolean {
    return this.#process !== undefined && this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** Whether it has a small disk of its own. */
  get mounted(): boolean {
    return this.#mounted;
  }

  get pid(): number {
    if (this.#process === undefined) throw new Error(`${this.name} was never started`);
    return this.#process.pid;
  }

  /** How the last process ended: its code, or the signal. */
  get exit(): number | string | null {
    return this.#process?.signalCode ?? this.#process?.exitCode ?? null;
  }

  get logFile(): string {
    return join(this.#cluster.directory, `${this.name}.log`);
  }

  /** What the process that runs, or ran last, has written. */
  log(): string {
    return readFileSync(this.logFile, "utf8").slice(this.#logStart);
  }

  /** Starts a process and returns at once. */
  launch(): void {
    if (this.running) throw new Error(`${this.name} runs already`);
    this.#logStart = existsSync(this.logFile) ? readFileSync(this.logFile, "utf8").length : 0;
    const log = openSync(this.logFile, "a");
    this.#process = Bun.spawn([...this.#cluster.network.prefixOf(this.name), ...serverCommand(), ...this.#words], {
      cwd: this.#cluster.directory,
      env: { PATH: process.env.PATH ?? "", HOME: process.env.HOME ?? "", ...this.environment },
      stdin: "ignore",
      stdout: log,
      stderr: log,
    });
    closeSync(log);
    this.paused = false;
  }

  /** Starts a process and waits until its ports are open; rejects when it ends instead. */
  async start(): Promise<void> {
    this.launch();
    const deadline = performance.now() + START_MS_MAX;
    while (!/^internal |^ready |Started Grpc server/m.test(this.log())) {
      if (!this.running) throw new Error(`${this.name} ended (${this.exit}) before it served:\n${this.log()}`);
      if (performance.now() > deadline) throw new Error(`${this.name} does not serve:\n${this.log()}`);
      await Bun.sleep(POLL_MS);
    }
  }

  async kill(): Promise<void> {
    this.#process?.kill("SIGKILL");
    await this.#process?.exited;
    this.paused = false;
  }

  /** SIGTERM, and waits for the end; kills it and rejects when that does not come. */
  async stop(): Promise<void> {
    const timer = setTimeout(() => this.#process?.kill("SIGKILL"), STOP_MS_MAX);
    this.#process?.kill("SIGTERM");
    await this.#process?.exited;
    clearTimeout(timer);
    if (this.exit !== 0) throw new Error(`${this.name} does not end in order (${this.exit}):\n${this.log()}`);
  }

  /** Waits until the process ends by itself. */
  async ends(ms: number): Promise<void> {
    await Promise.race([this.#process?.exited, Bun.sleep(ms)]);
    if (this.running) throw new Error(`${this.name} still runs after ${ms} ms`);
  }

  pause(): void {
    this.#process?.kill("SIGSTOP");
    this.paused = true;
  }

  resume(): void {
    this.#process?.kill("SIGCONT");
    this.paused = false;
  }

  /** Removes what is on its disk; it must not run. */
  wipe(): void {
    this.#assertEnded();
    for (const part of ["db", "wal"]) rmSync(join(this.directory, part), { recursive: true, force: true });
  }

  /** Copies its disk as it stands; it must not run. */
  copy(to: string): void {
    this.#assertEnded();
    rmSync(to, { recursive: true, force: true });
    cpSync(this.directory, to, { recursive: true });
  }

  /** Brings a copy back in place of what is on its disk; it must not run. */
  restore(from: string): void {
    this.wipe();
    cpSync(from, this.directory, { recursive: true });
  }

  /** One call without fields, answered once. */
  async call(port: number, path: string): Promise<Reply> {
    const connection = await withinMs(Connection.open(`${this.host}:${port}`), 1_000);
    try {
      const headers = { authorization: `Bearer ${ADMIN_TOKEN}` };
      return await connection.call(path, new Uint8Array(), { timeoutMs: 5_000, headers });
    } finally {
      await connection.close();
    }
  }

  /** The assignments that it hands to clients now. */
  async assignments(): Promise<{ readonly shard: bigint; readonly leader: string }[]> {
    const connection = await withinMs(Connection.open(this.publicAddress), 500);
    try {
      const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
      const request = toBinary(ShardAssignmentsRequestSchema, {
        $typeName: "io.oxia.proto.v1.ShardAssignmentsRequest",
        namespace: "default",
      });
      const call = connection.open("/io.oxia.proto.v1.OxiaClient/GetShardAssignments", resolve, { timeoutMs: 500 });
      call.send(request);
      call.halfClose();
      void call.ended.then(({ message }) => reject(new Error(message)));
      const assignments = fromBinary(ShardAssignmentsSchema, await promise).namespaces.default?.assignments ?? [];
      return assignments.map(({ shard, leader }) => ({ shard, leader }));
    } finally {
      await connection.close();
    }
  }

  /** The sample of a metric, by its name and labels as they are printed; undefined: it is not there. */
  async metric(sample: string): Promise<number | undefined> {
    const response = await fetch(`http://${this.httpAddress}/metrics`, { signal: AbortSignal.timeout(2_000) });
    const line = (await response.text()).split("\n").find((text) => text.startsWith(`${sample} `));
    return line === undefined ? undefined : Number(line.slice(sample.length + 1));
  }

  /** Gives back its small disk, with all that is on it. */
  unmount(): void {
    if (this.#mounted) run("umount", "-l", this.directory);
    this.#mounted = false;
  }

  #assertEnded(): void {
    if (this.running) throw new Error(`${this.name} runs: its disk cannot be changed under it`);
  }
}

async function withinMs<T>(promise: Promise<T>, ms: number): Promise<T> {
  const late = Bun.sleep(ms).then(() => {
    throw new Error(`no answer within ${ms} ms`);
  });
  return Promise.race([promise, late]);
}
