/** `varia diagnose`: rules of thumb over what the cluster says of itself. Exit code 0: none fails. */
import type { Command } from "commander";
import { diagnose } from "../../web/diagnosis.ts";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { EVENTS_MAX } from "../ops/events.ts";
import { type AdminFlags, addAdminFlags, callAdmin } from "./admin-connection.ts";
import { examples } from "./examples.ts";
import { EXIT, ExitError } from "./exit.ts";
import { onePage, printObjects, standardOutput } from "./output.ts";

export function addDiagnoseCommand(program: Command): void {
  addAdminFlags(program.command("diagnose"))
    .description(
      "Judge the cluster by rules of thumb: what passes, what does not, what to do; exit code 1 when one fails.",
    )
    .addHelpText("after", examples("varia diagnose", `varia diagnose -o json | jq '.[] | select(.outcome != "pass")'`))
    .action(async (flags: AdminFlags) => {
      const [status, events] = await Promise.all([
        callAdmin(flags, VariaAdmin.method.getClusterStatus, {}),
        eventsOf(flags),
      ]);
      const findings = diagnose({ status, events, nowMs: Date.now() });
      const rows = findings.map(({ rule, outcome, what, next }) => ({ outcome, rule, seen: what, to_do: next }));
      await printObjects(flags.output, onePage(rows), standardOutput());
      if (findings.some(({ outcome }) => outcome === "fail")) process.exitCode = EXIT.failure;
    });
}

/** A server that keeps none has none. */
async function eventsOf(flags: AdminFlags) {
  try {
    return (await callAdmin(flags, VariaAdmin.method.listEvents, { limit: EVENTS_MAX })).events;
  } catch (error) {
    if (error instanceof ExitError && error.code === EXIT.failure) return [];
    throw error;
  }
}
