/**
 * What a client and a server may rely on from each other, whatever lies between them: the client's Transport port on one
 * side, a table of methods on the other. Run on HTTP/2 and on the simulated network.
 */
import { expect, test } from "bun:test";
import type { CallStatus } from "../../src/client/call-status.ts";
import type { Call, Transport } from "../../src/client/transport.ts";
import { type Bytes, text, utf8 } from "../../src/lib/bytes.ts";
import { Refusal } from "../../src/model/refusal.ts";
import type { ServedMethod, Call as ServerCall } from "../../src/rpc/method.ts";
import { oxiaMethods, pathOf } from "../harness/rpc-server.ts";

/** A client and a server of the methods of `CallServer`, ready. */
export interface CallPlace {
  readonly transport: Transport;
  readonly address: string;
  sleep(ms: number): Promise<void>;
}

/** Runs a flow with a place of its own, to its end. */
export type RunCalls = (server: CallServer, flow: (place: CallPlace) => Promise<void>) => Promise<void>;

/** What the server does, and what it has heard. */
export class CallServer {
  readonly heard: string[] = [];
  readonly calls: ServerCall[] = [];
  /** Messages of a bidirectional stream after which it takes no more until `resume`. */
  pauseAfter = Number.POSITIVE_INFINITY;
  resume = (): void => {};
  /** Sent of `flood`, and how often the client was to be waited for. */
  flooded = 0;
  choked = 0;

  readonly methods: ServedMethod[] = oxiaMethods({
    write: {
      kind: "unary",
      handle: (request, call) => {
        this.calls.push(call);
        const asked = text(request);
        if (asked === "refuse") {
          throw new Refusal("NODE_IS_NOT_LEADER", "", { hint: { shard: 3, leader: "other:6648" } });
        }
        if (asked === "hang") return new Promise(() => this.#watch(call));
        return utf8(`answer to ${asked}`);
      },
    },
    read: {
      kind: "server-stream",
      handle: async (request, call, sink) => {
        call.setResponseHeader("varia-test", text(request));
        if (text(request) === "flood") await this.#flood(sink);
        else for (const word of text(request).split(" ")) sink.send(utf8(word));
        if (text(request) === "and stay") await new Promise<void>((resolve) => call.onCancel(resolve));
        if (text(request) === "then fail") throw new Refusal("INVALID_ARGUMENT", "no: ü%");
      },
    },
    writeStream: {
      kind: "bidi",
      open: (call, controls) => {
        this.#watch(call);
        this.heard.push(`shard ${call.header("shard-id").join()}`);
        this.resume = () => controls.resume();
        let messages = 0;
        return {
          message: (message) => {
            this.heard.push(text(message));
            controls.send(utf8(`got ${text(message)}`));
            return ++messages !== this.pauseAfter;
          },
          end: () => {
            this.heard.push("end");
            controls.end();
          },
        };
      },
    },
  });

  #watch(call: ServerCall): void {
    call.onCancel(() => this.heard.push(`cancelled ${call.cancelled}`));
  }

  async #flood(sink: { send(message: Bytes): boolean; drained(): Promise<void> }): Promise<void> {
    const message = new Uint8Array(64 * 1024);
    for (let n = 0; n < FLOOD; n++) {
      this.flooded++;
      if (sink.send(message.slice())) continue;
      this.choked++;
      await sink.drained();
    }
  }
}

const FLOOD = 400;

interface Heard {
  readonly call: Call;
  readonly messages: string[];
  readonly headers: Record<string, string | undefined>[];
  readonly ended: Promise<CallStatus>;
}

export function framed(message: string): Bytes {
  const bytes = new Uint8Array(5 + message.length);
  new DataView(bytes.buffer).setUint32(1, message.length);
  bytes.set(utf8(message), 5);
  return bytes;
}

function open(
  { transport, address }: CallPlace,
  path: string,
  options: { readonly message?: string; readonly timeoutMs?: number } = {},
): Heard {
  const heard = { messages: [] as string[], headers: [] as Record<string, string | undefined>[] };
  const { promise, resolve } = Promise.withResolvers<CallStatus>();
  let isWithin = true;
  const call = transport.open(
    {
      address,
      path,
      headers: { "shard-id": "7" },
      ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
      ...(options.message === undefined ? {} : { message: framed(options.message) }),
    },
    {
      headers: (headers) => heard.headers.push({ ...headers }),
      message: (message) => {
        expect(isWithin).toBe(false);
        heard.messages.push(message.length > 1000 ? "…" : text(message));
      },
      drained: () => {},
      ended: resolve,
    },
  );
  isWithin = false;
  return { call, ...heard, ended: promise };
}

const WRITE = pathOf("write");
const READ = pathOf("read");
const STREAM = pathOf("writeStream");

