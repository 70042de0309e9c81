/**
 * The decisions of src/protocol played together: one shard, five data servers, replication factor 3, two coordinators
 * over a compare-and-swap store. Unary messages are lost, late, repeated and reordered; Replicate streams are ordered and
 * break; servers crash and lose the unsynced tail, a disk is lost or set back. Only the I/O is made up: every decision is
 * the one of src/protocol, or, with a planted violation, that one with one rule taken away.
 *
 * Source: the randomized model of safety.md; TLA+ NoLossOfConfirmedWrite, LegalLeaderAndEnsemble.
 */

import type { Head, Offset, Term } from "../../../src/model/ids.ts";
import type { StoredShard } from "../../../src/protocol/ensemble-change.ts";
import { SimRandom } from "../../sim/random.ts";
import { Coordinator } from "./coordinator.ts";
import { DataServer } from "./data-server.ts";
import type { Stream } from "./stream.ts";

/** A rule taken away. What each loses is told in src/protocol/model.test.ts. */
export type Plant =
  | "votes by address"
  | "ensemble stored with the result"
  | "best head of the new ensemble only"
  | "majority of the union"
  | "change dropped, not turned round"
  | "leads a term twice"
  | "ids stored with the result"
  | "lost CAS reply taken for success"
  | "head read before the barrier"
  | "promise not synced"
  | "older disk not noticed"
  | "stamp not checked"
  | "commits earlier terms by counting"
  | "commit told before the own-term entry"
  | "acks before fsync"
  | "observer counts"
  | "held entry acked unread"
  | "truncation trusted and entry before unchecked"
  | "applies what the log holds"
  | "read joins a round on its way"
  | "read without a round";

/** "set back": to an older state, as the watermark finds out. "copied": to an older copy of all of it, as only a confirmed stamp can tell. */
export type DiskFault = "kept" | "lost" | "set back" | "copied";

export interface Faults {
  /** One message in so many is repeated. */
  readonly repeatOneIn: number;
  /** One message in so many is lost. */
  readonly loseOneIn: number;
  /** How often a process ends, in hundredths of the steps. */
  readonly crashesPercent: number;
  /** What becomes of one disk in a run. */
  readonly disk: DiskFault;
  readonly swaps: boolean;
  /** A swap is stored as soon as the new server is observing: what waits for it to catch up and freezes is for speed. */
  readonly hasty: boolean;
  /** Leaders send a snapshot where they could do without. */
  readonly snapshots: boolean;
  /** A coordinator that does not learn what became of one CAS in four. */
  readonly lostCas: boolean;
  /** Whether the shard begins with empty slots. */
  readonly newShard: boolean;
}

/** A log entry: its place, the chain up to it, and which write it is. */
export interface Entry extends Head {
  readonly uid: number;
}

export interface Tally {
  elections: number;
  swaps: number;
  commits: number;
  reads: number;
  turned: number;
  snapshots: number;
  deletes: number;
}

const STEP_MS = 5;

export class World {
  readonly plant: Plant | undefined;
  readonly faults: Faults;
  readonly random: SimRandom;
  readonly servers: readonly DataServer[];
  readonly coordinators: readonly Coordinator[];
  store: { version: number; doc: StoredShard };
  /** Also in the store: the last stamp that each server is known to hold. */
  readonly confirmedStamps = new Map<string, number>();
  readonly tally: Tally = { elections: 0, swaps: 0, commits: 0, reads: 0, turned: 0, snapshots: 0, deletes: 0 };
  violation: string | undefined;
  readonly trace: string[] = [];
  readonly #traced: boolean;
  #mail: (() => void)[] = [];
  #streams: Stream[] = [];
  readonly #cut = new Set<string>();
  readonly #unreached = new Set<string>();
  readonly #committed: { uid: number; term: Term }[] = [];
  readonly #leaders = new Map<Term, string>();
  #diskDone = false;
  #steps = 0;
  #uids = 0;
  #stamps = 0;
  #ids = 0n;

