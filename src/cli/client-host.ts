/** What a client command runs on: a connection of its own, or the one of the shell that it was typed into. */
import type { VariaClient } from "../client/client.ts";
import { type ConnectionFlags, withClient } from "./client-connection.ts";
import { EXIT } from "./exit.ts";
import { standardOutput, type Write } from "./output.ts";

export interface ClientHost {
  /** The client outlives the command, and with it ephemeral records. */
  readonly interactive: boolean;
  run<T>(flags: ConnectionFlags, body: (client: VariaClient) => Promise<T>): Promise<T>;
  output(): Write;
  /** For commands that go on until they are interrupted. */
  interruption(): AbortSignal;
}

/** Each command connects, and has the process to itself. */
export const PROCESS_HOST: ClientHost = {
  interactive: false,
  // one request at a time gains nothing from waiting for more
  run: (flags, body) => withClient(flags, { batchLingerMs: 0 }, body),
  output: standardOutput,
  interruption: processInterruption,
};

/** Aborted by SIGINT, which also decides about the exit code, or SIGTERM. A second one ends the process. */
export function processInterruption(): AbortSignal {
  const controller = new AbortController();
  const interrupt = (signal: NodeJS.Signals) => {
    if (controller.signal.aborted) process.exit(EXIT.interrupted);
    if (signal === "SIGINT") process.exitCode = EXIT.interrupted;
    controller.abort();
  };
  process.on("SIGINT", interrupt);
  process.on("SIGTERM", interrupt);
  return controller.signal;
}

/** Resolves when the signal is aborted. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
