/**
 * A stream of messages both ways over the simulated network. Each direction is in order and whole, or visibly broken:
 * what arrives is always a prefix of what was sent. Flow control is HTTP/2's: so many messages may be under way or
 * unread, further ones wait at the sender.
 *
 *     client  open, message …, half-close | cancel  ->  server
 *     client  <-  message …, end (with an error, or none)  server
 */
import { AssertionError } from "../../src/lib/assert.ts";
import { CallError, copyMessage, errorForCaller } from "./call-error.ts";
import type { Connection, IncomingCall, Network, Service } from "./network.ts";
import type { Life, SimNode } from "./node.ts";
import { type Frame, StreamEnd } from "./stream-end.ts";
import type { CallRequest } from "./unary-call.ts";

/** One side's hold of a stream. Iterating it gives the other side's messages; it ends, or throws CallError. */
export interface DuplexStream extends AsyncIterable<unknown> {
  /** False: the window is full; the message is kept, and the next one should wait for `drained`. Does nothing once the stream is over. */
  send(message: unknown): boolean;
  /** Resolves when nothing waits for the window any more, or the stream is over. */
  drained(): Promise<void>;
  /** The next message; undefined at the end. Throws CallError. */
  next(): Promise<unknown>;
  /** No more messages from this side; for the client: a server's handler just returns. */
  closeSend(): void;
  /** Gives the stream up: both sides hear CANCELLED. */
  cancel(): void;
  /** Resolves when it is over here: undefined when it ended as it should. */
  readonly ended: Promise<CallError | undefined>;
}

/** Opens a stream; whether it reaches anybody is heard later. */
export function openStream(network: Network, client: Life, call: CallRequest): DuplexStream {
  return new StreamCall(network, client, call).clientEnd;
}

class StreamCall implements Connection {
  readonly client: Life;
  readonly server: SimNode;
  serverLife: Life | undefined;
  readonly clientEnd: StreamEnd;
  readonly #network: Network;
  readonly #call: CallRequest;
  readonly #toServer: Pipe;
  readonly #toClient: Pipe;
  readonly #controller = new AbortController();
  /** Of both sides, as long as it lives: what one side waits for is what the other one gives back. */
  readonly #window: number;
  #serverEnd: StreamEnd | undefined;
  #serverOver = false;
  #stopDeadline: (() => void) | undefined;
  readonly #onAbort = () => this.clientEnd.cancel();

