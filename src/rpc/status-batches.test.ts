/** Where many replicas stand, over a real connection: in one call where the server knows it, else one by one. */
import { afterEach, expect, test } from "bun:test";
import { listenForTest, type TestListener } from "../../test/harness/rpc-server.ts";
import { Http2Transport } from "../client/http2-transport.ts";
import { STATUS_CALLS_AT_ONCE_MAX } from "../model/limits.ts";
import type { GetStatusRequest, GetStatusResponse } from "../model/peer-messages.ts";
import { Refusal, Unreachable } from "../model/refusal.ts";
import { systemClock } from "../ops/clock.ts";
import { GrpcDataServers } from "./data-servers.ts";
import { type InternalServer, internalMethods } from "./internal-methods.ts";
import { statusMethods } from "./status-batches.ts";

const listeners: TestListener[] = [];
const transports: Http2Transport[] = [];
afterEach(async () => {
  for (const transport of transports.splice(0)) transport.close();
  for (const listener of listeners.splice(0)) await listener.close({ graceMs: 0 });
});

const STATUS: GetStatusResponse = {
  ...{ term: 7, status: "FOLLOWER", headOffset: 9, commitOffset: 8, replicaId: 5n, ended: "", promise: 7 },
  ...{ appliedOffset: 8, verifiedOffset: 9, headTerm: 7, headCrc: 99, scanned: true, frozen: false },
};

async function serverOf({ isOurs }: { readonly isOurs: boolean }) {
  const counts = { paths: [] as string[], atOnce: 0, mostAtOnce: 0 };
  const server = {
    instance: "cluster-1",
    async getStatus({ shard }: GetStatusRequest) {
      counts.mostAtOnce = Math.max(counts.mostAtOnce, ++counts.atOnce);
      await Bun.sleep(1);
      counts.atOnce--;
      if (shard === 5) throw new Refusal("NODE_IS_NOT_MEMBER", "no replica of shard 5 lives here");
      return { ...STATUS, headOffset: shard };
    },
  } as unknown as InternalServer;
  const methods = [...internalMethods(server), ...(isOurs ? statusMethods(server) : [])].map((served) => ({
    ...served,
    method:
      served.method.kind !== "unary"
        ? served.method
        : {
            ...served.method,
            handle: (...call: Parameters<typeof served.method.handle>) => {
              counts.paths.push(served.json.name);
              return (served.method as unknown as { handle: (...call: unknown[]) => never }).handle(...call);
            },
          },
  }));
  const listener = await listenForTest(methods as never);
  listeners.push(listener);
  const transport = new Http2Transport();
  transports.push(transport);
  const dataServers = new GrpcDataServers({ transport, clock: systemClock, instanceId: () => "cluster-1" });
  return { counts, dataServers, address: `127.0.0.1:${listener.port}` };
}

const LIMITS = { timeoutMs: 10_000 };
const SHARDS = Array.from({ length: 200 }, (_, shard) => shard);

test("what is asked in one turn is one call; a replica without an answer is asked by itself, and says why", async () => {
  const { counts, dataServers, address } = await serverOf({ isOurs: true });
  const ask = (shard: number) => dataServers.getStatus(address, { shard }, LIMITS);
  const answers = await Promise.allSettled(SHARDS.map(ask));
  for (const [shard, answer] of answers.entries()) {
    if (shard === 5) expect(answer).toMatchObject({ reason: { reason: "NODE_IS_NOT_MEMBER" } });
    else expect(answer).toEqual({ status: "fulfilled", value: { ...STATUS, headOffset: shard } });
  }
  expect(counts.paths).toEqual(["GetStatuses", "GetStatus"]);
  expect(await ask(7)).toEqual({ ...STATUS, headOffset: 7 });
  expect(counts.paths.at(-1)).toBe("GetStatus");
});

test("a server that does not know the call is asked one by one, so many at once", async () => {
  const { counts, dataServers, address } = await serverOf({ isOurs: false });
  const answers = await Promise.all(
    SHARDS.filter((shard) => shard !== 5).map((shard) => dataServers.getStatus(address, { shard }, LIMITS)),
  );
  expect(answers.map(({ headOffset }) => headOffset)).toEqual(SHARDS.filter((shard) => shard !== 5));
  expect(counts.paths.every((path) => path === "GetStatus")).toBe(true);
  expect(counts.mostAtOnce).toBeGreaterThan(1);
  expect(counts.mostAtOnce).toBeLessThanOrEqual(STATUS_CALLS_AT_ONCE_MAX);
});

test("who is not there is not there for all of them, and one that is given up is given up alone", async () => {
  const { dataServers, address } = await serverOf({ isOurs: true });
  const away = await Promise.allSettled([1, 2].map((shard) => dataServers.getStatus("127.0.0.1:1", { shard }, LIMITS)));
  for (const answer of away) expect((answer as PromiseRejectedResult).reason).toBeInstanceOf(Unreachable);
  const controller = new AbortController();
  const given = dataServers.getStatus(address, { shard: 3 }, { ...LIMITS, signal: controller.signal });
  const other = dataServers.getStatus(address, { shard: 4 }, LIMITS);
  controller.abort();
  expect(given).rejects.toBeInstanceOf(Unreachable);
  expect((await other).headOffset).toBe(4);
});
