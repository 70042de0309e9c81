/** Listeners and connections of one test file, closed after each test, the last opened first. */
import { afterEach } from "bun:test";
import { type Bytes, EMPTY_BYTES } from "../../src/lib/bytes.ts";
import type { BidiControls, Call, Method } from "../../src/rpc/method.ts";
import { Connection, type Reply } from "./grpc.ts";
import { RawConnection } from "./raw-http2.ts";
import { listenForTest, oxiaMethods, pathOf, type TestListener } from "./rpc-server.ts";

type Handlers = Parameters<typeof oxiaMethods>[0];

let open: { close(): unknown }[] = [];

/** To be called once, at the top of a test file. */
export function closeAfterEach(): void {
  afterEach(async () => {
    for (const each of open.reverse()) await each.close();
    open = [];
  });
}

/** Has what a test opened itself closed with the rest. */
export function closeLater(opened: { close(): unknown }): void {
  open.push(opened);
}

export async function listen(handlers: Handlers, options = {}): Promise<TestListener> {
  const listener = await listenForTest(oxiaMethods(handlers), options);
  open.push({ close: () => listener.close({ graceMs: 0 }) });
  return listener;
}

export async function connect(listener: TestListener): Promise<Connection> {
  const connection = await Connection.open(listener.address);
  open.push(connection);
  return connection;
}

/** A connection that speaks HTTP/2 by hand, its preface sent. */
export async function connectRaw(listener: TestListener): Promise<RawConnection> {
  const raw = await RawConnection.open(listener.address);
  open.push(raw);
  raw.greet();
  return raw;
}

export const unary = (handle: (request: Bytes, call: Call) => Bytes | Promise<Bytes>): Method => ({
  kind: "unary",
  handle,
});
/** Bytes that differ from place to place. */
export const bytesOf = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 31) % 251);

/** Calls Write of a listener whose Write is `handle`. */
export async function callWrite(
  handle: (request: Bytes, call: Call) => Bytes | Promise<Bytes>,
  request: Bytes = EMPTY_BYTES,
  options: Parameters<Connection["call"]>[2] = {},
): Promise<Reply & { listener: TestListener }> {
  const listener = await listen({ write: unary(handle) });
  const reply = await (await connect(listener)).call(pathOf("write"), request, options);
  return { ...reply, listener };
}

/** Answers each message with itself, at the pace of the reader. */
export function echoing(controls: BidiControls) {
  return {
    message(request: Bytes) {
      if (controls.send(request)) return true;
      controls.drained().then(controls.resume.bind(controls), () => {});
      return false;
    },
    end: () => controls.end(),
  };
}
