/**
 * Follows the namespace's shard assignments: one stream of full snapshots, opened again whenever it ends, at the
 * service address first and then at the leaders last heard of.
 *
 * A leader hint in a refusal counts until the next snapshot. A snapshot that does not cover every hash is passed over:
 * the one before stays in force.
 *
 * Source: semantics.md §6; errors.md §5.
 */
import { utf8 } from "../lib/bytes.ts";
import { Writer } from "../wire/writer.ts";
import { type ChangedBy, retryDelayMs } from "./backoff.ts";
import { type CallStatus, type LeaderHint, plainStatus } from "./call-status.ts";
import { NamespaceNotFoundError, RequestTimeoutError, ServerError, type VariaError } from "./errors.ts";
import { GrpcCode } from "./grpc-code.ts";
import { assignmentsFrame } from "./requests.ts";
import { type Assignment, decodeAssignments, type ShardTable } from "./shard-table.ts";
import type { Call, ClientPorts } from "./transport.ts";

const PATH = "/io.oxia.proto.v1.OxiaClient/GetShardAssignments";

export interface AssignmentsOptions {
  readonly serviceAddress: string;
  readonly namespace: string;
  readonly headers: Readonly<Record<string, string>>;
}

export class Assignments {
  readonly #ports: ClientPorts;
  readonly #options: AssignmentsOptions;
  readonly #listeners = new Set<(by: ChangedBy) => void>();
  #table: ShardTable | undefined;
  #call: Call | undefined;
  #cancelRetry: (() => void) | undefined;
  #attempts = 0;
  #lastStatus: CallStatus | undefined;
  #fatal: VariaError | undefined;
  #closed = false;

  constructor(ports: ClientPorts, options: AssignmentsOptions) {
    this.#ports = ports;
    this.#options = options;
  }

  /** Opens the stream and resolves with the first table. Rejects when there is none to come, or none within `timeoutMs`. */
  start(timeoutMs: number): Promise<ShardTable> {
    return new Promise((resolve, reject) => {
      const settle = () => {
        if (this.#table === undefined && this.#fatal === undefined) return;
        finish();
        if (this.#table !== undefined) resolve(this.#table);
        else reject(this.#fatal);
      };
      const finish = () => {
        cancelTimeout();
        this.#listeners.delete(settle);
      };
      const cancelTimeout = this.#ports.clock.after(timeoutMs, () => {
        finish();
        const cause = this.#lastStatus === undefined ? undefined : new ServerError(this.#lastStatus);
        reject(
          new RequestTimeoutError(`the shard assignments of ${this.#options.serviceAddress}`, timeoutMs, { cause }),
        );
      });
      this.#listeners.add(settle);
      this.#open();
    });
  }

  /** The table in force. Only once `start` has resolved. */
  get table(): ShardTable {
    if (this.#table === undefined) throw new Error("no assignments yet");
    return this.#table;
  }

  /** Calls `listener` with each set that a server tells, and after each change by a hint. */
  onChange(listener: (by: ChangedBy) => void): void {
    this.#listeners.add(listener);
  }

  /** Takes a leader that a server named in a refusal. */
  takeHint(hint: LeaderHint): void {
    if (this.#table !== undefined) this.#replace(this.#table.withLeader(hint.shard, hint.leader), "hint");
  }

  close(): void {
    this.#closed = true;
    this.#cancelRetry?.();
    this.#call?.cancel();
    this.#call = undefined;
    this.#listeners.clear();
  }

  #replace(table: ShardTable, by: ChangedBy): void {
    if (table === this.#table) return;
    this.#table = table;
    this.#tell(by);
  }

  #tell(by: ChangedBy): void {
    for (const listener of [...this.#listeners]) listener(by);
  }

  #open(): void {
    const { headers, namespace } = this.#options;
    const call = this.#ports.transport.open(
      { address: this.#nextAddress(), path: PATH, headers, message: assignmentsFrame(new Writer(), utf8(namespace)) },
      {
        message: (message) => {
          if (call === this.#call) this.#take(message);
        },
        drained: () => {},
        ended: (status) => {
          if (call === this.#call) this.#ended(status);
        },
      },
    );
    this.#call = call;
  }

  /** The service address, and every second time, while it does not answer, another server that we know of. */
  #nextAddress(): string {
    const known = (this.#table?.shards ?? []).map(({ leader }) => leader).filter((leader) => leader !== "");
    const others = [...new Set(known)].filter((leader) => leader !== this.#options.serviceAddress);
    const turn = Math.max(0, this.#attempts - 1);
    if (others.length === 0 || turn % 2 === 0) return this.#options.serviceAddress;
    return others[(turn >> 1) % others.length]!;
  }

  #take(message: Uint8Array): void {
    let assignment: Assignment;
    try {
      assignment = decodeAssignments(message, this.#options.namespace);
    } catch (error) {
      this.#call?.cancel();
      this.#ended(plainStatus(GrpcCode.internal, error instanceof Error ? error.message : String(error)));
      return;
    }
    if (assignment.kind === "table") {
      this.#attempts = 0;
      this.#replace(assignment.table, "set");
      return;
    }
    const what = assignment.kind === "absent" ? "the namespace is not among the assignments" : assignment.what;
    this.#lastStatus = plainStatus(GrpcCode.unavailable, what);
  }

  #ended(status: CallStatus): void {
    this.#call = undefined;
    if (this.#closed) return;
    if (status.code !== GrpcCode.ok) this.#lastStatus = status;
    // once there is a table, whatever a server says may pass: operations tell their own errors
    if (this.#table === undefined && this.#isFatal(status)) {
      this.#fatal =
        status.code === GrpcCode.notFound
          ? new NamespaceNotFoundError(this.#options.namespace, { cause: new ServerError(status) })
          : new ServerError(status);
      this.#tell("set");
      return;
    }
    this.#attempts++;
    this.#cancelRetry = this.#ports.clock.after(retryDelayMs(this.#attempts, this.#ports.random), () => {
      this.#cancelRetry = undefined;
      this.#open();
    });
  }

  #isFatal({ code, reason }: CallStatus): boolean {
    if (code === GrpcCode.notFound) return reason === "NAMESPACE_NOT_FOUND";
    return (
      code === GrpcCode.unauthenticated ||
      code === GrpcCode.permissionDenied ||
      code === GrpcCode.invalidArgument ||
      code === GrpcCode.unimplemented
    );
  }
}
