/** The published client, built, under Node and under Bun: the same program, from a folder that has nothing else. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { REPOSITORY, startServer, type TestServer } from "./server.ts";

let server: TestServer;
const folder = mkdtempSync(join(tmpdir(), "varia-published-"));

beforeAll(async () => {
  const build = Bun.spawnSync([process.execPath, join(REPOSITORY, "scripts/build-client.ts")], { stderr: "pipe" });
  if (build.exitCode !== 0) throw new Error(`the client does not build:\n${build.stdout}${build.stderr}`);
  cpSync(join(REPOSITORY, "dist/client"), join(folder, "client"), { recursive: true });
  cpSync(join(REPOSITORY, "test/client/published.mjs"), join(folder, "published.mjs"));
  cpSync(join(REPOSITORY, "test/client/published-types.txt"), join(folder, "published.ts"));
  server = await startServer(3);
}, 120_000);

afterAll(async () => {
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
});

for (const runtime of ["node", process.execPath]) {
  test(`the built client works under ${runtime === "node" ? "Node" : "Bun"}`, async () => {
    const child = Bun.spawn([runtime, join(folder, "published.mjs"), server.address], {
      cwd: folder,
      stdout: "pipe",
      stderr: "pipe",
    });
    const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    expect({ code: await child.exited, out, err }).toEqual({ code: 0, out: "all is well\n", err: "" });
  }, 60_000);
}

test("the built types say what the client takes and gives", () => {
  const options = [
    "--ignoreConfig",
    "--noEmit",
    "--strict",
    "--target",
    "esnext",
    "--module",
    "nodenext",
    "--types",
    "",
  ];
  const tsc = join(REPOSITORY, "node_modules/.bin/tsc");
  const { exitCode, stdout } = Bun.spawnSync([process.execPath, tsc, ...options, join(folder, "published.ts")], {
    cwd: folder,
  });
  expect({ exitCode, out: stdout.toString() }).toEqual({ exitCode: 0, out: "" });
}, 60_000);