  constructor(seed: number, faults: Faults, plant?: Plant, traced = false) {
    this.plant = plant;
    this.faults = faults;
    this.#traced = traced;
    this.random = new SimRandom(seed);
    this.servers = ["a", "b", "c", "d", "e"].map((name) => new DataServer(this, name));
    const members = this.servers.slice(0, 3).map(({ name }) => {
      if (!faults.newShard) this.server(name).create(this.newId());
      return { server: name, replicaId: this.server(name).replica.id, countedTerm: -1 };
    });
    const doc: StoredShard = {
      term: -1,
      leader: undefined,
      members,
      formerMembers: [],
      everLed: false,
      adoptedTerm: undefined,
      pendingDeletes: [],
    };
    this.store = { version: 0, doc };
    this.coordinators = [new Coordinator(this, "x"), new Coordinator(this, "y")];
  }

  run(steps: number): this {
    this.coordinators[0]!.tick();
    for (let step = 0; step < steps && this.violation === undefined; step++) {
      this.#steps = step;
      this.#step(this.random.int(0, 100));
    }
    return this;
  }

  nowMs(): number {
    return this.#steps * STEP_MS;
  }

  has(plant: Plant): boolean {
    return this.plant === plant;
  }

  oneIn(n: number): boolean {
    return this.random.int(0, n) === 0;
  }

  pick<T>(items: readonly T[]): T | undefined {
    return items.length === 0 ? undefined : items[this.random.int(0, items.length)];
  }

  server(name: string): DataServer {
    return this.servers.find((server) => server.name === name)!;
  }

  newId(): bigint {
    this.#ids += 1n;
    return this.#ids;
  }

  /** From a block that is reserved by CAS: no two coordinators ever use one twice. */
  newStamp(): number {
    this.#stamps += 1;
    return this.#stamps;
  }

  newUid(): number {
    this.#uids += 1;
    return this.#uids;
  }

