/** `bun run cluster`, as the README names it: it says what to try, that works, and one killed server stops no other. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { REPOSITORY, scratch, serverCommand } from "./varia.ts";

setDefaultTimeout(90_000);
const directory = scratch("cluster-script");
afterAll(() => directory.remove());

/** Of the loopback, and of nobody else on this machine. */
const HOST = `127.${1 + Math.floor(Math.random() * 250)}.${Math.floor(Math.random() * 250)}.1`;
const WAIT_MS_MAX = 30_000;

function varia(...words: string[]) {
  const { exitCode, stdout } = Bun.spawnSync([...serverCommand(), ...words]);
  return { exitCode, out: stdout.toString() };
}

test("three servers and a coordinator start, serve what it says to try, and go on when one of them is killed", async () => {
  const command = ["bun", "scripts/cluster.ts", "--directory", directory.path, "--host", HOST];
  const cluster = Bun.spawn(command, { cwd: REPOSITORY, stdin: "ignore", stdout: "pipe", stderr: "ignore" });
  const decoder = new TextDecoder();
  let said = "";
  const reading = (async () => {
    for await (const chunk of cluster.stdout) said += decoder.decode(chunk, { stream: true });
  })();
  const until = async (what: string, isSo: () => boolean) => {
    for (let waitedMs = 0; !isSo(); waitedMs += 50) {
      if (waitedMs > WAIT_MS_MAX) throw new Error(`not within ${WAIT_MS_MAX} ms: ${what}; ${said}`);
      await Bun.sleep(50);
    }
  };
  try {
    await until("it says what to try", () => said.includes("Try it:"));
    const status = () => varia("status", "--admin-address", `${HOST}:6651`, "--json");
    await until("well", () => status().exitCode === 0);
    expect(varia("client", "-a", `${HOST}:6648`, "put", "greeting", "hello").exitCode).toBe(0);
    const [leader] = JSON.parse(status().out).shards.map(({ leader: it }: { leader: string }) => it);
    const n = (Number(leader.split(":")[1]) - 6649) / 10;
    Bun.spawnSync(["pkill", "-9", "-f", `storage -p ${HOST}:${6648 + 10 * n}`]);
    const other = `${HOST}:${6648 + 10 * ((n + 1) % 3)}`;
    await until("the others lead", () => varia("client", "-a", other, "get", "greeting").out.includes("hello"));
    expect(cluster.exitCode).toBeNull();
  } finally {
    cluster.kill("SIGTERM");
    expect(await cluster.exited).toBe(0);
    await reading;
  }
});
