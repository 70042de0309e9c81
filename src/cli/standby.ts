/**
 * A coordinator that waits for another one to end, because that one holds the metadata store. Meanwhile it forwards what
 * it is asked to the one that works, where that one has said where it is (leader-file.ts); else it answers
 * NOT_INITIALIZED, as Oxia's does that waits for its lock.
 *
 *     admin port   ─ bytes ─> the leader's admin port        or methods that all refuse
 *     HTTP port    ─ requests ─> the leader's HTTP port      or 503; health and metrics are its own
 *     internal     health alone
 *
 * The leader sees this process as the peer. One that can be reached from its own machine alone answers those that need no
 * token only because they are there: they are forwarded for such peers alone. One that listens on more sees an address
 * that is not of the loopback, also where both are on one machine.
 *
 * Source: errors.md §4; semantics.md §10 (the file provider).
 */
import { Health as HealthService } from "../gen/grpc/health/v1/health_pb.ts";
import { OxiaAdmin } from "../gen/io/oxia/proto/v1/admin_pb.ts";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { Refusal } from "../model/refusal.ts";
import { isLoopback } from "../ops/access.ts";
import { Metrics } from "../ops/metrics.ts";
import type { Address } from "../ops/settings.ts";
import type { Clock, Logger } from "../ports.ts";
import { HEALTH_PROCESS, Health } from "../rpc/health-api.ts";
import { type Listener, startListener } from "../rpc/listener.ts";
import type { ServedMethod } from "../rpc/method.ts";
import { reflectionMethods } from "../rpc/reflection-api.ts";
import { servedStream, servedUnary } from "../rpc/served.ts";
import { DirectoryInUse } from "../storage/directory-refused.ts";
import { type CoordinatorFiles, type CoordinatorSettings, coordinatorFiles } from "./coordinator-settings.ts";
import { type CoordinatorStores, openStores, storesDirectory } from "./coordinator-stores.ts";
import { LeaderFile } from "./leader-file.ts";
import { one, processMetrics } from "./process-metrics.ts";
import { hostPort } from "./run-server.ts";
import { TcpForward } from "./tcp-forward.ts";

/** How often it is tried whether the stores are free, in milliseconds. */
export const STANDBY_TRY_MS = 500;
/** As of the pages themselves: live ones say something more often. */
const IDLE_S_MAX = 60;
const WHY = "another coordinator works, and this one stands by";
const SENTENCE = `A${WHY.slice(1)}`;
/** Of one connection, not of what goes over it. */
const HOP_BY_HOP = ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];
/** `/package.Service/Method`. */
const RPC_PATH = /^\/[\w.]+\.[A-Z]\w*\/[A-Z]\w*$/;

export interface StandbyOptions {
  readonly settings: CoordinatorSettings;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Opens the stores; `standsBy` is called when it has to wait for them. Resolves to undefined when the signal is aborted. */
export async function openStoresOrStandBy(
  options: StandbyOptions,
  signal: AbortSignal,
  standsBy: (standby: Standby) => void = () => {},
): Promise<CoordinatorStores | undefined> {
  const files = coordinatorFiles({ values: options.settings });
  let standby: Standby | undefined;
  try {
    for (;;) {
      if (signal.aborted) return undefined;
      const stores = openUnlessInUse(files);
      if (stores !== undefined) return stores;
      if (standby === undefined) {
        standby = await Standby.start(options, new LeaderFile(storesDirectory(files)!));
        options.logger.info({ component: "coordinator", directory: storesDirectory(files) }, WHY);
        standsBy(standby);
      }
      await pause(options.clock, signal);
      standby.look();
    }
  } finally {
    await standby?.close();
  }
}

function openUnlessInUse(files: CoordinatorFiles): CoordinatorStores | undefined {
  try {
    return openStores(files);
  } catch (error) {
    if (error instanceof DirectoryInUse) return undefined;
    throw error;
  }
}

function pause(clock: Clock, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      cancel();
      signal.removeEventListener("abort", done);
      resolve();
    };
    const cancel = clock.after(STANDBY_TRY_MS, done);
    signal.addEventListener("abort", done);
  });
}

interface Parts {
  readonly leaderFile: LeaderFile;
  /** What answers where nobody else does; on the loopback, at any port. */
  readonly refusing: Listener;
  readonly internal: Listener;
  readonly ui: CoordinatorSettings["ui"];
}

export class Standby {
  readonly #parts: Parts;
  readonly #metrics = new Metrics();
  #admin!: TcpForward;
  #http!: Bun.Server<undefined>;
  #known = "";

