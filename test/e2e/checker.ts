/**
 * Judges what a server shows against what it was sent and what it acknowledged.
 *
 * Two kinds of keys are under test. An **owner** has keys that nobody else writes and sends its requests in a known
 * order, so after a crash its keys must look as if the first n of its requests had been carried out, for one n
 *
 *     acknowledged <= n <= sent
 *
 * and never in any other way: that one sentence covers lost writes, half-applied batches, deletes that come undone,
 * conditional puts and modification counts. A **register** is one key that many write at the same time; versions give
 * the order of its writes. Over both: a shard gives out version ids in rising order, also across restarts, and holds
 * no key that nobody wrote.
 *
 * Everything here is told what happened and holds no I/O, so that checker.test.ts can plant wrong histories.
 */
import {
  type Answer,
  type Batch,
  carryOut,
  type Expected,
  type Found,
  isUnknown,
  type Key,
  type State,
  type Status,
  show,
  type Unknown,
  type Version,
} from "./model.ts";

/** The server broke a promise. */
export class Violation extends Error {
  override readonly name = "Violation";
}

/** One shard's history: what was told of it over all restarts. */
export class ShardHistory {
  readonly shard: number;
  readonly owners: Owner[] = [];
  readonly registers: Register[] = [];
  /** Highest version id that anybody was told; what is sent from now on must get a higher one. */
  highest = -1;
  readonly #given = new Set<number>();

  constructor(shard: number) {
    this.shard = shard;
  }

