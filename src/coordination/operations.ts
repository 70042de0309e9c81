/**
 * Carries out what operators ask for: each operation is a goal, followed until what is stored of the cluster meets it, or
 * until it cannot be met. So a coordinator that comes new takes up what the one before was at.
 *
 *     begin ─> journal ─> drive: act, look, act … ─> ended
 *                           │ cancel ─> act against it ─> ended
 *                           └ the coordinator ends: wait ─> adopt ─> drive again
 */
import { assert } from "../lib/assert.ts";
import { Refusal } from "../model/refusal.ts";
import type { Clock, Logger } from "../ports.ts";
import { type ConfigFile, createDataServer } from "./administer.ts";
import type { Coordinator } from "./coordinator.ts";
import { CANCELLABLE, type Operation, type OperationGoal, type OperationList } from "./operation-list.ts";
import { OperationSteps, PHASES, PUT_BACK, replicaThatGoes, reportOf, whyOf } from "./operation-steps.ts";
import { StoreLost } from "./status-store.ts";
import { Interrupted, sleep } from "./wait.ts";

const TAKEN_LOOK_MS = 10;

export interface OperationPorts {
  readonly list: OperationList;
  readonly file: ConfigFile;
  readonly clock: Clock;
  readonly logger: Logger;
}

interface Ended {
  readonly operation: Operation;
  /** What it failed with; undefined: nothing was thrown. */
  readonly error: unknown;
}

const GOES_ON = "nobody follows it any more: it goes on by itself";

export class Operations {
  readonly #ports: OperationPorts;
  readonly #drives = new Map<number, AbortController>();
  readonly #waiting = new Map<number, Set<(ended: Ended) => void>>();
  /** Freezes that their leader has taken. */
  readonly #taken = new Set<number>();
  readonly #steps: OperationSteps;
  #coordinator: Coordinator | undefined;

  constructor(ports: OperationPorts) {
    this.#ports = ports;
    this.#steps = new OperationSteps({ ...ports, taken: (id) => this.#taken.add(id) });
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
   * Has it end as soon as that can be, if need be by the next coordinator; what is decided already is not undone. Throws
   * NOT_FOUND, FAILED_PRECONDITION when it has ended or cannot be cancelled, STORE_FAILED when that it is to end cannot be
   * kept.
   */
  async cancel(id: number): Promise<Operation> {
    const { state, kind, namespace, shard = -1, to, server } = this.get(id);
    if (state !== "running") throw new Refusal("FAILED_PRECONDITION", `operation ${id} has ended: it has ${state}`);
    const coordinator = this.#working();
    if (!CANCELLABLE[kind]) throw new Refusal("FAILED_PRECONDITION", `operation ${id} cannot be cancelled`);
    switch (kind) {
      case "swap-replica":
        this.list.requestCancel(id);
        // one that was taken up, and is not asked for again yet, is not asked for at all
        if (reportOf(coordinator, namespace, shard) !== undefined) coordinator.giveUpSwap({ namespace, shard }, to);
        break;
      case "freeze-shard":
        this.list.requestCancel(id);
        return this.ended(id);
      case "drain-server": {
        const request = { ...server!, labels: new Map(server!.labels) };
        this.list.requestCancel(id); // what is looked at meanwhile may say so first
        const config = this.#ports.file.edit((before) => createDataServer(before, request));
        await coordinator.reconfigure(config);
        this.#end(id, "cancelled", PUT_BACK);
        break;
      }
      case "create-namespace":
      case "delete-namespace":
        this.#end(id, "cancelled", GOES_ON);
        break;
      case "recover-shard":
      case "switch-leader":
        assert(false, "a kind that can be cancelled", kind);
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
    const { id } = operation;
    const controller = new AbortController();
    this.#drives.set(id, controller);
    const { signal } = controller;
    this.#steps.run({ operation, coordinator, signal, isResumed }).then(
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
    return this.list.get(id)?.cancelRequested === true ? "cancelled" : "failed";
  }
}
