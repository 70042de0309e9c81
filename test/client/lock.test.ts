/** Locks, elections and caches against a server. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  type ClientOptions,
  connect,
  type HeldLock,
  LeaderElection,
  Lock,
  LockLostError,
  RequestTimeoutError,
  type VariaClient,
} from "../../src/client/index.ts";
import { errorOf } from "../harness/fake-client.ts";
import { startServer, type TestServer } from "./server.ts";

let server: TestServer;
let client: VariaClient;
const RUN = `t${Date.now().toString(36)}`;

beforeAll(async () => {
  server = await startServer(3);
  client = await open();
});

afterAll(async () => {
  await client.close();
  await server.stop();
});

const open = (options: ClientOptions = {}) =>
  connect({ serviceAddress: server.address, batchLingerMs: 0, sessionTimeoutMs: 2000, ...options });

/** Resolves when the line of the lock is as long as that. */
async function lineOf(lock: Lock, length: number): Promise<string[]> {
  await using changes = await client.notifications();
  for (;;) {
    const line = await lock.line();
    if (line.length === length) return line;
    await changes.next();
  }
}

test("one at a time has the lock, in the order in which they came, with growing tokens", async () => {
  const key = `${RUN}-order`;
  const clients = await Promise.all(Array.from({ length: 4 }, () => open()));
  const watcher = new Lock(client, key);
  const order: number[] = [];
  const tokens: (number | bigint)[] = [];
  let holders = 0;
  const first = await new Lock(client, key, { identity: "first" }).acquire();
  const others: Promise<void>[] = [];
  for (const [i, its] of clients.entries()) {
    const acquired = new Lock(its, key, { identity: `client ${i}` }).acquire();
    others.push(
      acquired.then(async (held) => {
        expect(++holders).toBe(1);
        order.push(i);
        tokens.push(held.token);
        await client.put(`${key}-work`, String(i));
        holders--;
        await held.release();
      }),
    );
    await lineOf(watcher, i + 2);
  }
  expect(await watcher.line()).toEqual(["first", "client 0", "client 1", "client 2", "client 3"]);
  expect(order).toEqual([]);
  tokens.push(first.token);
  await first.release();
  await Promise.all(others);
  expect(order).toEqual([0, 1, 2, 3]);
  expect([...tokens].sort((a, b) => Number(a) - Number(b))).toEqual(tokens);
  expect(await watcher.line()).toEqual([]);
  for (const its of clients) await its.close();
}, 20_000);

test("a lock is given up at once, after a while, or by a signal, and leaves nothing behind", async () => {
  const lock = new Lock(client, `${RUN}-give-up`);
  await using _held = await lock.acquire();
  expect(await errorOf(lock.acquire({ waitMs: 0 }))).toBeInstanceOf(RequestTimeoutError);
  expect(await errorOf(lock.acquire({ waitMs: 50 }))).toBeInstanceOf(RequestTimeoutError);
  const controller = new AbortController();
  const waiting = errorOf(lock.acquire({ signal: controller.signal }));
  await lineOf(lock, 2);
  controller.abort(new Error("enough"));
  expect((await waiting).message).toBe("enough");
  expect(await lock.line()).toHaveLength(1);
  expect((await errorOf(lock.acquire({ signal: controller.signal }))).message).toBe("enough");
});

test("the lock of a client that closes goes to the next", async () => {
  const key = `${RUN}-close`;
  const owner = await open();
  await new Lock(owner, key).acquire();
  const next = new Lock(client, key).acquire();
  await lineOf(new Lock(client, key), 2);
  await owner.close();
  await (await next).release();
});

test("the lock of a process that is killed goes to the next once its session has run out", async () => {
  const key = `${RUN}-killed`;
  const program = `
    import { connect, Lock } from ${JSON.stringify(`${import.meta.dir}/../../src/client/index.ts`)};
    const client = await connect({ serviceAddress: ${JSON.stringify(server.address)}, sessionTimeoutMs: 2000 });
    await new Lock(client, ${JSON.stringify(key)}).acquire();
    process.kill(process.pid, "SIGKILL");`;
  await Bun.spawn([process.execPath, "-e", program], { stdout: "ignore", stderr: "ignore" }).exited;
  const lock = new Lock(client, key);
  expect(await lock.line()).toHaveLength(1);
  const held = await lock.acquire();
  await held.release();
}, 20_000);

const untilLost = (held: HeldLock) =>
  new Promise<unknown>((resolve) => {
    held.signal.addEventListener("abort", () => resolve(held.signal.reason));
    if (held.signal.aborted) resolve(held.signal.reason);
  });

test("a holder whose record is deleted is told", async () => {
  const key = `${RUN}-lost`;
  const one = await new Lock(client, key).acquire();
  const [record] = await Array.fromAsync(
    client.list({ partitionKey: key, startInclusive: `${key}/`, endExclusive: `${key}//` }),
  );
  const lost = untilLost(one);
  await client.delete(record!, { partitionKey: key });
  expect(await lost).toBeInstanceOf(LockLostError);
  const two = await new Lock(client, key).acquire();
  const range = untilLost(two);
  await client.deleteRange(`${key}/`, `${key}//`, { partitionKey: key });
  expect(await range).toBeInstanceOf(LockLostError);
  await two.release();
});

test("a leader is elected, seen by others, and followed by the next", async () => {
  const key = `${RUN}-election`;
  const observed: (string | undefined)[] = [];
  const controller = new AbortController();
  let told = Promise.withResolvers<void>();
  const observing = (async () => {
    for await (const leader of new LeaderElection(client, key).observe({ signal: controller.signal })) {
      observed.push(leader?.identity);
      told.resolve();
    }
  })();
  const until = async (leader: string | undefined) => {
    while (observed.length === 0 || observed.at(-1) !== leader) {
      await told.promise;
      told = Promise.withResolvers();
    }
  };
  await until(undefined);
  const ada = new LeaderElection(client, key, { identity: "ada" });
  const first = await ada.campaign();
  await until("ada");
  expect(await ada.leader()).toEqual({ identity: "ada", token: first.token });
  const other = await open();
  const bob = new LeaderElection(other, key, { identity: "bob" });
  const campaign = bob.campaign();
  await first.resign();
  const second = await campaign;
  expect(second.token).toBeGreaterThan(first.token as number);
  await until("bob");
  await other.close();
  await until(undefined);
  controller.abort();
  await observing;
});

test("a cache hears of what others change", async () => {
  const key = `${RUN}-cached`;
  await using cache = await client.cache<{ n: number }>();
  await cache.put(key, { n: 1 });
  expect([await cache.get(key), cache.size]).toEqual([{ n: 1 }, 1]);
  const other = await open();
  await using changes = await client.notifications();
  await other.put(key, '{"n":2}');
  await changes.next();
  while (cache.size > 0) await other.put(`${key}-tick`, "x").then(() => changes.next());
  expect(await cache.get(key)).toEqual({ n: 2 });
  await other.close();
});