  /** Rejects when an address cannot be had. */
  static async start({ settings, clock, logger }: StandbyOptions, leaderFile: LeaderFile): Promise<Standby> {
    const health = new Health();
    health.set(HEALTH_PROCESS, true);
    const healthMethods = [...health.methods(), ...reflectionMethods([HealthService])];
    const closing: (() => Promise<unknown>)[] = [];
    const listen = async (address: Address, methods: readonly ServedMethod[]) => {
      const listener = await startListener({ ...address, methods, clock, logger });
      closing.push(() => listener.close({ graceMs: 0 }));
      return listener;
    };
    try {
      const refusing = await listen({ host: "127.0.0.1", port: 0 }, [...refusingMethods(), ...healthMethods]);
      const internal = await listen(settings.internalAddr, healthMethods);
      const standby = new Standby({ leaderFile, refusing, internal, ui: settings.ui });
      const targets = (peer: string) => standby.#targets(peer);
      standby.#admin = await TcpForward.start({ address: settings.publicAddr, targets });
      closing.push(() => standby.#admin.close());
      standby.#http = Bun.serve({
        ...{ hostname: settings.metricsAddr.host, port: settings.metricsAddr.port, idleTimeout: IDLE_S_MAX },
        fetch: (request, server) => standby.#answer(request, server.requestIP(request)?.address ?? ""),
      });
      return standby;
    } catch (error) {
      for (const close of closing.reverse()) await close();
      throw error;
    }
  }

  private constructor(parts: Parts) {
    this.#parts = parts;
    this.#metrics.gauge("varia_coordinator_standby", "1: it stands by while another coordinator works.", () => one(1));
    processMetrics(this.#metrics);
    this.look();
  }

  get adminPort(): number {
    return this.#admin.port;
  }

  get internalPort(): number {
    return this.#parts.internal.port;
  }

  get httpPort(): number {
    return this.#http.port ?? 0;
  }

  /** Whoever was led to another leader than there is now, or to none, connects again. */
  look(): void {
    const known = JSON.stringify(this.#parts.leaderFile.read() ?? null);
    if (known !== this.#known) this.#admin?.cut();
    this.#known = known;
  }

  async close(): Promise<void> {
    await this.#admin.close();
    await this.#http.stop(true);
    const { internal, refusing } = this.#parts;
    await Promise.all([internal, refusing].map((listener) => listener.close({ graceMs: 0 })));
  }

  #targets(peer: string): Address[] {
    const here = { host: "127.0.0.1", port: this.#parts.refusing.port };
    const leader = this.#parts.leaderFile.read()?.admin;
    return leader === undefined || !mayForward(leader, peer) ? [here] : [leader, here];
  }

  async #answer(request: Request, peer: string): Promise<Response> {
    const { pathname, search } = new URL(request.url);
    const leader = this.#parts.leaderFile.read()?.http;
    if (pathname === "/livez") return text("ok", 200);
    if (pathname === "/readyz")
      return leader === undefined ? text(`not ready: ${WHY}, and does not know where it is`, 503) : text("ok", 200);
    if (pathname === "/metrics") {
      return new Response(await this.#metrics.text(), { headers: { "content-type": this.#metrics.contentType } });
    }
    if (this.#parts.ui === "off" && !RPC_PATH.test(pathname)) return text("The pages are turned off here.", 404);
    if (this.#parts.ui === "read-only" && pathname.startsWith("/do/"))
      return text("The pages change nothing here.", 403);
    if (leader === undefined) return text(`${SENTENCE}. Where the other one is, it has not said.`, 503);
    if (!mayForward(leader, peer)) return text(`${SENTENCE}. The other one answers on its own machine alone.`, 403);
    return forward(request, `http://${hostPort(leader.host, leader.port)}${pathname}${search}`);
  }
}

function mayForward({ host }: Address, peer: string): boolean {
  return !(isLoopback(host) || host === "localhost") || isLoopback(peer);
}

async function forward(request: Request, url: string): Promise<Response> {
  const headers = new Headers(request.headers);
  for (const name of HOP_BY_HOP) headers.delete(name);
  if (!headers.has("accept-encoding")) headers.set("accept-encoding", "identity");
  const { method, body, signal } = request;
  try {
    const answer = await fetch(url, { method, headers, body, signal, redirect: "manual", decompress: false });
    const answered = new Headers(answer.headers);
    for (const name of HOP_BY_HOP) answered.delete(name);
    return new Response(answer.body, { status: answer.status, headers: answered });
  } catch {
    return text(`${SENTENCE}. The other one does not answer.`, 503);
  }
}

function text(words: string, status: number): Response {
  return new Response(`${words}\n`, { status, headers: { "content-type": "text/plain; charset=utf-8" } });
}

/** All methods of a coordinator: none of them is answered. */
function refusingMethods(): ServedMethod[] {
  const refuse = (): never => {
    throw new Refusal("NOT_INITIALIZED", WHY);
  };
  return [OxiaAdmin, VariaAdmin]
    .flatMap(({ methods }) => methods)
    .map((method) => (method.methodKind === "unary" ? servedUnary(method, refuse) : servedStream(method, refuse)));
}
