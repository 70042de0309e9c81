import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { listenForTest, type TestListener, until } from "../../test/harness/rpc-server.ts";
import { Health as Service, HealthCheckResponse_ServingStatus as Serving } from "../gen/grpc/health/v1/health_pb.ts";
import { HEALTH_NAMES_LISTED_MAX } from "../model/limits.ts";
import { HEALTH_PROCESS, HEALTH_READINESS, Health } from "./health-api.ts";

let health: Health;
let listener: TestListener;
let client: Client<typeof Service>;

beforeEach(async () => {
  health = new Health();
  listener = await listenForTest(health.methods());
  client = createClient(Service, createGrpcTransport({ baseUrl: `http://${listener.address}` }));
});
afterEach(() => listener.close({ graceMs: 0 }));

const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => undefined,
    (error) => ConnectError.from(error).code,
  );

/** Collects the states that a watch of `service` tells. */
function watch(service: string) {
  const states: Serving[] = [];
  const abort = new AbortController();
  const ended = (async () => {
    for await (const { status } of client.watch({ service }, { signal: abort.signal })) states.push(status);
  })().catch((error) => ConnectError.from(error).code);
  return { states, stop: () => abort.abort(), ended };
}

describe("Check", () => {
  test("answers for the process and for registered names", async () => {
    health.set(HEALTH_PROCESS, true);
    health.set(HEALTH_READINESS, false);
    expect((await client.check({ service: "" })).status).toBe(Serving.SERVING);
    expect((await client.check({ service: "oxia-readiness" })).status).toBe(Serving.NOT_SERVING);
  });

  test("is NOT_FOUND for a name that nobody has registered", async () => {
    expect(await codeOf(client.check({ service: "oxia-readiness" }))).toBe(Code.NotFound);
  });
});

test("List tells all names, and is refused when there are too many", async () => {
  health.set(HEALTH_PROCESS, true);
  health.set("a", false);
  const { statuses } = await client.list({});
  expect(Object.entries(statuses).map(([name, { status }]) => [name, status])).toEqual([
    ["", Serving.SERVING],
    ["a", Serving.NOT_SERVING],
  ]);
  for (let i = 0; i < HEALTH_NAMES_LISTED_MAX; i++) health.set(`name-${i}`, true);
  expect(await codeOf(client.list({}))).toBe(Code.ResourceExhausted);
});

describe("Watch", () => {
  test("tells the state at once and each change, of its own name only", async () => {
    const watched = watch("a");
    await until(() => watched.states.length === 1, "the first state");
    health.set("b", true);
    health.set("a", true);
    await until(() => watched.states.length === 2, "the second state");
    health.set("a", true);
    health.set("a", false);
    await until(() => watched.states.length === 3, "the third state");
    expect(watched.states).toEqual([Serving.SERVICE_UNKNOWN, Serving.SERVING, Serving.NOT_SERVING]);
    watched.stop();
    await watched.ended;
  });

  test("leaves nothing behind when its client goes", async () => {
    const watched = watch("a");
    await until(() => watched.states.length === 1, "the first state");
    watched.stop();
    const stats = listener.stats().methods.find(({ method }) => method === "Watch")!;
    await until(() => stats.active === 0, "the end of the call");
    health.set("a", true);
    expect(watched.states).toEqual([Serving.SERVICE_UNKNOWN]);
  });
});

test("shutting down makes every name NOT_SERVING, tells the watchers, and lasts", async () => {
  health.set(HEALTH_PROCESS, true);
  health.set("a", true);
  const watched = watch("");
  await until(() => watched.states.length === 1, "the first state");
  health.shutDown();
  await until(() => watched.states.length === 2, "the second state");
  expect(watched.states).toEqual([Serving.SERVING, Serving.NOT_SERVING]);
  health.set("a", true);
  health.set("later", true);
  for (const service of ["", "a", "later"]) {
    expect((await client.check({ service })).status).toBe(Serving.NOT_SERVING);
  }
  expect([health.get("a"), health.get("unknown")]).toEqual([false, undefined]);
  watched.stop();
});
