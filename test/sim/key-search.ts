/** The search for an order of one key's operations that an atomic register could have given: see linearizability.ts. */
import { describe } from "./history.ts";
import { isIndexed, type KeyOperation, NotLinearizable } from "./key-operations.ts";

/** The history is too large to be judged: neither right nor wrong. */
export class Undecided extends Error {
  override readonly name = "Undecided";
}

/** A key after some of its operations. */
interface State {
  /** The put whose record is there; undefined: none is. A put with an unknown version is one whose value nobody read. */
  readonly record: KeyOperation | undefined;
  /** The highest version so far that is known. */
  readonly floor: number;
}

/** One operation in the list of those that are still to come, in the order in which they were sent. */
interface Node {
  readonly operation: KeyOperation;
  /** Random words that stand for the operation in the hash of a set. */
  readonly low: number;
  readonly high: number;
  /** Of a put whose version is known: its place among these. */
  rank: number;
  previous: Node | undefined;
  next: Node | undefined;
}

interface Frame {
  readonly state: State;
  /** What was taken to get here, in order. */
  readonly taken: Node[];
  readonly choices: readonly Node[];
  tried: number;
}

export interface SearchOptions {
  readonly keyOperationsMax?: number;
  readonly statesMax?: number;
  readonly comparisonsMax?: number;
}

export class KeySearch {
  readonly #key: string;
  readonly #operationsMax: number;
  readonly #statesMax: number;
  readonly #comparisonsMax: number;
  readonly #operations: readonly KeyOperation[];
  /** Ends of the two lists: of what has happened for certain, and of what may have happened. */
  readonly #certain: Node;
  readonly #perhaps: Node;
  #certainLeft = 0;
  readonly #ranked: Node[];
  /** How many of the puts with a known version are taken: those with the lowest ones. */
  #rankedTaken = 0;
  #low = 0;
  #high = 0;
  /** By what has happened for certain and the state: how often each effect was taken of what may never have happened. */
  readonly #visited = new Map<string, ReadonlyMap<string, number>[]>();
  #states = 0;
  #comparisons = 0;
  readonly #used = new Map<string, number>();
  readonly #ids = new Map<KeyOperation, number>();
  /** By put: reads of it that are still to come. */
  readonly #readsLeft = new Map<KeyOperation, number>();
  /** For the message: where the search came furthest. */
  #fewestLeft = Number.POSITIVE_INFINITY;
  #stuck: readonly KeyOperation[] = [];
  #holding: readonly KeyOperation[] = [];