export function clientCallsContract(name: string, run: RunCalls): void {
  const check = (what: string, flow: (place: CallPlace, server: CallServer) => Promise<void>) =>
    test(`${name}: ${what}`, () => {
      const server = new CallServer();
      return run(server, (place) => flow(place, server));
    });

  check("a request has its answer, and the server knows who was called", async (place, { calls }) => {
    const { messages, ended } = open(place, WRITE, { message: "x" });
    expect(await ended).toMatchObject({ code: 0, reason: undefined });
    expect(messages).toEqual(["answer to x"]);
    expect(calls[0]!.authority).toBe(place.address);
    expect([calls[0]!.header("shard-id"), calls[0]!.header("nothing")]).toEqual([["7"], []]);
    expect(calls[0]!.cancelled).toBe(false);
  });

  check("a refusal comes with its reason and the leader that it names, and without headers", async (place) => {
    const { messages, headers, ended } = open(place, WRITE, { message: "refuse" });
    expect(await ended).toEqual({
      code: 10,
      message: "oxia: node is not leader",
      reason: "NODE_IS_NOT_LEADER",
      hint: { shard: 3, leader: "other:6648" },
    });
    expect([messages, headers]).toEqual([[], []]);
  });

  check("messages of a stream come in order behind its headers, and then its end", async (place) => {
    const { messages, headers, ended } = open(place, READ, { message: "one two three" });
    expect((await ended).code).toBe(0);
    expect(messages).toEqual(["one", "two", "three"]);
    expect(headers).toHaveLength(1);
    expect(headers[0]!["varia-test"]).toBe("one two three");
  });

  check("messages of a stream come when they are sent, not only with its end", async (place) => {
    const { call, messages, headers } = open(place, READ, { message: "and stay" });
    while (messages.length < 2) await place.sleep(1);
    expect([messages, headers[0]!["varia-test"]]).toEqual([["and", "stay"], "and stay"]);
    call.cancel();
  });

  check("a stream that fails has sent what it had", async (place) => {
    const { messages, ended } = open(place, READ, { message: "then fail" });
    expect(await ended).toEqual({ code: 3, message: "no: ü%", reason: undefined, hint: undefined });
    expect(messages).toEqual(["then", "fail"]);
  });

  check(
    "both sides of a bidirectional stream send as they like, until the client has no more",
    async (place, server) => {
      const { call, messages, ended } = open(place, STREAM);
      for (const message of ["a", "b"]) call.send(framed(message));
      while (messages.length < 2) await place.sleep(1);
      call.send(framed("c"));
      call.halfClose();
      expect((await ended).code).toBe(0);
      expect(messages).toEqual(["got a", "got b", "got c"]);
      expect(server.heard).toEqual(["shard 7", "a", "b", "c", "end"]);
    },
  );

  check("a handler that takes no more is not given any until it resumes", async (place, server) => {
    server.pauseAfter = 1;
    const { call, messages, ended } = open(place, STREAM);
    for (const message of ["a", "b"]) call.send(framed(message));
    call.halfClose();
    while (messages.length < 1) await place.sleep(1);
    await place.sleep(50);
    expect(server.heard).toEqual(["shard 7", "a"]);
    server.resume();
    expect((await ended).code).toBe(0);
    expect(server.heard).toEqual(["shard 7", "a", "b", "end"]);
  });

  check("a call that its client gives up is cancelled at the server, once, and says no more", async (place, server) => {
    const { call, messages, ended } = open(place, WRITE, { message: "hang" });
    while (server.calls.length === 0) await place.sleep(1);
    call.cancel();
    while (server.heard.length === 0) await place.sleep(1);
    await place.sleep(20);
    expect(server.heard).toEqual(["cancelled true"]);
    expect(await Promise.race([ended, place.sleep(20).then(() => "nothing")])).toBe("nothing");
    expect(messages).toEqual([]);
  });

  check("the server gives a call up after its time", async (place, server) => {
    const { ended } = open(place, WRITE, { message: "hang", timeoutMs: 50 });
    expect(await ended).toMatchObject({ code: 4 });
    expect(server.heard).toEqual(["cancelled true"]);
  });

  check("a method that nobody serves is unimplemented", async (place) => {
    const { ended } = open(place, "/no.Such/Method", { message: "x" });
    expect((await ended).code).toBe(12);
  });

  check("where nobody listens a call is unavailable", async (place) => {
    const { ended } = open({ ...place, address: "127.0.0.1:1" }, WRITE, { message: "x" });
    expect((await ended).code).toBe(14);
  });

  check("a client that does not read holds the server back, until it reads on", async (place, server) => {
    const { call, messages, ended } = open(place, READ, { message: "flood" });
    call.pause();
    while (server.choked === 0) await place.sleep(5);
    await place.sleep(50);
    const held = server.flooded;
    expect(held).toBeLessThan(FLOOD);
    await place.sleep(50);
    expect(server.flooded).toBe(held);
    call.resume();
    expect((await ended).code).toBe(0);
    expect(messages).toHaveLength(FLOOD);
  });

  check("a transport that is closed cancels its calls and makes no more", async (place, server) => {
    open(place, WRITE, { message: "hang" });
    while (server.calls.length === 0) await place.sleep(1);
    place.transport.close();
    while (server.heard.length === 0) await place.sleep(1);
    expect(server.heard).toEqual(["cancelled true"]);
    expect((await open(place, WRITE, { message: "x" }).ended).code).toBe(1);
  });
}