  log(text: () => string): void {
    if (this.#traced) this.trace.push(text());
  }

  fail(why: string): void {
    this.violation ??= why;
    this.log(() => `VIOLATION ${why}`);
  }

  /** A unary call or its answer: delivered some time, never, or twice. */
  send(deliver: () => void): void {
    if (this.faults.loseOneIn > 0 && this.oneIn(this.faults.loseOneIn)) return;
    this.#mail.push(deliver);
    if (this.faults.repeatOneIn > 0 && this.oneIn(this.faults.repeatOneIn)) this.#mail.push(deliver);
  }

  /** A coordinator's call to a data server. */
  call(server: string, deliver: (server: DataServer) => void): void {
    this.send(() => {
      if (!this.#unreached.has(server)) deliver(this.server(server));
    });
  }

  addStream(stream: Stream): void {
    this.#streams = this.#streams.filter(({ open }) => open);
    this.#streams.push(stream);
  }

  closeStreamsOf(server: DataServer): void {
    for (const stream of this.#streams) if (stream.from === server || stream.to === server) this.closeStream(stream);
  }

  closeStream(stream: Stream): void {
    if (!stream.open) return;
    stream.open = false;
    // What is on its way back may be read late, when the leader has another stream or another term.
    for (const ack of stream.up) this.send(() => stream.from.acked(stream, ack));
    stream.from.streamClosed(stream);
    stream.to.inboundClosed(stream);
  }

  reaches(from: DataServer, to: DataServer): boolean {
    return !this.#cut.has(from.name + to.name);
  }

  // --- what must hold -------------------------------------------------------------------------------------------

  leads(server: DataServer, term: Term): void {
    this.log(() => `${server.name} leads T${term}: ${server.describe()}`);
    const other = this.#leaders.get(term);
    if (other !== undefined) this.fail(`term ${term} is led twice: by ${other}, then by ${server.name}`);
    this.#leaders.set(term, server.name);
  }

  /** A leader has committed, or a follower has applied. */
  commits(server: DataServer, entry: Entry, byLeader: boolean): void {
    const known = this.#committed[entry.offset];
    if (known !== undefined && known.uid !== entry.uid) {
      this.fail(`${server.name} commits ${entry.uid} at ${entry.offset}, where ${known.uid} is committed`);
    } else if (known === undefined && !byLeader) {
      this.fail(`${server.name} applies ${entry.uid} at ${entry.offset}, which no leader has committed`);
    } else if (known === undefined) {
      this.#committed[entry.offset] = { uid: entry.uid, term: server.replica.promise };
      this.tally.commits += 1;
      this.log(() => `${server.name} T${server.replica.promise} commits ${entry.offset}=${entry.uid}`);
    }
  }

  serves(server: DataServer, log: readonly Entry[]): void {
    const { promise } = server.replica;
    this.log(() => `${server.name} serves T${promise}`);
    const lost = this.#committed.findIndex(({ uid, term }, offset) => term <= promise && log[offset]?.uid !== uid);
    if (lost >= 0) this.fail(`${server.name} leads T${promise} without the committed entry ${lost}`);
  }

  committedOffset(): Offset {
    return this.#committed.length - 1;
  }

  answersRead(server: DataServer, applied: Offset, committedAtArrival: Offset): void {
    this.tally.reads += 1;
    if (applied < committedAtArrival) this.fail(`${server.name} answers a read at ${applied} of ${committedAtArrival}`);
  }

  // --- what may happen ------------------------------------------------------------------------------------------

  #step(chance: number): void {
    const leaders = this.servers.filter((server) => server.leading);
    if (chance < 14) this.pick(this.coordinators)!.tick();
    else if (chance < 40) this.#deliver();
    else if (chance < 45) this.pick(leaders)?.clientWrites();
    else if (chance < 47) this.pick(leaders)?.clientReads();
    else if (chance < 58) this.pick(this.servers)!.sync();
    else if (chance < 63) this.pick(leaders)?.openStreams();
    else if (chance < 72) this.pick(leaders)?.push();
    else if (chance < 96) this.#flow();
    else if (chance < 97) this.pick(this.coordinators)!.handshake(this.pick(this.servers)!.name);
    else if (chance < 98) this.#link();
    else if (chance < 99) this.#away();
    else this.#disk();
    if (this.random.unit() * 100 < this.faults.crashesPercent) this.#crash();
  }

  #deliver(): void {
    this.#deliverOne();
    if (this.oneIn(2)) this.#deliverOne();
  }

  #deliverOne(): void {
    if (this.#mail.length === 0) return;
    const index = this.random.int(0, this.#mail.length);
    const deliver = this.#mail[index]!;
    this.#mail[index] = this.#mail[this.#mail.length - 1]!;
    this.#mail.pop();
    deliver();
  }

  #flow(): void {
    const stream = this.pick(this.#streams.filter(({ open, down, up }) => open && down.length + up.length > 0));
    for (let moves = this.random.int(1, 5); moves > 0 && stream?.open === true; moves--) {
      const down = stream.down.length > 0 && (stream.up.length === 0 || this.oneIn(2));
      const message = down ? stream.down.shift() : undefined;
      const ack = down ? undefined : stream.up.shift();
      if (message !== undefined) stream.to.receive(stream, message);
      if (ack !== undefined) stream.from.acked(stream, ack);
    }
  }

  #crash(): void {
    if (this.oneIn(4)) this.pick(this.coordinators)!.crash();
    else this.pick(this.servers)!.crash();
  }

  #link(): void {
    const [from, to] = [this.pick(this.servers)!, this.pick(this.servers)!];
    if (this.#cut.delete(from.name + to.name) || !this.oneIn(4)) return;
    this.#cut.add(from.name + to.name);
    for (const stream of this.#streams) if (stream.from === from && stream.to === to) this.closeStream(stream);
  }

  /** A server that no coordinator reaches, for a while. */
  #away(): void {
    const { name } = this.pick(this.servers)!;
    if (!this.#unreached.delete(name) && this.oneIn(3)) this.#unreached.add(name);
  }

  #disk(): void {
    const { disk } = this.faults;
    if (disk === "kept" || this.#diskDone || !this.oneIn(4)) return;
    this.#diskDone = this.pick(this.servers)!.loseDisk(disk);
  }
}
