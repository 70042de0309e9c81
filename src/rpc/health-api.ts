/**
 * gRPC health checking (`grpc.health.v1`): whether the process, or a service of it, is able to serve.
 *
 * Official clients poll `Check("")` every 10 s and drop the connection when it is not SERVING. Names are data here:
 * whoever owns a state sets it. At shutdown every name becomes NOT_SERVING, for good, before the listeners close.
 *
 * Source: protocol.md §1.1; gRPC, doc/health-checking.md.
 */
import { create, type MessageShape } from "@bufbuild/protobuf";
import {
  HealthCheckRequestSchema,
  HealthCheckResponseSchema,
  HealthListRequestSchema,
  HealthListResponseSchema,
  Health as HealthService,
  HealthCheckResponse_ServingStatus as Serving,
} from "../gen/grpc/health/v1/health_pb.ts";
import { HEALTH_NAMES_LISTED_MAX } from "../model/limits.ts";
import { Code, StatusError } from "./code.ts";
import type { Call, Method, ServedMethod } from "./method.ts";
import { type TypedSink, typedServerStream, typedUnary } from "./typed.ts";

type Response = MessageShape<typeof HealthCheckResponseSchema>;

/** Name of the process as a whole. */
export const HEALTH_PROCESS = "";
/** Name of a data server's readiness: registered once it has its first assignments. */
export const HEALTH_READINESS = "oxia-readiness";

export class Health {
  readonly #serving = new Map<string, boolean>();
  readonly #watchers = new Set<Watcher>();
  #shutDown = false;

  /** Registers `name`, or changes its state. After `shutDown` nothing becomes SERVING again. */
  set(name: string, serving: boolean): void {
    this.#serving.set(name, serving && !this.#shutDown);
    for (const watcher of this.#watchers) if (watcher.name === name) watcher.changed();
  }

  /** Whether `name` is SERVING; undefined when nobody has registered it. */
  get(name: string): boolean | undefined {
    return this.#serving.get(name);
  }

  /** Every name becomes NOT_SERVING, for good. */
  shutDown(): void {
    this.#shutDown = true;
    for (const name of this.#serving.keys()) this.set(name, false);
  }

  /** The methods of `grpc.health.v1.Health`. */
  methods(): ServedMethod[] {
    const served = (name: keyof typeof HealthService.method, method: Method): ServedMethod => ({
      paths: [`/${HealthService.typeName}/${HealthService.method[name].name}`],
      binary: HealthService.method[name],
      json: HealthService.method[name],
      method,
    });
    return [
      served(
        "check",
        typedUnary(HealthCheckRequestSchema, HealthCheckResponseSchema, ({ service }) => this.#check(service)),
      ),
      served(
        "list",
        typedUnary(HealthListRequestSchema, HealthListResponseSchema, () => this.#list()),
      ),
      served(
        "watch",
        typedServerStream(HealthCheckRequestSchema, HealthCheckResponseSchema, ({ service }, call, sink) =>
          this.#watch(service, call, sink),
        ),
      ),
    ];
  }

  #check(name: string): Response {
    const status = this.#status(name);
    if (status === Serving.SERVICE_UNKNOWN) throw new StatusError(Code.NOT_FOUND, "unknown service");
    return create(HealthCheckResponseSchema, { status });
  }

  #list() {
    if (this.#serving.size > HEALTH_NAMES_LISTED_MAX) {
      throw new StatusError(Code.RESOURCE_EXHAUSTED, "too many services to list");
    }
    const statuses: Record<string, Response> = {};
    for (const name of this.#serving.keys()) {
      statuses[name] = create(HealthCheckResponseSchema, { status: this.#status(name) });
    }
    return create(HealthListResponseSchema, { statuses });
  }

  /** Sends the state of a name, and each later one; states that a slow reader missed are left out. Ends when cancelled. */
  async #watch(name: string, call: Call, sink: TypedSink<Response>): Promise<void> {
    const watcher = new Watcher(name);
    call.onCancel(() => watcher.end());
    this.#watchers.add(watcher);
    try {
      let sent: Serving | undefined;
      while (!watcher.ended) {
        const change = watcher.nextChange();
        const status = this.#status(name);
        if (status !== sent) {
          sent = status;
          if (!sink.send(create(HealthCheckResponseSchema, { status }))) await sink.drained();
        }
        await change;
      }
    } finally {
      this.#watchers.delete(watcher);
    }
  }

  #status(name: string): Serving {
    const serving = this.#serving.get(name);
    if (serving === undefined) return Serving.SERVICE_UNKNOWN;
    return serving ? Serving.SERVING : Serving.NOT_SERVING;
  }
}

class Watcher {
  readonly name: string;
  ended = false;
  #change = Promise.withResolvers<void>();

  constructor(name: string) {
    this.name = name;
  }

  /** Resolves at the next change, or when the watcher has ended. */
  nextChange(): Promise<void> {
    if (!this.ended) this.#change = Promise.withResolvers<void>();
    return this.#change.promise;
  }

  changed(): void {
    this.#change.resolve();
  }

  end(): void {
    this.ended = true;
    this.#change.resolve();
  }
}
