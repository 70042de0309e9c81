/** Listeners and connections of one test file, closed after each test, the last opened first. */
import { afterEach } from "bun:test";
import { Connection } from "./grpc.ts";
import { RawConnection } from "./raw-http2.ts";
import { listenForTest, oxiaMethods, type TestListener } from "./rpc-server.ts";

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
