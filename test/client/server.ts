/**
 * The server that a test of the client talks to: one started for it, in a directory that goes away with it, or the one
 * at VARIA_TEST_ADDRESS, which may be any server of the protocol.
 *
 * VARIA_EXECUTABLE names the executable; without it the sources are run. VARIA_TEST_PEER names an executable of Oxia that
 * is started in our place, to see what a test says of the original.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

export const REPOSITORY = resolve(import.meta.dir, "../..");

export interface TestServer {
  /** `host:port` of the public port. */
  readonly address: string;
  /** Stops it, starts it again on the same port and data. Refused for a server that was given. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** The command line up to the subcommand. */
export function variaCommand(): string[] {
  const executable = process.env.VARIA_EXECUTABLE;
  return executable ? [executable] : [process.execPath, join(REPOSITORY, "src/main.ts")];
}

/** A server with `shards` shards, started with further flags; the one at VARIA_TEST_ADDRESS has what it has. */
export async function startServer(shards = 4, flags: readonly string[] = []): Promise<TestServer> {
  const given = process.env.VARIA_TEST_ADDRESS;
  if (given) {
    const refused = () => Promise.reject(new Error("a server that was given is not restarted"));
    return { address: given, restart: refused, stop: () => Promise.resolve() };
  }
  const directory = mkdtempSync(join(tmpdir(), "varia-client-"));
  let running = await launch(directory, [...flags, "-s", String(shards)], "127.0.0.1:0");
  const { address } = running;
  return {
    address,
    async restart() {
      await running.stop();
      running = await launch(directory, [...flags, "-s", String(shards)], address);
    },
    async stop() {
      await running.stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Where ours says that it serves, and where Oxia does, colours apart. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: terminals are told colours by them
const ADDRESS = /^public (\S+)|Started Grpc server.*bindAddress=(?:\u001b\[\d*m)*([\d.]+:\d+)/m;

async function launch(directory: string, flags: readonly string[], publicAddress: string) {
  const peer = process.env.VARIA_TEST_PEER;
  const child = Bun.spawn(
    [
      ...(peer ? [peer] : variaCommand()),
      "standalone",
      ...["-p", publicAddress, "-m", "127.0.0.1:0", ...flags],
      ...["--data-dir", join(directory, "data"), "--wal-dir", join(directory, "log")],
    ],
    { stdout: "pipe", stderr: "pipe" },
  );
  let output = "";
  const { promise, resolve: found, reject } = Promise.withResolvers<string>();
  const read = async (stream: ReadableStream<Uint8Array>) => {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      output += decoder.decode(chunk, { stream: true });
      const [, ours, theirs] = ADDRESS.exec(output) ?? [];
      const address = ours ?? theirs;
      if (address !== undefined) found(address);
    }
  };
  const ended = Promise.all([read(child.stdout), read(child.stderr), child.exited]);
  ended.then(() => reject(new Error(`the server ended before it served:\n${output}`)));
  const address = await promise;
  return {
    address,
    async stop() {
      child.kill("SIGTERM");
      await ended;
    },
  };
}
