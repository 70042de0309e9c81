/**
 * A listener of the serving layer on a free port, for its tests: methods are made from handlers, under the descriptors
 * of the client API and of the health service, so that any client can call them.
 */

import { OxiaClient as BinaryClient } from "../../src/gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { Health } from "../../src/gen/grpc/health/v1/health_pb.ts";
import { OxiaClient as JsonClient } from "../../src/gen/io/oxia/proto/v1/client_pb.ts";
import { systemClock } from "../../src/ops/clock.ts";
import type { LogFields, Logger } from "../../src/ports.ts";
import { type Listener, type ListenerOptions, startListener } from "../../src/rpc/listener.ts";
import type { Method, ServedMethod } from "../../src/rpc/method.ts";

type Handlers = Partial<Record<keyof typeof BinaryClient.method, Method>>;

export const LEGACY_SERVICE = "io.streamnative.oxia.proto.OxiaClient";

/** `/io.oxia.proto.v1.OxiaClient/<Name>` */
export function pathOf(name: keyof typeof BinaryClient.method): string {
  return `/${BinaryClient.typeName}/${BinaryClient.method[name].name}`;
}

/** Methods of the client API, under both service names, that do what `handlers` say. */
export function oxiaMethods(handlers: Handlers): ServedMethod[] {
  return (Object.keys(handlers) as (keyof Handlers)[]).map((name) => ({
    paths: [pathOf(name), `/${LEGACY_SERVICE}/${BinaryClient.method[name].name}`],
    binary: BinaryClient.method[name],
    json: JsonClient.method[name],
    method: handlers[name]!,
  }));
}

/** Health's Check as a bare method: a unary call whose request and response are the same bytes. */
export function echoCheck(): ServedMethod {
  const check = Health.method.check;
  return {
    paths: [`/${Health.typeName}/${check.name}`],
    binary: check,
    json: check,
    method: { kind: "unary", handle: (request) => request },
  };
}

export interface TestListener extends Listener {
  readonly address: string;
  /** What was logged, oldest first. */
  readonly logged: { level: string; fields: LogFields; message: string }[];
}

/** Listens on a free port of 127.0.0.1. */
export async function listenForTest(
  methods: readonly ServedMethod[],
  options: Partial<ListenerOptions> = {},
): Promise<TestListener> {
  const logged: TestListener["logged"] = [];
  const log = (level: string) => (fields: LogFields, message: string) => void logged.push({ level, fields, message });
  const logger: Logger = { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") };
  const listener = await startListener({
    host: "127.0.0.1",
    port: 0,
    clock: systemClock,
    logger,
    methods,
    ...options,
  });
  return Object.assign(listener, { address: `127.0.0.1:${listener.port}`, logged });
}

/** Resolves once `condition` holds; fails after `withinMs`, so that a test that waits in vain fails and does not hang. */
export async function until(condition: () => boolean, what: string, withinMs = 10_000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
