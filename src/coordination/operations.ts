/**
 * Carries out what operators ask for: each operation is a goal, followed until what is stored of the cluster meets it, or
 * until it cannot be met. So a coordinator that comes new takes up what the one before was at.
 *
 *     begin ─> journal ─> drive: act, look, act … ─> ended
 *                           │ cancel ─> act against it ─> ended
 *                           └ the coordinator ends: wait ─> adopt ─> drive again
 */
import { SHARD_FREEZE_MS_MAX } from "../model/limits.ts";
import { Refusal, Unreachable } from "../model/refusal.ts";
import type { Clock, Logger } from "../ports.ts";
import { type ConfigFile, createDataServer } from "./administer.ts";
import type { Coordinator } from "./coordinator.ts";
import type { Operation, OperationGoal, OperationKind, OperationList } from "./operation-list.ts";
import { isBeingDeleted } from "./reconcile.ts";
import type { ReplicaReport, ShardReport } from "./report.ts";
import { wordsOf } from "./server-link.ts";
import { StoreLost } from "./status-store.ts";
import { serversOf } from "./stored-shard.ts";
import { Interrupted, sleep, unlessInterrupted } from "./wait.ts";

/** How often it is looked how far one is. */
const LOOK_MS = 200;
const TAKEN_LOOK_MS = 10;

export interface OperationPorts {
  readonly list: OperationList;
  readonly file: ConfigFile;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What a step of one works with. */
interface Drive {
  readonly operation: Operation;
  readonly coordinator: Coordinator;
  readonly signal: AbortSignal;
  /** It was begun by another coordinator. */
  readonly isResumed: boolean;
}

interface Ended {
  readonly operation: Operation;
  /** What it failed with; undefined: nothing was thrown. */
  readonly error: unknown;
}

/** Empty: the goal is met. Otherwise why it is not. */
type Outcome = string;

const PUT_BACK = "the server was put back into the configuration";
const GOES_ON = "nobody follows it any more: it goes on by itself";
const NOT_WANTED = "it is not wanted any more";

const PHASES: Record<OperationKind, string> = {
  "create-namespace": "leaders are being elected",
  "delete-namespace": "copies are being deleted",
  "drain-server": "replicas are being moved",
  "freeze-shard": "its leader is being told",
  "recover-shard": "the chosen replicas are being told",
  "swap-replica": "the new replica is being filled",
  "switch-leader": "writes are being held back",
};

export class Operations {
  readonly #ports: OperationPorts;
  readonly #drives = new Map<number, AbortController>();
  readonly #cancelled = new Set<number>();
  readonly #waiting = new Map<number, Set<(ended: Ended) => void>>();
  /** Freezes that their leader has taken. */
  readonly #taken = new Set<number>();
  #coordinator: Coordinator | undefined;

  constructor(ports: OperationPorts) {
    this.#ports = ports;
  }

  get list(): OperationList {
    return this.#ports.list;
  }

  /** A coordinator works now: what runs goes on with it. */
  adopt(coordinator: Coordinator): void {
    this.release();
    this.#coordinator = coordinator;
    for (const operation of this.list.running) this.#drive(operation, coordinator, true);
  }

