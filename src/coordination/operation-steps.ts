/**
 * What each kind of operation does, step by step, until what is stored of the cluster meets its goal or it cannot be met:
 *
 *     act, look, act … ─> empty: it is met; words: why it is not
 *
 * An operation that a coordinator takes up which has not begun it goes by what is stored alone.
 */
import { SHARD_FREEZE_MS_MAX } from "../model/limits.ts";
import { Refusal, Unreachable } from "../model/refusal.ts";
import type { Clock } from "../ports.ts";
import type { ConfigFile } from "./administer.ts";
import type { Coordinator } from "./coordinator.ts";
import type { Operation, OperationGoal, OperationKind, OperationList } from "./operation-list.ts";
import { isBeingDeleted } from "./reconcile.ts";
import type { ReplicaReport, ShardReport } from "./report.ts";
import { wordsOf } from "./server-link.ts";
import { serversOf } from "./stored-shard.ts";
import { Interrupted, sleep, unlessInterrupted } from "./wait.ts";

/** How often it is looked how far one is. */
const LOOK_MS = 200;

export interface StepPorts {
  readonly list: OperationList;
  readonly file: ConfigFile;
  readonly clock: Clock;
  /** Told once a freeze is taken by its leader. */
  readonly taken: (id: number) => void;
}

/** What a step works with. */
export interface Drive {
  readonly operation: Operation;
  readonly coordinator: Coordinator;
  readonly signal: AbortSignal;
  /** It was begun by another coordinator. */
  readonly isResumed: boolean;
}

/** Empty: the goal is met. Otherwise why it is not. */
type Outcome = string;

export const PUT_BACK = "the server was put back into the configuration";
const NOT_WANTED = "it is not wanted any more";

/** What each kind is at when it begins. */
export const PHASES: Record<OperationKind, string> = {
  "create-namespace": "leaders are being elected",
  "delete-namespace": "copies are being deleted",
  "drain-server": "replicas are being moved",
  "freeze-shard": "its leader is being told",
  "recover-shard": "the chosen replicas are being told",
  "swap-replica": "the new replica is being filled",
  "switch-leader": "writes are being held back",
};

export class OperationSteps {
  readonly #ports: StepPorts;

  constructor(ports: StepPorts) {
    this.#ports = ports;
  }

  /** Rejects with what a step is refused, and with Interrupted once the signal is aborted. */
  async run(drive: Drive): Promise<Outcome> {
    if (drive.isResumed) await this.#untilKept(drive);
    return this.#steps[drive.operation.kind](drive);
  }

  #isCancelled(id: number): boolean {
    return this.#ports.list.get(id)?.cancelRequested === true;
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
  async #untilKept({ operation: { namespace, shard }, coordinator, signal }: Drive): Promise<void> {
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
      this.#ports.list.advance(operation.id, what, Math.max(0, 1 - left / of));
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
    if (this.#isCancelled(id)) return NOT_WANTED;
    const swap = coordinator.swap({ namespace, shard }, from, to);
    const settled = new AbortController();
    const watch = async () => {
      while (!settled.signal.aborted && !signal.aborted) {
        const why = report()?.swap?.why ?? "";
        this.#ports.list.advance(id, why === "" ? PHASES["swap-replica"] : why, undefined);
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
      if (leftMs <= 0 || this.#isCancelled(id)) break;
      if (told === "") {
        try {
          told = `no write is taken behind offset ${await coordinator.freeze(ref, leftMs)}`;
          this.#ports.taken(id);
        } catch (error) {
          const mayComeYet = isResumed && (error instanceof Refusal || error instanceof Unreachable);
          if (!mayComeYet) throw error;
          if (!signal.aborted) this.#ports.list.advance(id, whyOf(error), undefined);
        }
      }
      // a coordinator that ends lets go of shards that are there
      if (!isStored(coordinator, namespace, shard)) return "the shard is gone";
      if (told !== "") this.#ports.list.advance(id, told, progressOf(startedMs, untilMs, clock.now()));
      await sleep(clock, Math.min(LOOK_MS, leftMs), signal);
    }
    if (signal.aborted) throw new Interrupted();
    await coordinator.thaw(ref).catch(() => {}); // it lapses
    if (this.#isCancelled(id)) return "it was thawed";
    return told === "" ? "its leader could not be told" : "";
  }
}

/** The id of the one that a swap takes out, in decimal digits. */
export function replicaThatGoes({ stored }: Coordinator, { kind, namespace, shard = -1, from }: OperationGoal) {
  if (kind !== "swap-replica") return undefined;
  const ensemble = stored.namespaces.get(namespace)?.shards.get(shard)?.ensemble;
  return ensemble?.find(({ internal }) => internal === from)?.replicaId?.toString();
}

/** To the percent: each change of it is stored. */
function progressOf(fromMs: number, toMs: number, nowMs: number): number {
  return Math.max(0, Math.min(1, Math.floor(((nowMs - fromMs) / (toMs - fromMs)) * 100) / 100));
}

function isStored({ stored }: Coordinator, namespace: string, shard: number): boolean {
  return stored.namespaces.get(namespace)?.shards.has(shard) === true;
}

export function reportOf(coordinator: Coordinator, namespace: string, shard: number): ShardReport | undefined {
  return coordinator.status().shards.find((one) => one.namespace === namespace && one.shard === shard);
}

/** Whatever it is: none is left that runs, and is not carried out. */
export function whyOf(error: unknown): string {
  if (error instanceof Refusal || error instanceof Unreachable) return wordsOf(error);
  return error instanceof Error ? error.message : String(error);
}
