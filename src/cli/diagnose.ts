/** `varia diagnose`: rules of thumb over what the cluster says of itself. Exit code 0: none fails. */
import type { Command } from "commander";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { type AdminFlags, addAdminFlags, callAdmin } from "./admin-connection.ts";
import { examples } from "./examples.ts";
import { EXIT } from "./exit.ts";
import { onePage, printObjects, standardOutput } from "./output.ts";

export function addDiagnoseCommand(program: Command): void {
  addAdminFlags(program.command("diagnose"))
    .description(
      "Judge the cluster by rules of thumb: what passes, what does not, what to do; exit code 1 when one fails.",
    )
    .addHelpText("after", examples("varia diagnose", `varia diagnose -o json | jq '.[] | select(.outcome != "pass")'`))
    .action(async (flags: AdminFlags) => {
      const { findings } = await callAdmin(flags, VariaAdmin.method.getDiagnosis, {});
      const rows = findings.map(({ rule, outcome, seen, toDo }) => ({ outcome, rule, seen, to_do: toDo }));
      await printObjects(flags.output, onePage(rows), standardOutput());
      if (findings.some(({ outcome }) => outcome === "fail")) process.exitCode = EXIT.failure;
    });
}
