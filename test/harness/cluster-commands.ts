/** The commands of an operator, each a process of its own, on a cluster of this one. */
import { variaCommand } from "../client/server.ts";
import type { LocalCluster } from "./local-cluster.ts";

export interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export async function varia(...words: string[]): Promise<Ended> {
  const child = Bun.spawn([...variaCommand(), ...words], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, out, err };
}

/** `cluster`: once it has been started. */
export function commandsOn(cluster: () => LocalCluster) {
  const admin = (...words: string[]) => varia("admin", "--admin-address", cluster().adminAddress, ...words);
  const status = async () =>
    JSON.parse((await varia("status", "--admin-address", cluster().adminAddress, "--json")).out);
  type Status = Awaited<ReturnType<typeof status>>;
  /** What `varia status` says once nothing is wrong, and `isSo`. */
  const untilHealthy = async (isSo: (found: Status) => boolean = () => true): Promise<Status> => {
    let found: Status;
    for (const sinceMs = performance.now(); performance.now() - sinceMs < 60_000; await Bun.sleep(100)) {
      found = await status();
      if (found.healthy && isSo(found)) return found;
    }
    throw new Error(`not well in 60 s: ${JSON.stringify(found)}`);
  };
  return { varia, admin, status, untilHealthy };
}
