/**
 * The simulated network: who can reach whom, and when a message arrives. Calls are in unary-call.ts and
 * stream-call.ts; both go through `Network.channel`, the network as one process sees it.
 *
 *     link a -> b     cut or not, one direction at a time; so many times slower than usual
 *     pair a, b       healthy while both links are whole, both machines are up and neither process is stopped
 *
 * A message that meets a cut link waits there. When the link heals, what belongs to a stream goes on, in order, as
 * TCP sends it again; what belongs to a unary call goes on or is lost. A call or stream between a pair that has been
 * unhealthy for `keepaliveMs` on end is broken, on each side as that side gets to notice.
 *
 *     process killed      its machine resets its connections: peers hear UNAVAILABLE one delay later
 *     machine gone        peers hear nothing, until their keepalive fails or the machine is up again and resets them
 *     process stopped     what is sent to it queues up; peers' keepalives fail
 *     nobody listens      UNAVAILABLE after a round trip
 */
import { assert } from "../../src/lib/assert.ts";
import type { NetworkRates } from "./network-rates.ts";
import type { Ending, Life, SimNode } from "./node.ts";
import type { SimRandom } from "./random.ts";
import type { Scheduler } from "./scheduler.ts";
import { type DuplexStream, openStream } from "./stream-call.ts";
import { callUnary } from "./unary-call.ts";

/** What a handler is told of a call. */
export interface IncomingCall {
  readonly method: string;
  /** Name of the calling node. */
  readonly from: string;
  /** The call's metadata, lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** What the caller has left, as it said when it called. */
  readonly timeoutMs: number | undefined;
  /** Aborted when the caller has cancelled, its deadline has passed there, or the connection is broken. */
  readonly signal: AbortSignal;
}

/** What a process answers at one address. A handler that throws a Refusal gives the caller that refusal. */
export interface Service {
  unary?(call: IncomingCall, request: unknown): Promise<unknown>;
  /** The stream ends in order when this resolves. */
  stream?(call: IncomingCall, stream: DuplexStream): Promise<void>;
}

export interface CallOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** The network as one process sees it. Calls end with CallError. */
export interface Channel {
  unary(address: string, method: string, request: unknown, options?: CallOptions): Promise<unknown>;
  /** Opens a stream both ways: at once, whether the other side can be reached is heard later. */
  stream(address: string, method: string, options?: CallOptions): DuplexStream;
  /** One request, then the answers. */
  serverStream(address: string, method: string, request: unknown, options?: CallOptions): DuplexStream;
  listen(address: string, service: Service): void;
}

/** A call or stream that is open: what the network has to be able to break. */
export interface Connection {
  readonly client: Life;
  readonly server: SimNode;
  /** The process that took it, once it has arrived there. */
  readonly serverLife: Life | undefined;
  /** Nothing more can come of it, on either side. */
  readonly isOver: boolean;
  /** That side hears that it is broken. Does nothing when it is over there. */
  broken(side: "client" | "server", why: string): void;
}

/** However slow a link is, what is sent on it arrives within this time: no longer than until a sender would send again. */
const SLOW_MS_MAX = 5_000;

interface Link {
  cut: boolean;
  /** Delays are this many times longer. */
  slowness: number;
  waiting: Transmission[];
}

interface Transmission {
  readonly from: SimNode;
  readonly to: SimNode;
  readonly label: string;
  /** Sent again when a cut heals; else perhaps. */
  readonly reliable: boolean;
  readonly arrive: () => void;
}

export class Network {
  readonly scheduler: Scheduler;
  readonly random: SimRandom;
  /** May be replaced while the run goes on: `CALM` once faults are to stop. */
  rates: NetworkRates;
  /** By where they begin, then where they end. */
  readonly #links = new Map<SimNode, Map<SimNode, Link>>();
  readonly #nodes = new Set<SimNode>();
  readonly #hosts = new Map<string, { readonly life: Life; readonly service: Service }>();
  readonly #connections = new Set<Connection>();
  /** Those whose opening came to a machine that was off. */
  readonly #unopened = new Set<Connection>();
  /** Since when a pair is unhealthy; absent while it is healthy. */
  readonly #unhealthySince = new Map<string, number>();

  constructor(scheduler: Scheduler, random: SimRandom, rates: NetworkRates) {
    this.scheduler = scheduler;
    this.random = random;
    this.rates = rates;
  }