  constructor(key: string, operations: readonly KeyOperation[], options: SearchOptions) {
    this.#key = key;
    this.#operations = operations;
    this.#operationsMax = options.keyOperationsMax ?? 20_000;
    this.#statesMax = options.statesMax ?? 1_000_000;
    this.#comparisonsMax = options.comparisonsMax ?? 30_000_000;
    const nodes = operations.map((operation, nth) => {
      this.#ids.set(operation, nth);
      this.#countRead(operation, 1);
      return makeNode(operation, nth);
    });
    const certain = nodes.filter(({ operation }) => operation.returned !== Number.POSITIVE_INFINITY);
    this.#certainLeft = certain.length;
    this.#certain = linked(certain);
    this.#perhaps = linked(nodes.filter(({ operation }) => operation.returned === Number.POSITIVE_INFINITY));
    this.#ranked = nodes.filter(({ operation }) => operation.kind === "put" && operation.version !== undefined);
    this.#ranked.sort((a, b) => a.operation.version! - b.operation.version!);
    for (const [rank, node] of this.#ranked.entries()) node.rank = rank;
  }

  /** Throws NotLinearizable, or Undecided. */
  run(): void {
    if (this.#operations.length > this.#operationsMax) {
      throw new Undecided(
        `key ${this.#key} has ${this.#operations.length} operations, more than the ${this.#operationsMax} that are judged`,
      );
    }
    const frames: Frame[] = [this.#enter({ record: undefined, floor: -1 }, [], undefined)];
    while (this.#certainLeft > 0) {
      const frame = frames.at(-1);
      if (frame === undefined) throw this.#notLinearizable();
      const choice = frame.choices[frame.tried++];
      if (choice === undefined) {
        frames.pop();
        for (const node of frame.taken.reverse()) this.#putBack(node);
        continue;
      }
      const state = after(choice.operation, frame.state);
      this.#take(choice);
      const before = choice.operation.returned === Number.POSITIVE_INFINITY ? frame.state : undefined;
      if (this.#isNew(state, before)) frames.push(this.#enter(state, [choice], before));
      else this.#putBack(choice);
    }
  }

  /**
   * Takes all that only looks and fits, then lists what can be next. `before`: the state before a change that may never
   * have happened; such a change is put off until what follows would not fit without it.
   */
  #enter(state: State, taken: Node[], before: State | undefined): Frame {
    const takenBefore = taken.length;
    let window = this.#window();
    for (;;) {
      const fitting = window.filter(({ operation }) => isLook(operation) && fits(operation, state));
      if (fitting.length === 0) break;
      for (const node of fitting) {
        this.#take(node);
        taken.push(node);
      }
      window = this.#window();
    }
    if (this.#certainLeft < this.#fewestLeft) {
      this.#fewestLeft = this.#certainLeft;
      this.#stuck = window.map(({ operation }) => operation);
      this.#holding = this.#readsOf(state);
    }
    let choices = this.#choices(window, state);
    if (before !== undefined && taken.length === takenBefore) {
      choices = choices.filter(({ operation }) => !fits(operation, before));
    }
    return { state, taken, choices, tried: 0 };
  }

  /** What began before the first end of all that is still to come. */
  #window(): Node[] {
    const window: Node[] = [];
    let firstEnd = Number.POSITIVE_INFINITY;
    for (let node = this.#certain.next; node !== undefined; node = node.next) {
      if (node.operation.invoked > firstEnd) break;
      window.push(node);
      firstEnd = Math.min(firstEnd, node.operation.returned);
    }
    return window;
  }

  /** The changes that can be next: what has happened for certain before what may have happened. */
  #choices(window: readonly Node[], state: State): Node[] {
    // every change takes the record away, and no put happens twice
    if (this.#isRead(state)) return [];
    const choices = new Map<string, Node>();
    let firstEnd = Number.POSITIVE_INFINITY;
    for (const node of window) {
      const { operation } = node;
      firstEnd = Math.min(firstEnd, operation.returned);
      if (isLook(operation) || !fits(operation, state)) continue;
      if (node.rank >= 0) {
        if (node.rank === this.#rankedTaken) choices.set("put", node);
        continue;
      }
      const effect = effectOf(operation);
      const other = choices.get(effect);
      if (other === undefined || operation.returned < other.operation.returned) choices.set(effect, node);
    }
    for (let node = this.#perhaps.next; node !== undefined; node = node.next) {
      const { operation } = node;
      if (operation.invoked > firstEnd) break;
      const effect = `perhaps ${effectOf(operation)}`;
      // deleting what is not there changes nothing
      if (
        choices.has(effect) ||
        !fits(operation, state) ||
        (operation.kind === "erase" && state.record === undefined)
      ) {
        continue;
      }
      choices.set(effect, node);
    }
    return [...choices.values()];
  }

  /** Whether the record is there for something that is still to come. */
  #isRead({ record }: State): boolean {
    return record !== undefined && (this.#readsLeft.get(record) ?? 0) > 0;
  }

  #readsOf({ record }: State): KeyOperation[] {
    const reads: KeyOperation[] = [];
    if (record === undefined) return reads;
    for (let node = this.#certain.next; node !== undefined; node = node.next) {
      if (node.operation.writer === record) reads.push(node.operation);
    }
    return reads;
  }

  #take(node: Node): void {
    node.previous!.next = node.next;
    if (node.next !== undefined) node.next.previous = node.previous;
    this.#count(node, 1);
  }

