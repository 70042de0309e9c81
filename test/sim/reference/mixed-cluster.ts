/**
 * A small cluster on simulated machines in which each server, and the coordinator, is either ours or a reference peer:
 * one shard, clients of registers, faults that leave every disk as it is. What may be judged of a history depends on the
 * mix (safety.md §11): see `Mix.judged`.
 */
import { drawDiskRates, SimDisk } from "../disk.ts";
import { History, type Outcome } from "../history.ts";
import { checkLinearizable } from "../linearizability.ts";
import { Machine } from "../machine.ts";
import { SimMetadata } from "../metadata-store.ts";
import { type Channel, Network } from "../network.ts";
import { CALM, drawNetworkRates } from "../network-rates.ts";
import { type Life, SimNode } from "../node.ts";
import { SimRandom } from "../random.ts";
import { Scheduler, SimulationStuck } from "../scheduler.ts";
import { Trace } from "../trace.ts";
import { ReferenceMetadata } from "./coordinator.ts";
import { COORDINATORS, type ProgramParts, SERVERS, STORE_ADDRESS } from "./programs.ts";
import { askRegisters, isTurnedDown, type RegisterOperation } from "./registers.ts";
import { checkAtomic } from "./zones.ts";

export type Kind = "varia" | "reference";

export interface Mix {
  readonly name: string;
  readonly servers: readonly Kind[];
  readonly coordinator: Kind;
  /**
   * "all": every answer is linearizable with all others.
   * "puts": puts that were acknowledged by anybody, and what Varia leaders answer to gets. A reference leader answers reads
   * and conditions by what it believes.
   * "nothing": only that it serves in the end.
   */
  readonly judged: "all" | "puts" | "nothing";
  /**
   * The server of ours leads when faults begin, and they spare its machine, so that it mostly goes on leading. A run in
   * which a reference server has led others of its kind is not judged: what they lose is theirs to lose.
   */
  readonly oursLeads?: boolean;
}

export interface MixedServer {
  readonly kind: Kind;
  readonly address: string;
  readonly machine: Machine;
  readonly disk: SimDisk;
}

const KEYS = ["a", "b", "c"];
const CLIENTS = 3;
const OPERATIONS = 60;
const FAULTS = 20;
/** Servers are there before the coordinator. */
const START_MS = 100;
/** The reference's waits between retries grow up to a minute; two of them may follow each other. */
const RECOVERY_MS_MAX = 300_000;

export class MixedCluster {
  readonly scheduler: Scheduler;
  readonly network: Network;
  readonly random: SimRandom;
  readonly servers: readonly MixedServer[];
  readonly coordinator: Machine;
  readonly history = new History();
  /** What our coordinator stores. */
  readonly metadata = new SimMetadata();
  readonly parts: ProgramParts;
  readonly #mix: Mix;
  readonly #clients: readonly Life[];
  /** Which kinds of servers have acknowledged anything. */
  readonly answered = new Set<Kind>();
  #leading: MixedServer | undefined;

