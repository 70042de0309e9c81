/**
 * The image that the Dockerfile describes, without a container engine: what its build stage lays out is laid out here, and
 * what it starts is started there, in a chroot, as its user, with nothing else on the disk.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { connect } from "../../src/client/index.ts";
import { run } from "./network.ts";
import { REPOSITORY, scratch } from "./varia.ts";

const START_MS_MAX = 30_000;
/** What a container engine gives a process beside its image: these, and /etc/hosts. */
const GIVEN = ["proc", "dev"];

interface Dockerfile {
  /** The step that lays out the image under /image. */
  readonly layOut: string;
  readonly user: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly entrypoint: readonly string[];
  readonly command: readonly string[];
  readonly healthcheck: readonly string[];
}

function readDockerfile(): Dockerfile {
  const text = readFileSync(join(REPOSITORY, "Dockerfile"), "utf8")
    .replaceAll(/\\\n\s*/g, " ")
    .replaceAll(/^#.*\n/gm, "");
  const lines = text.split("\n");
  const one = (pattern: RegExp) => {
    const [, found] = lines.map((line) => pattern.exec(line)).find((match) => match !== null) ?? [];
    if (found === undefined) throw new Error(`the Dockerfile has no ${pattern}`);
    return found;
  };
  return {
    layOut: one(/^RUN (.*\/image\b.*)$/),
    user: one(/^USER (\d+:\d+)$/),
    environment: Object.fromEntries(
      [...text.matchAll(/^ENV (\w+)="(.*)"$/gm)].map(([, name, value]) => [name!, value!]),
    ),
    entrypoint: JSON.parse(one(/^ENTRYPOINT (\[.*\])$/)),
    command: JSON.parse(one(/^CMD (\[.*\])$/)),
    healthcheck: JSON.parse(one(/^HEALTHCHECK .*CMD (\[.*\])$/)),
  };
}

const directory = scratch("image");
const image = join(directory.path, "image");
const dockerfile = readDockerfile();
const mounted: string[] = [];
/** Those that a test which fails leaves behind hold what is mounted. */
const started: Bun.Subprocess<"ignore", "pipe", "pipe">[] = [];

beforeAll(() => {
  // the step before it is `bun run build`
  if (!existsSync(join(REPOSITORY, "dist/varia"))) throw new Error("dist/varia is missing: build it first");
  const laidOut = Bun.spawnSync(["sh", "-ec", dockerfile.layOut.replaceAll("/image", image)], { cwd: REPOSITORY });
  if (laidOut.exitCode !== 0) throw new Error(`${dockerfile.layOut}\n${laidOut.stderr}`);
  writeFileSync(join(image, "etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n");
  for (const name of GIVEN) {
    mkdirSync(join(image, name));
    run("mount", "--bind", `/${name}`, join(image, name));
    mounted.push(join(image, name));
  }
});

afterAll(async () => {
  for (const child of started) child.kill("SIGKILL");
  await Promise.all(started.map(({ exited }) => exited));
  // what is still mounted is not to be removed with the directory
  for (const path of mounted) run("umount", path);
  directory.remove();
});

/** A process of the image. */
function start(words: readonly string[]) {
  const child = Bun.spawn([Bun.which("chroot")!, `--userspec=${dockerfile.user}`, image, ...words], {
    env: { ...dockerfile.environment },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  started.push(child);
  return child;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

test("it holds the executable, what that links, and a place that its user may write", () => {
  const [uid] = dockerfile.user.split(":").map(Number);
  expect(statSync(join(image, "data")).uid).toBe(uid!);
  expect(statSync(join(image, dockerfile.entrypoint[0]!)).mode & 0o111).not.toBe(0);
  for (const name of ["bin/sh", "usr/bin/env", "root", "home"])
    expect([name, existsSync(join(image, name))]).toEqual([name, false]);
});

test("what it starts serves, says that it is well, keeps what was written, and ends when it is told to", async () => {
  const [port, http] = [await freePort(), await freePort()];
  const ports = ["-p", `127.0.0.1:${port}`, "-m", `127.0.0.1:${http}`];
  for (const value of [undefined, "kept"]) {
    const server = start([...dockerfile.entrypoint, ...dockerfile.command, ...ports]);
    const health = dockerfile.healthcheck.map((word) => (word === "6648" ? String(port) : word));
    const deadline = performance.now() + START_MS_MAX;
    for (;;) {
      const asked = start(health);
      if ((await asked.exited) === 0) break;
      if (server.exitCode !== null || performance.now() > deadline) {
        server.kill("SIGKILL");
        const said = await Promise.all([asked.stderr, server.stderr].map((stream) => new Response(stream).text()));
        throw new Error(`it does not serve:\n${said.join("\n")}`);
      }
      await Bun.sleep(50);
    }
    const client = await connect({ serviceAddress: `127.0.0.1:${port}` });
    const found = await client.get("key");
    expect(found === undefined ? undefined : new TextDecoder().decode(found.value)).toBe(value as never);
    await client.put("key", "kept");
    await client.close();
    expect((await fetch(`http://127.0.0.1:${http}/readyz`)).status).toBe(200);
    server.kill("SIGTERM");
    expect(await server.exited).toBe(0);
  }
}, 120_000);