  /** In the reverse order of `#take`. */
  #putBack(node: Node): void {
    node.previous!.next = node;
    if (node.next !== undefined) node.next.previous = node;
    this.#count(node, -1);
  }

  #count(node: Node, taken: 1 | -1): void {
    this.#countRead(node.operation, taken === 1 ? -1 : 1);
    if (node.rank >= 0) this.#rankedTaken += taken;
    if (node.operation.returned === Number.POSITIVE_INFINITY) {
      const effect = effectOf(node.operation);
      this.#used.set(effect, (this.#used.get(effect) ?? 0) + taken);
      return;
    }
    this.#certainLeft -= taken;
    this.#low ^= node.low;
    this.#high ^= node.high;
  }

  #countRead({ writer }: KeyOperation, left: 1 | -1): void {
    if (writer !== undefined) this.#readsLeft.set(writer, (this.#readsLeft.get(writer) ?? 0) + left);
  }

  /** Whether this has not been visited yet, also not with less taken of what may never have happened. */
  #isNew({ record }: State, before: State | undefined): boolean {
    const wasThere = before === undefined ? "" : this.#id(before.record);
    const place = `${this.#low} ${this.#high} ${this.#id(record)} ${wasThere}`;
    const visits = this.#visited.get(place) ?? [];
    this.#comparisons += visits.length;
    if (visits.some((used) => isAtMost(used, this.#used))) return false;
    visits.push(new Map([...this.#used].filter(([, times]) => times > 0)));
    this.#visited.set(place, visits);
    if (++this.#states <= this.#statesMax && this.#comparisons <= this.#comparisonsMax) return true;
    throw new Undecided(
      `key ${this.#key}: given up after ${this.#states} states and ${this.#comparisons} comparisons of them, with ${this.#fewestLeft} of ${this.#operations.length} operations left`,
    );
  }

  /** Records whose version nobody was told stand for each other. */
  #id(record: KeyOperation | undefined): number | string | undefined {
    if (record === undefined) return "-";
    return record.version === undefined ? `?${effectOf(record)}` : this.#ids.get(record);
  }

  #notLinearizable(): NotLinearizable {
    const done = this.#operations.filter(({ returned }) => returned !== Number.POSITIVE_INFINITY).length;
    const list = (operations: readonly KeyOperation[]) => operations.map(({ entry }) => `  ${describe(entry)}`);
    return new NotLinearizable(
      [
        `key ${this.#key}: no order explains it; after ${done - this.#fewestLeft} of ${done} operations none of these can be next`,
        ...list(this.#stuck),
        ...(this.#holding.length > 0
          ? ["while the record that is there is still read by", ...list(this.#holding)]
          : []),
      ].join("\n"),
    );
  }
}

const LOOKS: ReadonlySet<KeyOperation["kind"]> = new Set(["read", "absent", "present", "unindexed", "mismatch"]);

function isLook({ kind }: KeyOperation): boolean {
  return LOOKS.has(kind);
}

/** Changes of one effect differ only in when they may happen. */
function effectOf({ kind, expected, index, value }: KeyOperation): string {
  return `${kind} ${expected} ${index} ${value}`;
}

function isAtMost(used: ReadonlyMap<string, number>, other: ReadonlyMap<string, number>): boolean {
  for (const [effect, times] of used) if (times > (other.get(effect) ?? 0)) return false;
  return true;
}

/** Whether the register could do this now. */
function fits(operation: KeyOperation, { record, floor }: State): boolean {
  const { kind, expected, version, writer, value, range } = operation;
  switch (kind) {
    case "read":
      return record === writer;
    case "absent":
      return record === undefined;
    case "present":
      return record !== undefined;
    case "unindexed":
      return record === undefined || !isIndexed(record, range!);
    case "expire":
      return record !== undefined && record.value === value;
    case "mismatch":
      return (
        expected !== undefined &&
        (expected < 0 ? record !== undefined : record?.version !== expected || record === undefined)
      );
    case "put":
      if (version !== undefined && version <= Math.max(floor, expected ?? -1)) return false;
      return expected === undefined || (expected < 0 ? record === undefined : hasVersion(record, expected, floor));
    case "delete":
      return record !== undefined && (expected === undefined || hasVersion(record, expected, floor));
    case "erase":
      return true;
  }
}

/** A record whose version nobody was told may have any that is above those before it. */
function hasVersion(record: KeyOperation | undefined, expected: number, floor: number): boolean {
  if (record === undefined) return false;
  return record.version === undefined ? expected > floor : record.version === expected;
}

/** The state behind a change that fits. */
function after(change: KeyOperation, { floor }: State): State {
  if (change.kind !== "put") return { record: undefined, floor };
  return { record: change, floor: change.version ?? floor };
}

function makeNode(operation: KeyOperation, nth: number): Node {
  return { operation, low: word(2 * nth + 1), high: word(2 * nth + 2), rank: -1, previous: undefined, next: undefined };
}

/** 32 bits that look random, the same ones for the same number: splitmix's finaliser. */
function word(seed: number): number {
  let mixed = Math.imul(seed, 0x9e37_79b9);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0_aaad);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a_2d97);
  return mixed ^ (mixed >>> 15);
}

/** Links the nodes, in order, behind a head that is none of them. */
function linked(nodes: readonly Node[]): Node {
  const head = makeNode({} as KeyOperation, 0);
  let last = head;
  for (const node of nodes) {
    last.next = node;
    node.previous = last;
    last = node;
  }
  return head;
}