  /** The same history once more, to judge one of several servers that start from copies of the same files. */
  copy(): ShardHistory {
    const copy = new ShardHistory(this.shard);
    copy.highest = this.highest;
    for (const versionId of this.#given) copy.#given.add(versionId);
    copy.owners.push(...this.owners.map((owner) => owner.copy(copy)));
    copy.registers.push(...this.registers.map((register) => register.copy(copy)));
    return copy;
  }

  owner(prefix: Key): Owner {
    const owner = new Owner(this, prefix);
    this.owners.push(owner);
    return owner;
  }

  register(key: Key): Register {
    const register = new Register(this, key);
    this.registers.push(register);
    return register;
  }

  /** A put was given `versionId`; `floor` was the highest one told when its request was sent. */
  gave(versionId: number, floor: number, what: string): void {
    if (versionId <= floor) {
      throw new Violation(
        `shard ${this.shard}: ${what} got version ${versionId}, not above ${floor} that was told before`,
      );
    }
    if (this.#given.has(versionId))
      throw new Violation(`shard ${this.shard}: version ${versionId} was given out twice`);
    this.#given.add(versionId);
    if (versionId > this.highest) this.highest = versionId;
  }

  /**
   * Judges all records of the shard, read while nobody writes. What was in doubt is settled by it: afterwards nothing
   * is pending.
   */
  check(records: ReadonlyMap<Key, Found>): void {
    const unexplained = new Map(records);
    for (const owner of this.owners) {
      const own = new Map<Key, Found>();
      for (const [key, found] of records) {
        if (!key.startsWith(owner.prefix)) continue;
        own.set(key, found);
        unexplained.delete(key);
      }
      owner.settle(own);
    }
    for (const register of this.registers) {
      register.settle(records.get(register.key));
      unexplained.delete(register.key);
    }
    for (const key of unexplained.keys()) {
      throw new Violation(`shard ${this.shard}: holds ${show(key)}, which nobody wrote`);
    }
  }

  /** Whether any request awaits its answer or was left in doubt. */
  get inDoubt(): boolean {
    return this.owners.some((owner) => owner.pending > 0) || this.registers.some((register) => register.pending > 0);
  }
}

interface Sent {
  readonly number: number;
  readonly batch: Batch;
  /** The highest version id told when this was sent. */
  readonly floor: number;
}

/** Keys that one client alone writes, with requests in a known order. */
export class Owner {
  readonly history: ShardHistory;
  readonly prefix: Key;
  /** After all acknowledged requests. Read it; only this class writes it. */
  readonly state: State = new Map();
  #pending: Sent[] = [];
  #sent = 0;
  #acknowledged = 0;

  constructor(history: ShardHistory, prefix: Key) {
    this.history = history;
    this.prefix = prefix;
  }

  copy(history: ShardHistory): Owner {
    const copy = new Owner(history, this.prefix);
    for (const [key, expected] of this.state) copy.state.set(key, expected);
    copy.#pending = [...this.#pending];
    copy.#sent = this.#sent;
    copy.#acknowledged = this.#acknowledged;
    return copy;
  }

  get pending(): number {
    return this.#pending.length;
  }

  get acknowledged(): number {
    return this.#acknowledged;
  }

  /** To be called before the bytes leave. */
  send(batch: Batch): void {
    this.#pending.push({ number: this.#sent++, batch, floor: this.history.highest });
  }

  /** The answer to the oldest request that has none yet. */
  acknowledge(answer: Answer): void {
    const sent = this.#pending.shift();
    if (sent === undefined) throw new Violation(`${this.#name()}: an answer without a request`);
    this.#acknowledged++;
    const what = `${this.#name()}, request ${sent.number}`;
    const predicted = carryOut(this.state, sent.batch, (nth) => {
      const version = versionIn(answer, nth, what);
      const old = this.state.get(sent.batch.puts[nth]!.key)?.version;
      const createdMs = old === undefined ? version.modifiedMs : isUnknown(old) ? version.createdMs : old.createdMs;
      if (version.createdMs !== createdMs) {
        throw new Violation(`${what}, put ${nth}: created at ${version.createdMs}, not ${createdMs}`);
      }
      return version;
    });
    same(predicted.deletes, answer.deletes, `${what}: deletes`);
    same(predicted.deleteRanges, answer.deleteRanges, `${what}: range deletes`);
    const statuses = (puts: readonly { status: Status }[]) => puts.map((put) => put.status);
    same(statuses(predicted.puts), statuses(answer.puts), `${what}: puts`);
    let previous: Version | undefined;
    predicted.puts.forEach((put, nth) => {
      if (put.status !== "OK") return;
      const version = versionIn(answer, nth, what);
      const { versionId, modifications } = version;
      if (modifications !== put.modifications) {
        throw new Violation(`${what}, put ${nth}: ${modifications} modifications, not ${put.modifications}`);
      }
      if (previous !== undefined && versionId !== previous.versionId + 1) {
        throw new Violation(`${what}: versions ${previous.versionId} and ${versionId} within one request`);
      }
      if (previous !== undefined && version.modifiedMs !== previous.modifiedMs) {
        throw new Violation(`${what}: times ${previous.modifiedMs} and ${version.modifiedMs} within one request`);
      }
      previous = version;
      this.history.gave(versionId, sent.floor, `${what}, put ${nth}`);
    });
  }

  /** The newest request was refused with the promise that nothing of it happened. Only for owners that send one at a time. */
  refused(): void {
    if (this.#pending.length !== 1)
      throw new Violation(`${this.#name()}: refusal with ${this.#pending.length} pending`);
    this.#pending.pop();
  }

  /** Compares a record that was read while nothing was pending: `undefined` for no such key. */
  read(key: Key, found: Found | undefined): void {
    const difference = recordDifference(key, this.state.get(key), found, new Map());
    if (difference !== undefined) throw new Violation(`${this.#name()}: ${difference}`);
  }

  /** Finds the n for which `records`, all that the server holds under the prefix, is right; goes on from there. */
  settle(records: ReadonlyMap<Key, Found>): void {
    const candidate: State = new Map(this.state);
    const differences: string[] = [];
    for (let applied = 0; ; applied++) {
      const floors = new Map(this.#pending.slice(0, applied).map((sent) => [sent.number, sent.floor]));
      const difference = stateDifference(candidate, records, floors);
      if (difference === undefined) {
        this.#adopt(candidate, records);
        return;
      }
      differences.push(difference);
      const sent = this.#pending[applied];
      if (sent === undefined) break;
      carryOut(candidate, sent.batch, (_, index) => ({ request: sent.number, index }));
    }
    const n = this.#acknowledged;
    throw new Violation(
      `${this.#name()}: no prefix of its requests explains what is there (${this.#pending.length} in doubt)\n` +
        differences.map((difference, applied) => `  with ${n}+${applied} requests: ${difference}`).join("\n"),
    );
  }

  #adopt(candidate: State, records: ReadonlyMap<Key, Found>): void {
    this.state.clear();
    for (const [key, expected] of candidate) {
      if (!isUnknown(expected.version)) {
        this.state.set(key, expected);
        continue;
      }
      const { version } = records.get(key)!;
      this.history.gave(version.versionId, -1, `${this.#name()}: ${show(key)}`);
      this.state.set(key, { ...expected, version });
    }
    this.#pending = [];
  }

  #name(): string {
    return `shard ${this.history.shard}, owner ${show(this.prefix)}`;
  }
}

function versionIn(answer: Answer, nth: number, what: string): Version {
  const version = answer.puts[nth]?.version;
  if (version === undefined) throw new Violation(`${what}, put ${nth}: no version, status ${answer.puts[nth]?.status}`);
  return version;
}

function same(wanted: readonly Status[], got: readonly Status[], what: string): void {
  if (wanted.join() !== got.join()) throw new Violation(`${what}: answered [${got}], not [${wanted}]`);
}

/** The first difference, or undefined. `floors`: for each request in doubt the version above which its versions lie. */
function stateDifference(
  state: State,
  records: ReadonlyMap<Key, Found>,
  floors: ReadonlyMap<number, number>,
): string | undefined {
  /** For each request in doubt the version of its first put, as the records seen so far imply it. */
  const bases = new Map<number, number>();
  for (const [key, expected] of state) {
    const difference = recordDifference(key, expected, records.get(key), bases);
    if (difference !== undefined) return difference;
  }
  for (const key of records.keys()) if (!state.has(key)) return `${show(key)} is there, and should not be`;
  let previous = -1;
  for (const [request, base] of [...bases].sort(([a], [b]) => a - b)) {
    if (base <= Math.max(previous, floors.get(request) ?? -1))
      return `versions go back at request ${request}, to ${base}`;
    previous = base;
  }
  return undefined;
}

function recordDifference(
  key: Key,
  expected: Expected | undefined,
  found: Found | undefined,
  bases: Map<number, number>,
): string | undefined {
  if (expected === undefined) return found && `${show(key)} is there, and should not be`;
  if (found === undefined) return `${show(key)} is missing`;
  const { value, version } = found;
  if (Buffer.compare(value, expected.value) !== 0) {
    return `${show(key)} holds ${excerpt(value)}, not ${excerpt(expected.value)}`;
  }
  if (version.modifications !== expected.modifications) {
    return `${show(key)} has ${version.modifications} modifications, not ${expected.modifications}`;
  }
  return isUnknown(expected.version)
    ? impliedBase(key, expected.version, version, bases)
    : versionDifference(key, expected.version, version);
}

function versionDifference(key: Key, expected: Version, found: Version): string | undefined {
  const fields = ["versionId", "createdMs", "modifiedMs"] as const;
  const field = fields.find((name) => expected[name] !== found[name]);
  return field && `${show(key)} has ${field} ${found[field]}, not ${expected[field]}`;
}

function impliedBase(key: Key, unknown: Unknown, found: Version, bases: Map<number, number>): string | undefined {
  const base = found.versionId - unknown.index;
  const known = bases.get(unknown.request);
  bases.set(unknown.request, base);
  if (known === undefined || known === base) return undefined;
  return `${show(key)} has version ${found.versionId}: not consecutive within request ${unknown.request}`;
}

function excerpt(value: Uint8Array): string {
  const head = Buffer.from(value.subarray(0, 40)).toString("latin1");
  return `${JSON.stringify(head)} (${value.length} bytes)`;
}

/** One write of a register. */
export interface Attempt {
  readonly value: Uint8Array;
  readonly expected: number | undefined;
  readonly floor: number;
}

interface Written {
  readonly versionId: number;
  readonly modifications: number;
  readonly value: Uint8Array;
  readonly expected: number | undefined;
}

/** One key that many clients put at the same time, with and without an expected version. It is never deleted. */
export class Register {
  readonly history: ShardHistory;
  readonly key: Key;
  #base: Written | undefined;
  #written: Written[] = [];
  #doubtful = new Set<Attempt>();

  constructor(history: ShardHistory, key: Key) {
    this.history = history;
    this.key = key;
  }

  copy(history: ShardHistory): Register {
    const copy = new Register(history, this.key);
    copy.#base = this.#base;
    copy.#written = [...this.#written];
    copy.#doubtful = new Set(this.#doubtful);
    return copy;
  }

  get pending(): number {
    return this.#doubtful.size;
  }

  /** The newest write that was acknowledged: -1 for none. A read that is sent now must show this version or a later one. */
  get newest(): number {
    return this.#written.reduce((newest, { versionId }) => Math.max(newest, versionId), this.#base?.versionId ?? -1);
  }

  /** To be called before the bytes leave. Values must be unique. */
  send(value: Uint8Array, expected?: number): Attempt {
    const attempt = { value, expected, floor: this.history.highest };
    this.#doubtful.add(attempt);
    return attempt;
  }

  acknowledge(attempt: Attempt, status: Status, version: Version | undefined): void {
    this.#doubtful.delete(attempt);
    if (status === "OK" && version !== undefined) {
      this.history.gave(version.versionId, attempt.floor, `register ${show(this.key)}`);
      const { versionId, modifications } = version;
      this.#written.push({ versionId, modifications, value: attempt.value, expected: attempt.expected });
      return;
    }
    // A conditional put fails only because somebody else wrote; whoever did is acknowledged, or in doubt.
    const overtaken = this.newest > (attempt.expected ?? Number.POSITIVE_INFINITY) || this.#doubtful.size > 0;
    if (status !== "UNEXPECTED_VERSION_ID" || attempt.expected === undefined || !overtaken) {
      throw new Violation(`${this.#name()}: put with expected version ${attempt.expected} answered ${status}`);
    }
  }

  /** The attempt was refused with the promise that nothing of it happened. */
  refused(attempt: Attempt): void {
    this.#doubtful.delete(attempt);
  }

  /** Judges a read; `newestBefore` is what `newest` was when the read was sent. */
  read(found: Found | undefined, newestBefore: number): void {
    if ((found?.version.versionId ?? -1) < newestBefore) {
      throw new Violation(
        `${this.#name()}: a read shows version ${found?.version.versionId}, after ${newestBefore} was told`,
      );
    }
  }

  settle(found: Found | undefined): void {
    this.#written.sort((a, b) => a.versionId - b.versionId);
    const last = this.#written.at(-1) ?? this.#base;
    if (found === undefined) {
      if (last !== undefined) throw new Violation(`${this.#name()}: gone, last written as version ${last.versionId}`);
      this.#doubtful.clear();
      return;
    }
    this.#settleLast(found, last);
    this.#checkCounts();
    this.#base = this.#written.at(-1) ?? this.#base;
    this.#written = [];
    this.#doubtful.clear();
  }

  /** What is there is the last acknowledged write, or one in doubt that came after it. */
  #settleLast(found: Found, last: Written | undefined): void {
    const { versionId, modifications } = found.version;
    if (versionId === last?.versionId) {
      if (Buffer.compare(found.value, last.value) === 0 && modifications === last.modifications) return;
      throw new Violation(
        `${this.#name()}: version ${versionId} holds ${excerpt(found.value)}, ${modifications} modifications`,
      );
    }
    const attempt = [...this.#doubtful].find(({ value }) => Buffer.compare(value, found.value) === 0);
    if (attempt === undefined || versionId <= (last?.versionId ?? -1)) {
      const lastly = last === undefined ? "nothing" : `version ${last.versionId}`;
      throw new Violation(
        `${this.#name()}: shows version ${versionId}, ${excerpt(found.value)}, after ${lastly} was told`,
      );
    }
    this.history.gave(versionId, attempt.floor, `register ${show(this.key)}`);
    this.#doubtful.delete(attempt);
    this.#written.push({ versionId, modifications, value: attempt.value, expected: attempt.expected });
  }

  /** Each write counts once: a gap in the counts is a write in doubt that was carried out, and there are only so many. */
  #checkCounts(): void {
    let before = this.#base;
    let unaccounted = 0;
    for (const written of this.#written) {
      const gap = written.modifications - (before?.modifications ?? -1) - 1;
      if (gap < 0) throw new Violation(`${this.#name()}: modifications go back at version ${written.versionId}`);
      unaccounted += gap;
      // The write before a conditional one is the one that it names.
      if (gap === 0 && written.expected !== undefined && written.expected !== (before?.versionId ?? -1)) {
        throw new Violation(
          `${this.#name()}: version ${written.versionId} expected ${written.expected}, not ${before?.versionId}`,
        );
      }
      if (gap > 0 && written.expected !== undefined && written.expected <= (before?.versionId ?? -1)) {
        throw new Violation(
          `${this.#name()}: version ${written.versionId} overwrote what came after ${written.expected}`,
        );
      }
      before = written;
    }
    if (unaccounted > this.#doubtful.size) {
      throw new Violation(`${this.#name()}: ${unaccounted} writes are counted that nobody sent, or twice`);
    }
  }

  #name(): string {
    return `shard ${this.history.shard}, register ${show(this.key)}`;
  }
}
