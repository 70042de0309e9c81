/** Two coordinators' processes on one metadata: one works, and the other takes over however the first one ends. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { scratch, serverCommand } from "./varia.ts";

setDefaultTimeout(90_000);
const directory = scratch("standby");
const running = new Set<Bun.Subprocess>();
afterAll(() => {
  for (const process of running) process.kill("SIGKILL");
  directory.remove();
});

const WAIT_MS_MAX = 20_000;

interface Addresses {
  readonly admin: string;
  readonly internal: string;
  readonly http: string;
}

/** Hosts of the loopback, and of nobody else on this machine: ports stay the same from one process to the next. */
const NET = `127.${1 + Math.floor(Math.random() * 250)}.${Math.floor(Math.random() * 250)}`;

function addressesOn(host: string): Addresses {
  return { admin: `${host}:6651`, internal: `${host}:6652`, http: `${host}:8080` };
}

function start({ admin, internal, http }: Addresses): Bun.Subprocess {
  const flags = ["--public-addr", admin, "--internal-addr", internal, "--metrics-addr", http];
  const metadata = ["--metadata-dir", join(directory.path, "metadata")];
  const process = Bun.spawn([...serverCommand(), "coordinator", ...flags, ...metadata], {
    stdio: ["ignore", "ignore", "ignore"],
  });
  running.add(process);
  void process.exited.then(() => running.delete(process));
  return process;
}

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const sinceMs = performance.now();
  while (!(await isSo().catch(() => false))) {
    if (performance.now() - sinceMs > WAIT_MS_MAX) throw new Error(`not within ${WAIT_MS_MAX} ms: ${what}`);
    await Bun.sleep(20);
  }
}

async function metrics({ http }: Addresses): Promise<string> {
  return (await fetch(`http://${http}/metrics`)).text();
}
const works = async (at: Addresses) => (await metrics(at)).includes("varia_coordinator_elections_total");
const standsBy = async (at: Addresses) => (await metrics(at)).includes("varia_coordinator_standby 1");

/** Over its HTTP port. */
async function instanceOf({ http }: Addresses): Promise<string> {
  const answer = await fetch(`http://${http}/varia.admin.v1.VariaAdmin/GetClusterStatus`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: "{}",
  });
  return ((await answer.json()) as { instanceId: string }).instanceId;
}

/** As an operator asks, over its admin port. */
function admin(at: Addresses, ...words: string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync([
    ...serverCommand(),
    "admin",
    ...words,
    "--admin-address",
    at.admin,
  ]);
  expect(stderr.toString()).toBe("");
  expect(exitCode).toBe(0);
  return stdout.toString().trim();
}
const serversOf = (at: Addresses) => admin(at, "dataserver", "list", "-o", "name");

test("who asks the one that stands by is answered by the other, whichever of them works", async () => {
  const [a, b] = [addressesOn(`${NET}.1`), addressesOn(`${NET}.2`)];
  let first = start(a);
  await until("the first works", () => works(a));
  const second = start(b);
  await until("the second stands by", () => standsBy(b));
  const instance = await instanceOf(a);
  expect(await instanceOf(b)).toBe(instance);
  admin(b, "dataserver", "create", "s1", "--public", "127.0.0.1:1", "--internal", "127.0.0.1:2");
  expect([serversOf(a), serversOf(b)]).toEqual(["s1", "s1"]);

  first.kill("SIGKILL");
  await first.exited;
  await until("the second works", () => works(b));
  expect(await instanceOf(b)).toBe(instance);
  first = start(a);
  await until("the first stands by", () => standsBy(a));
  expect(await instanceOf(a)).toBe(instance);
  expect([serversOf(a), serversOf(b)]).toEqual(["s1", "s1"]);

  second.kill("SIGTERM");
  expect(await second.exited).toBe(0);
  await until("the first works again", () => works(a));
  expect(await instanceOf(a)).toBe(instance);
  first.kill("SIGTERM");
  expect(await first.exited).toBe(0);
});