  constructor(seed: number, mix: Mix, options: { readonly calm?: boolean } = {}) {
    this.#mix = mix;
    this.random = new SimRandom(seed);
    this.scheduler = new Scheduler({ trace: new Trace({ seed, linesMax: 2_000 }) });
    this.network = new Network(this.scheduler, this.random.split("network"), CALM);
    const addresses = mix.servers.map((_, nth) => `s${nth + 1}:6649`);
    this.parts = {
      network: this.network,
      addresses,
      random: this.random.split("programs"),
      reference: new ReferenceMetadata(addresses),
      coordinator: undefined,
    };
    this.servers = mix.servers.map((kind, nth) => this.#server(kind, addresses[nth]!, options.calm === true));
    this.coordinator = this.#machine("coordinator", (life) => COORDINATORS[mix.coordinator](this.parts, life));
    this.#clients = Array.from({ length: CLIENTS }, (_, nth) => {
      const node = new SimNode(this.scheduler, `client ${nth + 1}`);
      this.network.attach(node);
      return node.start();
    });
  }

  start({ coordinator = true } = {}): void {
    const store = new SimNode(this.scheduler, "store");
    this.network.attach(store);
    this.network.channel(store.start()).listen(STORE_ADDRESS, this.metadata.service());
    for (const { machine } of this.servers) machine.start();
    if (coordinator) this.scheduler.after(START_MS, "start", () => this.coordinator.start());
  }

  /** The network as one of the clients sees it: for tests that play a coordinator or a leader. */
  channel(): Channel {
    return this.network.channel(this.#clients[0]!);
  }

  /** A first put in calm; the workload under faults; then calm: it serves again, and what was answered is judged. */
  run(): void {
    this.start();
    this.scheduler.complete("first put", () => this.insist({ kind: "put", key: "z", value: "first" }), RECOVERY_MS_MAX);
    if (this.#mix.oursLeads === true)
      this.scheduler.complete("ours leads", () => this.#makeOursLead(), RECOVERY_MS_MAX);
    this.network.rates = drawNetworkRates(this.random.split("rates"));
    for (const [nth, life] of this.#clients.entries()) {
      this.scheduler.spawn(`client ${nth + 1}`, () => this.#client(life, nth));
    }
    this.scheduler.spawn("faults", () => this.#injectFaults());
    const { scheduler } = this;
    const until = () => !scheduler.waiting().some((flow) => flow === "faults" || flow.startsWith("client "));
    if (scheduler.run({ untilMs: scheduler.nowMs + 600_000, until }) !== "until") {
      throw new SimulationStuck(`these wait: ${scheduler.waiting().join(", ")}`);
    }
    this.settle();
  }

  /** It serves: a put succeeds, and all keys can be read. Then the history is judged. */
  settle(): void {
    const { scheduler } = this;
    const last = this.random.int(0, 1_000_000);
    scheduler.complete(
      "last put",
      () => this.insist({ kind: "put", key: "z", value: `last ${last}` }),
      RECOVERY_MS_MAX,
    );
    for (const key of KEYS) scheduler.complete("last get", () => this.insist({ kind: "get", key }), RECOVERY_MS_MAX);
    if (!this.isJudged) return;
    if (this.#mix.judged === "all") checkLinearizable(this.history.entries());
    else if (this.#mix.judged === "puts") checkAtomic(this.history.entries());
  }

  /** Whether the mix promises anything of this run. */
  get isJudged(): boolean {
    return this.#mix.oursLeads !== true || !this.answered.has("reference");
  }

  async #makeOursLead(): Promise<void> {
    for (let n = 0; this.#leading?.kind !== "varia"; n++) {
      this.#leading?.machine.end("killed", 2_000);
      await this.scheduler.sleep(3_000);
      await this.insist({ kind: "put", key: "z", value: `ours ${n}` });
    }
    this.answered.delete("reference");
  }

  /** Asks one server after the other until there is an answer. */
  async insist(operation: RegisterOperation): Promise<Outcome> {
    for (;;) {
      for (const server of this.servers) {
        const outcome = await this.ask(this.#clients[0]!, "last", server, operation);
        if (outcome !== undefined) return outcome;
        if (operation.kind === "put") operation = { ...operation, value: `${operation.value}'` };
      }
      await this.scheduler.sleep(200);
    }
  }

  /** One operation at the n-th server. */
  askServer(nth: number, operation: RegisterOperation): Promise<Outcome | undefined> {
    return this.ask(this.#clients[0]!, "by hand", this.servers[nth]!, operation);
  }

  /** Who answered last. */
  get leading(): MixedServer | undefined {
    return this.#leading;
  }

  /** One operation at one server, noted in the history. Undefined: turned down, or no answer. */
  async ask(
    life: Life,
    client: string,
    server: MixedServer,
    operation: RegisterOperation,
  ): Promise<Outcome | undefined> {
    const pending = this.history.invoke(client, operation);
    try {
      const outcome = await askRegisters(this.network.channel(life), server.address, operation);
      this.answered.add(server.kind);
      this.#leading = server;
      const counts = this.#mix.judged === "all" || server.kind === "varia" || operation.kind === "put";
      if (counts) pending.returned(outcome);
      else pending.refused();
      return outcome;
    } catch (error) {
      if (isTurnedDown(error)) pending.refused();
      else pending.unknown();
      return undefined;
    }
  }

  // --- inside -------------------------------------------------------------------------------------------------------

  #machine(name: string, main: (life: Life) => Promise<void>): Machine {
    const node = new SimNode(this.scheduler, name);
    this.network.attach(node);
    return new Machine({ node, random: this.random.split(name), main });
  }

  #server(kind: Kind, address: string, calm: boolean): MixedServer {
    const [name] = address.split(":") as [string];
    const disks: SimDisk[] = [];
    const machine = this.#machine(name, (life) => SERVERS[kind](this.parts, { address, life, disk: disks[0]! }));
    const rates = calm ? undefined : drawDiskRates(this.random.split(`disk rates ${name}`));
    const disk = new SimDisk(machine.node, this.random.split(`disk ${name}`), rates);
    disks.push(disk);
    return { kind, address, machine, disk };
  }

  async #client(life: Life, nth: number): Promise<void> {
    const draws = this.random.split(`client ${nth}`);
    let server = draws.pick(this.servers);
    const versions = new Map<string, number>();
    for (let n = 0; n < OPERATIONS; n++) {
      await this.scheduler.sleep(draws.between(0, 200));
      const operation = this.#operation(draws, `${nth}/${n}`, versions);
      const outcome = await this.ask(life, `client ${nth + 1}`, server, operation);
      if (outcome === undefined) server = draws.pick(this.servers);
      else if (outcome.status === "OK") {
        const version = outcome.version ?? outcome.record?.version;
        if (version !== undefined) versions.set(operation.key, version);
      }
    }
  }

  #operation(draws: SimRandom, value: string, versions: ReadonlyMap<string, number>): RegisterOperation {
    const key = draws.pick(KEYS);
    if (draws.chance(0.4)) return { kind: "get", key };
    if (this.#mix.judged !== "all") return { kind: "put", key, value };
    const expected = draws.chance(0.4) ? { expected: versions.get(key) ?? -1 } : {};
    return draws.chance(0.2) ? { kind: "delete", key, ...expected } : { kind: "put", key, value, ...expected };
  }

  async #injectFaults(): Promise<void> {
    const random = this.random.split("faults");
    const spared = ({ kind }: MixedServer) => this.#mix.oursLeads === true && kind === "varia";
    const machines = [
      ...this.servers.filter((server) => !spared(server)).map(({ machine }) => machine),
      this.coordinator,
    ];
    for (let n = 0; n < FAULTS; n++) {
      await this.scheduler.sleep(random.between(0, 1_000));
      this.#injectFault(random, machines);
    }
    await this.scheduler.sleep(random.between(0, 2_000));
    this.calmDown();
  }

  #injectFault(random: SimRandom, machines: readonly Machine[]): void {
    const [first, b] = random.shuffled(machines) as [Machine, Machine];
    const leader = this.#leading?.machine;
    const spared = leader === undefined || leader === b || !machines.includes(leader);
    const a = spared || random.chance(0.5) ? first : leader;
    const others = machines.filter((other) => other !== a).map(({ node }) => node);
    random.pick([
      () => this.network.cut(a.node, b.node),
      () => this.network.partition([a.node], others),
      () => this.network.healAll(),
      () => a.node.pause(),
      () => machines.forEach(({ node }) => void node.resume()),
      () => a.end("killed", random.between(0, 2_000)),
      () => a.end("power", random.between(0, 2_000)),
      () => this.network.reset(a.node, b.node),
    ])();
  }

  /** No more faults. */
  calmDown(): void {
    this.network.healAll();
    this.network.rates = CALM;
    for (const machine of [...this.servers.map((server) => server.machine), this.coordinator]) {
      machine.node.resume();
      machine.allowUp();
    }
  }
}
