/**
 * One question and its answer over the simulated network. Question and answer travel on their own: they may be lost
 * with their connection, the question may arrive twice, and calls overtake each other. A caller that has given up does
 * not take anything back: the question may still arrive, late, and be carried out.
 */
import { AssertionError } from "../../src/lib/assert.ts";
import { CallError, copyMessage, errorForCaller } from "./call-error.ts";
import type { CallOptions, Connection, IncomingCall, Network, Service } from "./network.ts";
import type { Life, SimNode } from "./node.ts";

/** A call of either kind, apart from its messages. */
export interface CallRequest extends CallOptions {
  readonly address: string;
  readonly method: string;
}

export function callUnary(network: Network, client: Life, call: CallRequest, request: unknown): Promise<unknown> {
  return new Promise((resolve, reject) => {
    if (!client.alive) return;
    const server = network.hostOf(call.address);
    if (server === undefined) {
      client.after(0, "no such host", () => reject(new CallError("UNAVAILABLE", `no such host: ${call.address}`)));
      return;
    }
    new UnaryCall({ network, client, server, call, resolve, reject }).send(request);
  });
}

interface Parts {
  readonly network: Network;
  readonly client: Life;
  readonly server: SimNode;
  readonly call: CallRequest;
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: CallError) => void;
}

class UnaryCall implements Connection {
  readonly client: Life;
  readonly server: SimNode;
  serverLife: Life | undefined;
  readonly #parts: Parts;
  #settled = false;
  #stopDeadline: (() => void) | undefined;
  readonly #onAbort = () => this.#giveUp(new CallError("CANCELLED", "the caller has cancelled"));
  /** Of the handlers that run for it. */
  readonly #handlers = new Set<AbortController>();

  constructor(parts: Parts) {
    this.#parts = parts;
    this.client = parts.client;
    this.server = parts.server;
  }

  get isOver(): boolean {
    return this.#settled || !this.client.alive;
  }

  send(request: unknown): void {
    const { network, call, client } = this.#parts;
    const { timeoutMs, signal } = call;
    if (signal?.aborted === true) {
      this.#settled = true;
      client.after(0, "cancelled", () => this.#parts.reject(new CallError("CANCELLED", "the caller has cancelled")));
      return;
    }
    signal?.addEventListener("abort", this.#onAbort);
    if (timeoutMs !== undefined) {
      const late = () => this.#giveUp(new CallError("DEADLINE_EXCEEDED", `no answer within ${timeoutMs} ms`));
      this.#stopDeadline = client.after(timeoutMs, "deadline", late);
    }
    network.opened(this);
    const { loseChance, duplicateChance } = network.rates;
    if (network.random.chance(loseChance)) this.#lost();
    else this.#transmitRequest(copyMessage(request));
    if (network.random.chance(duplicateChance)) this.#transmitRequest(copyMessage(request));
  }

  broken(side: "client" | "server", why: string): void {
    if (side === "client") this.#settle(() => this.#parts.reject(new CallError("UNAVAILABLE", why)));
    this.#abortHandlers();
  }

  #transmitRequest(request: unknown): void {
    const { network, client, server, call } = this.#parts;
    const arrive = () => {
      const host = network.accept(this, call.address);
      if (host === undefined) return;
      this.serverLife = host.life;
      host.life.after(0, `call ${call.method}`, () => this.#handle(host.life, host.service, request));
    };
    network.transmit(client.node, server, { label: `request ${call.method}`, reliable: false, arrive });
  }

  #handle(life: Life, service: Service, request: unknown): void {
    const { network, client, call } = this.#parts;
    const controller = new AbortController();
    this.#handlers.add(controller);
    const { method, timeoutMs, headers = {} } = call;
    const { signal } = controller;
    const incoming: IncomingCall = { method, from: client.node.name, headers: { ...headers }, timeoutMs, signal };
    if (this.#settled) life.after(0, "cancelled", () => controller.abort());
    life.spawn(`answers ${method}`, async () => {
      try {
        if (service.unary === undefined) throw new CallError("UNIMPLEMENTED", method);
        const answer = copyMessage(await service.unary(incoming, request));
        this.#answer(() => this.#parts.resolve(answer));
      } catch (error) {
        if (error instanceof AssertionError) network.scheduler.fail(error);
        this.#answer(() => this.#parts.reject(errorForCaller(error)));
      } finally {
        this.#handlers.delete(controller);
      }
    });
  }

  #answer(settle: () => void): void {
    const { network, client, server, call } = this.#parts;
    if (this.#settled) return;
    if (network.random.chance(network.rates.loseChance)) {
      this.#lost();
      return;
    }
    const arrive = () => client.after(0, `answer ${call.method}`, () => this.#settle(settle));
    network.transmit(server, client.node, { label: `answer ${call.method}`, reliable: false, arrive });
  }

  /** What was sent is lost, and its connection with it: the caller hears of that, some time. */
  #lost(): void {
    const { network, client } = this.#parts;
    const { delay, keepaliveMs } = network.rates;
    const heardMs = network.random.between(delay.minMs, keepaliveMs);
    client.after(heardMs, "lost", () => this.broken("client", "the connection broke"));
  }

  #giveUp(error: CallError): void {
    if (this.#settled) return;
    this.#settle(() => this.#parts.reject(error));
    const { network, client, server } = this.#parts;
    const arrive = () => this.serverLife?.after(0, "cancelled", () => this.#abortHandlers());
    network.transmit(client.node, server, { label: "cancel", reliable: true, arrive });
  }

  #abortHandlers(): void {
    for (const controller of this.#handlers) controller.abort();
  }

  #settle(settle: () => void): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#stopDeadline?.();
    this.#parts.call.signal?.removeEventListener("abort", this.#onAbort);
    this.#parts.network.closed(this);
    settle();
  }
}