  /** It does not work any more: what runs waits for the next one. */
  release(): void {
    this.#coordinator = undefined;
    for (const drive of this.#drives.values()) drive.abort();
    this.#drives.clear();
  }

  /** Begins one. Throws RESOURCE_EXHAUSTED, STORE_FAILED, NOT_INITIALIZED. */
  begin(goal: OperationGoal): Operation {
    const coordinator = this.#working();
    const replica = replicaThatGoes(coordinator, goal);
    const operation = this.list.begin(replica === undefined ? goal : { ...goal, replica }, PHASES[goal.kind]);
    this.#drive(operation, coordinator, false);
    return operation;
  }

  /** Begins one that goes on by itself anyway: where it cannot be recorded, nobody can follow it, and that is all. */
  follow(goal: OperationGoal): Operation | undefined {
    try {
      return this.begin(goal);
    } catch (error) {
      this.#notRecorded(goal, error);
      return undefined;
    }
  }

  /** Begins one that `change` sets going: what cannot be recorded is not changed. Rejects as `begin` or `change` does. */
  async beginWith(goal: OperationGoal, change: () => Promise<unknown>): Promise<Operation> {
    this.#working();
    const { id } = this.list.begin(goal, PHASES[goal.kind]);
    try {
      await change();
    } catch (error) {
      this.#end(id, "failed", whyOf(error), error);
      throw error;
    }
    const operation = this.get(id);
    // otherwise it was cancelled meanwhile, or another coordinator has taken it up, or will
    const isLeft = operation.state === "running" && !this.#drives.has(id);
    if (isLeft && this.#coordinator !== undefined) this.#drive(operation, this.#coordinator, false);
    return operation;
  }

  /**
   * Carries out one that no other coordinator can take up, also where it cannot be recorded. Resolves, or rejects, as
   * `work` does.
   */
  async perform<T>(goal: OperationGoal, work: (coordinator: Coordinator) => Promise<T>): Promise<T> {
    const coordinator = this.#working();
    let operation: Operation | undefined;
    try {
      operation = this.list.begin(goal, PHASES[goal.kind]);
    } catch (error) {
      this.#notRecorded(goal, error);
    }
    try {
      const result = await work(coordinator);
      if (operation !== undefined) this.#end(operation.id, "succeeded", "");
      return result;
    } catch (error) {
      if (operation !== undefined) this.#end(operation.id, "failed", whyOf(error));
      throw error;
    }
  }

  /** Resolves once it has ended. Rejects with the Refusal for which it failed while the caller waited. */
  async ended(id: number): Promise<Operation> {
    const operation = this.get(id);
    if (operation.state !== "running") return operation;
    const ended = await new Promise<Ended>((resolve) => this.#waitingFor(id).add(resolve));
    if (ended.error instanceof Refusal) throw ended.error;
    return ended.operation;
  }

  /** Waits at most so long for its end; rejects as `ended` does. */
  async endedWithin(id: number, ms: number): Promise<void> {
    const error = (await this.#within(id, ms))?.error;
    if (error instanceof Refusal) throw error;
  }

  /** Waits at most so long for its end. Resolves to how it stands then, whatever it has come to. */
  async look(id: number, ms: number): Promise<Operation> {
    await this.#within(id, ms);
    return this.get(id);
  }

  /** Resolves once a freeze is taken by its leader, or it has ended; rejects as `ended` does. */
  async taken(id: number): Promise<Operation> {
    while (this.get(id).state === "running" && !this.#taken.has(id)) await this.endedWithin(id, TAKEN_LOOK_MS);
    return this.get(id);
  }

  /**
   * Has it end as soon as that can be; what is decided already is not undone. Throws NOT_FOUND, and FAILED_PRECONDITION
   * when it has ended or cannot be cancelled.
   */
  async cancel(id: number): Promise<Operation> {
    const { state, kind, namespace, shard = -1, to, server } = this.get(id);
    if (state !== "running") throw new Refusal("FAILED_PRECONDITION", `operation ${id} has ended: it has ${state}`);
    const coordinator = this.#working();
    switch (kind) {
      case "swap-replica":
        this.#cancelled.add(id);
        // one that was taken up, and is not asked for again yet, is not asked for at all
        if (reportOf(coordinator, namespace, shard) !== undefined) coordinator.giveUpSwap({ namespace, shard }, to);
        break;
      case "freeze-shard":
        this.#cancelled.add(id);
        return this.ended(id);
      case "drain-server": {
        const request = { ...server!, labels: new Map(server!.labels) };
        const config = this.#ports.file.edit((before) => createDataServer(before, request));
        this.#cancelled.add(id); // what is looked at meanwhile may say so first
        await coordinator.reconfigure(config);
        this.#end(id, "cancelled", PUT_BACK);
        break;
      }
      case "create-namespace":
      case "delete-namespace":
        this.#end(id, "cancelled", GOES_ON);
        break;
      default:
        throw new Refusal("FAILED_PRECONDITION", `operation ${id} cannot be cancelled`);
    }
    return this.get(id);
  }

  #working(): Coordinator {
    if (this.#coordinator === undefined) throw new Refusal("NOT_INITIALIZED", "the coordinator is not ready");
    return this.#coordinator;
  }

  /** Throws NOT_FOUND. */
  get(id: number): Operation {
    const operation = this.list.get(id);
    if (operation === undefined) throw new Refusal("NOT_FOUND", `there is no operation ${id}`);
    return operation;
  }

  #notRecorded({ kind }: OperationGoal, error: unknown): void {
    if (!(error instanceof Refusal)) throw error;
    this.#ports.logger.warn({ component: "coordinator", kind, why: error.message }, "operation not recorded");
  }

  #waitingFor(id: number): Set<(ended: Ended) => void> {
    const waiting = this.#waiting.get(id) ?? new Set();
    this.#waiting.set(id, waiting);
    return waiting;
  }

  /** Undefined: it runs on. */
  async #within(id: number, ms: number): Promise<Ended | undefined> {
    if (this.get(id).state !== "running") return undefined;
    const waiting = this.#waitingFor(id);
    const over = new AbortController();
    let ended: Ended | undefined;
    const hear = (how: Ended) => {
      ended = how;
      over.abort();
    };
    waiting.add(hear);
    await sleep(this.#ports.clock, ms, over.signal);
    waiting.delete(hear);
    return ended;
  }

  #end(id: number, state: "succeeded" | "failed" | "cancelled", reason: string, error?: unknown): void {
    if (this.list.get(id)?.state !== "running") return; // it was cancelled meanwhile
    this.#drives.get(id)?.abort();
    this.#drives.delete(id);
    this.#cancelled.delete(id);
    this.#taken.delete(id);
    const ended = this.list.end(id, state, reason);
    const { kind, namespace, shard, from, to } = ended;
    const about = { namespace, ...(shard === undefined ? {} : { shard }), server: to || from };
    const fields = { component: "coordinator", operation: id, kind, ...about, why: reason || kind };
    if (state === "failed") this.#ports.logger.warn(fields, "operation failed");
    else this.#ports.logger.info(fields, state === "succeeded" ? "operation succeeded" : "operation cancelled");
    for (const resolve of this.#waiting.get(id) ?? []) resolve({ operation: ended, error });
    this.#waiting.delete(id);
  }

  #drive(operation: Operation, coordinator: Coordinator, isResumed: boolean): void {
    const { id, kind } = operation;
    const controller = new AbortController();
    this.#drives.set(id, controller);
    const { signal } = controller;
    const drive = async () => {
      if (isResumed) await this.#untilKept(operation, coordinator, signal);
      return this.#steps[kind]({ operation, coordinator, signal, isResumed });
    };
    drive().then(
      (why) => {
        if (!signal.aborted) this.#end(id, why === "" ? "succeeded" : this.#failure(id), why);
      },
      (error) => {
        // this coordinator ends: the next one takes it up
        if (signal.aborted || error instanceof StoreLost || error instanceof Interrupted) return;
        this.#end(id, this.#failure(id), whyOf(error), error);
      },
    );
  }

  #failure(id: number): "failed" | "cancelled" {
    return this.#cancelled.has(id) ? "cancelled" : "failed";
  }

  readonly #steps: Record<OperationKind, (drive: Drive) => Promise<Outcome>> = {
    "create-namespace": (drive) =>
      this.#untilMet(drive, ({ namespace }) => {
        const stored = drive.coordinator.stored.namespaces.get(namespace);
        if (!this.#ports.file.config.namespaces.some(({ name }) => name === namespace))
          return "it was deleted meanwhile";
        if (stored === undefined || isBeingDeleted(stored))
          return { left: 1, of: 1, what: "one of its name is still being deleted" };
        const shards = [...stored.shards.values()];
        const left = shards.filter(({ leader }) => leader === undefined).length;
        return { left, of: shards.length, what: `${left} of ${shards.length} shards have no leader yet` };
      }),
    "delete-namespace": (drive) =>
      this.#untilMet(drive, ({ namespace, parts = 1 }) => {
        const stored = drive.coordinator.stored.namespaces.get(namespace);
        const left = stored === undefined || !isBeingDeleted(stored) ? 0 : stored.shards.size;
        return { left, of: parts, what: `${left} of ${parts} shards are left` };
      }),
    "drain-server": (drive) =>
      this.#untilMet(drive, ({ from, parts = 1 }) => {
        if (this.#ports.file.config.servers.some(({ internal }) => internal === from)) {
          return PUT_BACK;
        }
        const shards = [...drive.coordinator.stored.namespaces.values()].flatMap((one) => [...one.shards.values()]);
        const left = shards.filter((shard) => serversOf(shard).includes(from)).length;
        return { left, of: parts, what: `${left} of ${parts} copies are still there` };
      }),
    "freeze-shard": (drive) => this.#freeze(drive),
    "recover-shard": async () => "the coordinator ended meanwhile: look at the shard",
    "swap-replica": (drive) => this.#swap(drive),
    "switch-leader": (drive) => this.#switch(drive),
  };

  /** A coordinator that comes new does not look after its shards at once. */
  async #untilKept({ namespace, shard }: Operation, coordinator: Coordinator, signal: AbortSignal): Promise<void> {
    const isKept = (id: number) => reportOf(coordinator, namespace, id) !== undefined;
    while (shard !== undefined && isStored(coordinator, namespace, shard) && !isKept(shard)) {
      await sleep(this.#ports.clock, LOOK_MS, signal);
      if (signal.aborted) throw new Interrupted();
    }
  }

  /** Looks until nothing is left, or it comes to nothing. */
  async #untilMet(
    { operation, signal }: Drive,
    look: (goal: OperationGoal) => { readonly left: number; readonly of: number; readonly what: string } | Outcome,
  ): Promise<Outcome> {
    const { clock } = this.#ports;
    while (!signal.aborted) {
      const found = look(operation);
      if (typeof found === "string") return found;
      const { left, of, what } = found;
      if (left === 0) return "";
      this.list.advance(operation.id, what, Math.max(0, 1 - left / of));
      await sleep(clock, LOOK_MS, signal);
    }
    throw new Interrupted();
  }

  async #swap({ operation, coordinator, signal, isResumed }: Drive): Promise<Outcome> {
    const { clock } = this.#ports;
    const { id, namespace, shard = -1, from, to, replica } = operation;
    const report = () => reportOf(coordinator, namespace, shard);
    if (isResumed) {
      // the change may be stored already: its election decides
      while (!signal.aborted && (report()?.formerEnsemble.length ?? 0) > 0) await sleep(clock, LOOK_MS, signal);
      const ensemble = report()?.ensemble ?? [];
      const isThere = ({ server, replicaId }: ReplicaReport) =>
        server === from && (replica === undefined || replica === `${replicaId}`);
      const isGone = !ensemble.some(isThere);
      if (isGone && ensemble.some(({ server }) => server === to)) return "";
    }
    if (this.#cancelled.has(id)) return NOT_WANTED;
    const swap = coordinator.swap({ namespace, shard }, from, to);
    const settled = new AbortController();
    const watch = async () => {
      while (!settled.signal.aborted && !signal.aborted) {
        const why = report()?.swap?.why ?? "";
        this.list.advance(id, why === "" ? PHASES["swap-replica"] : why, undefined);
        await sleep(clock, LOOK_MS, settled.signal);
      }
    };
    void watch();
    try {
      const result = await unlessInterrupted(swap, signal);
      return result.done ? "" : result.why;
    } finally {
      settled.abort();
    }
  }

  async #switch({ operation: { namespace, shard = -1, to }, coordinator }: Drive): Promise<Outcome> {
    return (await coordinator.moveLeader({ namespace, shard }, to)).why;
  }

  /** A coordinator that comes new asks as often as it takes: the shard may have no leader yet. */
  async #freeze({ operation, coordinator, signal, isResumed }: Drive): Promise<Outcome> {
    const { clock } = this.#ports;
    const { id, namespace, shard = -1, startedMs, untilMs = 0 } = operation;
    const ref = { namespace, shard };
    let told = "";
    while (!signal.aborted) {
      const leftMs = Math.min(untilMs - clock.now(), SHARD_FREEZE_MS_MAX);
      if (leftMs <= 0 || this.#cancelled.has(id)) break;
      if (told === "") {
        try {
          told = `no write is taken behind offset ${await coordinator.freeze(ref, leftMs)}`;
          this.#taken.add(id);
        } catch (error) {
          const mayComeYet = isResumed && (error instanceof Refusal || error instanceof Unreachable);
          if (!mayComeYet) throw error;
          if (!signal.aborted) this.list.advance(id, whyOf(error), undefined);
        }
      }
      // a coordinator that ends lets go of shards that are there
      if (!isStored(coordinator, namespace, shard)) return "the shard is gone";
      if (told !== "") this.list.advance(id, told, progressOf(startedMs, untilMs, clock.now()));
      await sleep(clock, Math.min(LOOK_MS, leftMs), signal);
    }
    if (signal.aborted) throw new Interrupted();
    await coordinator.thaw(ref).catch(() => {}); // it lapses
    if (this.#cancelled.has(id)) return "it was thawed";
    return told === "" ? "its leader could not be told" : "";
  }
}

function replicaThatGoes({ stored }: Coordinator, { kind, namespace, shard = -1, from }: OperationGoal) {
  if (kind !== "swap-replica") return undefined;
  const ensemble = stored.namespaces.get(namespace)?.shards.get(shard)?.ensemble;
  return ensemble?.find(({ internal }) => internal === from)?.replicaId?.toString();
}

/** To the percent: each change of it is stored. */
function progressOf(fromMs: number, toMs: number, nowMs: number): number {
  return Math.max(0, Math.min(1, Math.floor(((nowMs - fromMs) / (toMs - fromMs)) * 100) / 100));
}

/** Whatever it is: none is left that runs, and is not carried out. */
function whyOf(error: unknown): string {
  if (error instanceof Refusal || error instanceof Unreachable) return wordsOf(error);
  return error instanceof Error ? error.message : String(error);
}

function isStored({ stored }: Coordinator, namespace: string, shard: number): boolean {
  return stored.namespaces.get(namespace)?.shards.has(shard) === true;
}

function reportOf(coordinator: Coordinator, namespace: string, shard: number): ShardReport | undefined {
  return coordinator.status().shards.find((one) => one.namespace === namespace && one.shard === shard);
}