  /** Plugs a machine in; once for each. */
  attach(node: SimNode): void {
    assert(!this.#nodes.has(node), "a machine that is plugged in already");
    this.#nodes.add(node);
    node.watchers.push({
      started: () => this.#started(node),
      ended: (life, how) => this.#ended(life, how),
      changed: () => this.#healthChanged(),
    });
  }

  channel(life: Life): Channel {
    return {
      unary: (address, method, request, options = {}) =>
        callUnary(this, life, { address, method, ...options }, request),
      stream: (address, method, options = {}) => openStream(this, life, { address, method, ...options }),
      serverStream: (address, method, request, options = {}) => {
        const stream = openStream(this, life, { address, method, ...options });
        stream.send(request);
        stream.closeSend();
        return stream;
      },
      listen: (address, service) => {
        const host = this.#hosts.get(address);
        assert(host === undefined || !host.life.alive, "somebody listens there already", address);
        this.#hosts.set(address, { life, service });
      },
    };
  }

  // --- faults ---------------------------------------------------------------------------------------------------

  /** Cuts the link in this direction alone. */
  cut(from: SimNode, to: SimNode): void {
    this.#link(from, to).cut = true;
    this.scheduler.trace.event(this.scheduler.nowMs, from.name, "cut", to.name);
    this.#healthChanged();
  }

  /** Cuts all links between two groups, both ways. */
  partition(left: readonly SimNode[], right: readonly SimNode[]): void {
    for (const a of left) {
      for (const b of right) {
        this.cut(a, b);
        this.cut(b, a);
      }
    }
  }

  /** Makes the link in this direction whole again: what waits there goes on. */
  heal(from: SimNode, to: SimNode): void {
    const link = this.#link(from, to);
    if (!link.cut) return;
    link.cut = false;
    this.scheduler.trace.event(this.scheduler.nowMs, from.name, "healed", to.name);
    const { waiting } = link;
    link.waiting = [];
    for (const one of waiting) {
      if (one.reliable || this.random.chance(this.rates.lateChance)) this.#send(one);
    }
    this.#healthChanged();
  }

  healAll(): void {
    for (const from of this.#nodes) for (const to of this.#nodes) this.heal(from, to);
  }

  /** Delays in this direction become `slowness` times as long; 1 is usual. */
  slow(from: SimNode, to: SimNode, slowness: number): void {
    this.#link(from, to).slowness = slowness;
  }

  /** Breaks every connection between two machines, as a middlebox does that forgets them: both sides hear of it. */
  reset(a: SimNode, b: SimNode): void {
    for (const connection of this.#connections) {
      if (!joins(connection, a, b)) continue;
      this.breakLater(connection, "client", "the connection was reset");
      this.breakLater(connection, "server", "the connection was reset");
    }
  }

  // --- for calls and streams ------------------------------------------------------------------------------------

  /** The machine that an address leads to, or undefined when nobody has ever listened there. */
  hostOf(address: string): SimNode | undefined {
    return this.#hosts.get(address)?.life.node;
  }

  /** Sends something on its way. It arrives unless it meets a cut link that never heals, or is lost there. */
  transmit(from: SimNode, to: SimNode, options: { label: string; reliable: boolean; arrive: () => void }): void {
    this.#send({ from, to, ...options });
  }

  /** How long one message takes this way, now. */
  delayMs(from: SimNode, to: SimNode): number {
    return Math.min(this.random.duration(this.rates.delay) * this.#link(from, to).slowness, SLOW_MS_MAX);
  }

  /** Who listens where a call has just arrived. When nobody does, the caller is told, if anybody is there to tell it. */
  accept(connection: Connection, address: string): { readonly life: Life; readonly service: Service } | undefined {
    const host = this.#hosts.get(address);
    if (host === undefined) return undefined;
    if (!host.life.node.powered) {
      this.#unopened.add(connection);
      return undefined;
    }
    if (host.life.alive) return host;
    this.breakLater(connection, "client", "connection refused");
    return undefined;
  }

  /** Keeps account of a connection until `closed`. */
  opened(connection: Connection): void {
    this.#connections.add(connection);
    if (!this.#isHealthy(connection.client.node, connection.server)) this.#watch(connection, "client");
  }

  /** Calls and streams that are not over on both sides. */
  get open(): number {
    return this.#connections.size;
  }

  closed(connection: Connection): void {
    this.#connections.delete(connection);
    this.#unopened.delete(connection);
  }

  /** One side hears, one delay from now if the way there is whole, that the connection is broken. */
  breakLater(connection: Connection, side: "client" | "server", why: string): void {
    const { client, server, serverLife } = connection;
    const [from, to] = side === "client" ? [server, client.node] : [client.node, server];
    const life = side === "client" ? client : serverLife;
    if (life === undefined) return;
    const arrive = () => life.after(0, "reset", () => connection.broken(side, why));
    this.transmit(from, to, { label: "reset", reliable: true, arrive });
  }

  /** One side hears that the connection is broken when its keepalive fails. */
  breakAtKeepalive(connection: Connection, side: "client" | "server"): void {
    const life = side === "client" ? connection.client : connection.serverLife;
    life?.after(this.rates.keepaliveMs, "keepalive", () => connection.broken(side, "keepalive timed out"));
  }

  // --- inside ---------------------------------------------------------------------------------------------------

  #link(from: SimNode, to: SimNode): Link {
    let links = this.#links.get(from);
    if (links === undefined) {
      links = new Map();
      this.#links.set(from, links);
    }
    let link = links.get(to);
    if (link === undefined) {
      link = { cut: false, slowness: 1, waiting: [] };
      links.set(to, link);
    }
    return link;
  }

  #send(one: Transmission): void {
    const link = this.#link(one.from, one.to);
    this.scheduler.after(this.delayMs(one.from, one.to), one.label, () => {
      if (link.cut && one.from !== one.to) link.waiting.push(one);
      else one.arrive();
    });
  }

  #isHealthy(a: SimNode, b: SimNode): boolean {
    if (a === b) return true;
    return a.powered && b.powered && !a.paused && !b.paused && !this.#link(a, b).cut && !this.#link(b, a).cut;
  }

  /** Looks at all pairs that have a connection, and starts the keepalives of those that have become unhealthy. */
  #healthChanged(): void {
    const seen = new Set<string>();
    const turned = new Set<string>();
    for (const connection of this.#connections) {
      const { client, server } = connection;
      const pair = pairOf(client.node, server);
      if (!seen.has(pair)) {
        seen.add(pair);
        if (this.#isHealthy(client.node, server)) this.#unhealthySince.delete(pair);
        else if (!this.#unhealthySince.has(pair)) {
          this.#unhealthySince.set(pair, this.scheduler.nowMs);
          turned.add(pair);
        }
      }
      if (!turned.has(pair)) continue;
      this.#watch(connection, "client");
      this.#watch(connection, "server");
    }
    for (const pair of this.#unhealthySince.keys()) if (!seen.has(pair)) this.#unhealthySince.delete(pair);
  }

  /** Breaks one side of a connection if its pair stays unhealthy from now on for as long as its keepalive takes. */
  #watch(connection: Connection, side: "client" | "server"): void {
    const { client, server, serverLife } = connection;
    const pair = pairOf(client.node, server);
    if (!this.#unhealthySince.has(pair)) this.#unhealthySince.set(pair, this.scheduler.nowMs);
    const since = this.#unhealthySince.get(pair);
    const life = side === "client" ? client : serverLife;
    life?.after(this.rates.keepaliveMs, "keepalive", () => {
      if (this.#unhealthySince.get(pair) === since) connection.broken(side, "keepalive timed out");
    });
  }

  #started(node: SimNode): void {
    // what the machine held open before it went away is unknown to it now
    for (const connection of this.#connections) {
      const { client, server, serverLife } = connection;
      if (server === node && (serverLife?.alive === false || this.#unopened.has(connection))) {
        this.breakLater(connection, "client", "the machine came back and knows nothing of the connection");
      }
      if (client.node === node && !client.alive) {
        this.breakLater(connection, "server", "the machine came back and knows nothing of the connection");
        this.closed(connection);
      }
    }
    this.#healthChanged();
  }

  #ended(life: Life, how: Ending): void {
    if (how === "killed") {
      for (const connection of this.#connections) {
        if (connection.serverLife === life) this.breakLater(connection, "client", "the process has ended");
        if (connection.client === life) {
          this.breakLater(connection, "server", "the process has ended");
          this.closed(connection);
        }
      }
    }
    for (const connection of this.#connections) if (connection.isOver) this.closed(connection);
    this.#healthChanged();
  }
}

function pairOf(a: SimNode, b: SimNode): string {
  return a.name < b.name ? `${a.name}<>${b.name}` : `${b.name}<>${a.name}`;
}

function joins({ client, server }: Connection, a: SimNode, b: SimNode): boolean {
  return (client.node === a && server === b) || (client.node === b && server === a);
}