  constructor(network: Network, client: Life, call: CallRequest) {
    this.#network = network;
    this.#call = call;
    this.client = client;
    this.#window = network.rates.windowMessages;
    const server = network.hostOf(call.address);
    this.server = server ?? client.node;
    const { method, timeoutMs, signal } = call;
    this.#toServer = new Pipe(network, client.node, this.server, `stream ${method}`, (frame) => this.#atServer(frame));
    this.#toClient = new Pipe(network, this.server, client.node, `stream ${method}`, (frame) =>
      client.after(0, `stream ${method}`, () => this.clientEnd.receive(frame)),
    );
    this.clientEnd = new StreamEnd({
      isClient: true,
      window: this.#window,
      transmit: (frame) => this.#transmit(this.#toServer, frame),
      over: () => this.#clientIsOver(),
    });
    if (!client.alive) return;
    if (server === undefined) {
      const missing = new CallError("UNAVAILABLE", `no such host: ${call.address}`);
      this.#serverOver = true;
      client.after(0, "no such host", () => this.clientEnd.fail(missing));
      return;
    }
    network.opened(this);
    this.#toServer.send({ kind: "open" });
    signal?.addEventListener("abort", this.#onAbort);
    if (signal?.aborted === true) client.after(0, "cancelled", this.#onAbort);
    if (timeoutMs !== undefined) {
      const late = new CallError("DEADLINE_EXCEEDED", `not over within ${timeoutMs} ms`);
      this.#stopDeadline = client.after(timeoutMs, "deadline", () => this.clientEnd.cancel(late));
    }
  }

  get isOver(): boolean {
    const nobodyCame = this.serverLife === undefined && this.#toServer.closed;
    const serverOver = this.#serverOver || nobodyCame || this.serverLife?.alive === false;
    return serverOver && (this.clientEnd.isOver || !this.client.alive);
  }

  broken(side: "client" | "server", why: string): void {
    const end = side === "client" ? this.clientEnd : this.#serverEnd;
    if (end === undefined || end.isOver) return;
    const other = side === "client" ? "server" : "client";
    // what has arrived but was not read may be lost with it, or not
    end.fail(new CallError("UNAVAILABLE", why), { dropUnread: this.#network.random.chance(0.5) });
    if (this.serverLife === undefined) this.#toServer.send({ kind: "cancel" }); // follows its opening, should that arrive yet
    this.#network.breakLater(this, other, "the other side has closed the connection");
  }

  #transmit(pipe: Pipe, frame: Frame): void {
    const { random, rates } = this.#network;
    pipe.send(frame);
    if (frame.kind !== "message" || pipe.closed || !random.chance(rates.breakChance)) return;
    this.#toServer.closed = true;
    this.#toClient.closed = true;
    const [first, second] = random.chance(0.5) ? (["client", "server"] as const) : (["server", "client"] as const);
    if (random.chance(rates.halfOpenChance)) {
      // the one that hears of it cannot tell the other
      const life = first === "client" ? this.client : this.serverLife;
      const end = () => (first === "client" ? this.clientEnd : this.#serverEnd);
      life?.after(0, "reset", () => end()?.fail(new CallError("UNAVAILABLE", "the connection broke")));
    } else {
      this.#network.breakLater(this, first, "the connection broke");
    }
    this.#network.breakAtKeepalive(this, second);
  }

  #atServer(frame: Frame): void {
    const { method } = this.#call;
    if (frame.kind === "open") {
      const host = this.#network.accept(this, this.#call.address);
      if (host === undefined) {
        this.#serverIsOver();
        return;
      }
      this.serverLife = host.life;
      host.life.after(0, `stream ${method}`, () => this.#serve(host.life, host.service));
    } else {
      this.serverLife?.after(0, `stream ${method}`, () => this.#serverEnd?.receive(frame));
    }
  }

  #serve(life: Life, service: Service): void {
    const end = new StreamEnd({
      isClient: false,
      window: this.#window,
      transmit: (frame) => this.#transmit(this.#toClient, frame),
      over: () => this.#serverIsOver(),
    });
    this.#serverEnd = end;
    const { method, timeoutMs, headers = {} } = this.#call;
    const { signal } = this.#controller;
    const incoming: IncomingCall = { method, from: this.client.node.name, headers: { ...headers }, timeoutMs, signal };
    life.spawn(`serves ${method}`, async () => {
      try {
        if (service.stream === undefined) throw new CallError("UNIMPLEMENTED", method);
        await service.stream(incoming, end);
        end.finish(undefined);
      } catch (error) {
        if (error instanceof AssertionError) this.#network.scheduler.fail(error);
        end.finish(errorForCaller(error));
      }
    });
  }

  #clientIsOver(): void {
    this.#stopDeadline?.();
    this.#call.signal?.removeEventListener("abort", this.#onAbort);
    this.#closeWhenOver();
  }

  #serverIsOver(): void {
    this.#serverOver = true;
    this.#controller.abort();
    this.#closeWhenOver();
  }

  #closeWhenOver(): void {
    if (this.isOver) this.#network.closed(this);
  }
}

/** One direction: frames come out in the order in which they went in, however long each one took. */
class Pipe {
  /** Nothing comes out any more. */
  closed = false;
  readonly #network: Network;
  readonly #from: SimNode;
  readonly #to: SimNode;
  readonly #label: string;
  readonly #deliver: (frame: Frame) => void;
  readonly #early = new Map<number, Frame>();
  #sent = 0;
  #delivered = 0;

  constructor(network: Network, from: SimNode, to: SimNode, label: string, deliver: (frame: Frame) => void) {
    this.#network = network;
    this.#from = from;
    this.#to = to;
    this.#label = label;
    this.#deliver = deliver;
  }

  send(frame: Frame): void {
    const nth = this.#sent++;
    const copy = frame.kind === "message" ? { ...frame, message: copyMessage(frame.message) } : frame;
    const arrive = () => this.#arrive(nth, copy);
    this.#network.transmit(this.#from, this.#to, { label: this.#label, reliable: true, arrive });
  }

  #arrive(nth: number, arrived: Frame): void {
    if (this.closed) return;
    this.#early.set(nth, arrived);
    for (;;) {
      const frame = this.#early.get(this.#delivered);
      if (frame === undefined) return;
      this.#early.delete(this.#delivered++);
      this.#deliver(frame);
    }
  }
}
