/**
 * A whole cluster on this machine, for trying it out: three data servers and a coordinator, each a process of its own.
 *
 *     bun scripts/cluster.ts [--directory data/cluster] [--shards 4] [--host 127.0.0.1]
 *
 * Ports: data server n (0 to 2) has 6648 + 10 n for clients, 6649 + 10 n internally and 8080 + n for HTTP; the
 * coordinator has 6651 for admin clients, 6652 internally and 8083 for HTTP. Interrupting it stops all of them; one that
 * is killed stays away, so that one can see what the others do.
 */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";

const ROOT = join(import.meta.dir, "..");
const EXECUTABLE = join(ROOT, "dist/varia");
const SERVERS = [0, 1, 2];
/** What a server says once it listens. */
const STARTED = /^http +http:/m;

const { values } = parseArgs({
  options: {
    directory: { type: "string", default: "data/cluster" },
    shards: { type: "string", default: "4" },
    host: { type: "string", default: "127.0.0.1" },
  },
});
const directory = resolve(values.directory);
const shards = Number(values.shards);
if (!Number.isInteger(shards) || shards < 1) throw new Error(`--shards: "${values.shards}" is not a whole number`);

const at = (port: number) => `${values.host}:${port}`;
const publicAddress = (n: number) => at(6648 + 10 * n);

function configuration(): string {
  const servers = SERVERS.map(
    (n) => `  - {name: s${n}, public: "${publicAddress(n)}", internal: "${at(6649 + 10 * n)}"}`,
  );
  const namespace = `  - {name: default, initialShardCount: ${shards}, replicationFactor: 3}`;
  const extra = values.host === "127.0.0.1" ? SERVERS.map((n) => `"localhost:${6648 + 10 * n}"`).join(", ") : "";
  return ["servers:", ...servers, "namespaces:", namespace, `allowExtraAuthorities: [${extra}]`, ""].join("\n");
}

function start(name: string, words: readonly string[]): Bun.Subprocess<"ignore", "pipe", "inherit"> {
  const child = Bun.spawn([EXECUTABLE, ...words], { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
  void child.exited.then((code) => {
    if (!stopping) console.error(`${name} has ended with code ${code}`);
  });
  return child;
}

/** Resolves once the process says that it serves, and passes on what it prints. */
async function serving(name: string, child: Bun.Subprocess<"ignore", "pipe", "inherit">): Promise<void> {
  const { promise, resolve: done, reject } = Promise.withResolvers<void>();
  void (async () => {
    const decoder = new TextDecoder();
    let said = "";
    for await (const chunk of child.stdout) {
      const text = decoder.decode(chunk, { stream: true });
      process.stdout.write(text.replace(/^(?=.)/gm, `${name.padEnd(11)} `));
      said += text;
      if (STARTED.test(said)) done();
    }
    if (!stopping) reject(new Error(`${name} did not start`));
  })();
  return promise;
}

let stopping = false;
if (!existsSync(EXECUTABLE)) throw new Error("dist/varia is missing: run `bun run build` first");
mkdirSync(directory, { recursive: true });
const config = join(directory, "cluster.yaml");
if (!existsSync(config)) writeFileSync(config, configuration());

const children = SERVERS.map((n) => {
  const own = join(directory, `s${n}`);
  const ports = ["-p", publicAddress(n), "-i", at(6649 + 10 * n), "-m", at(8080 + n)];
  const directories = ["--data-dir", join(own, "db"), "--wal-dir", join(own, "wal")];
  const name = `s${n}`;
  return { name, child: start(name, ["storage", ...ports, ...directories]) };
});
const ports = ["-p", at(6651), "-i", at(6652), "-m", at(8083)];
const metadata = ["--cconfig", config, "--metadata-dir", join(directory, "coordinator")];
children.push({ name: "coordinator", child: start("coordinator", ["coordinator", ...ports, ...metadata]) });

const stop = async () => {
  if (stopping) return;
  stopping = true;
  for (const { child } of children) child.kill("SIGTERM");
  await Promise.all(children.map(({ child }) => child.exited));
  process.exit(0);
};
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, stop);

try {
  await Promise.all(children.map(({ name, child }) => serving(name, child)));
} catch (error) {
  console.error((error as Error).message);
  for (const { child } of children) child.kill("SIGKILL");
  process.exit(1);
}
console.log(
  [
    "",
    `A cluster of three data servers, ${shards} shards, each on all of them; its files are in ${values.directory}.`,
    "Try it:",
    "  ./dist/varia client put greeting hello",
    `  ./dist/varia client -a ${publicAddress(1)} get greeting`,
    "  ./dist/varia status",
    `Its pages: http://${at(8083)}`,
    "",
  ].join("\n"),
);
