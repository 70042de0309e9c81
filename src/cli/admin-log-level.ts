/** `varia admin log-level`: how much one process logs, from now on. */
import { Argument, type Command } from "commander";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { LOG_LEVELS } from "../ops/logger.ts";
import { type AdminFlags, addDryRun, callAdmin, isDryRun } from "./admin-connection.ts";
import { examples } from "./examples.ts";
import { printObject, standardOutput } from "./output.ts";

export function addLogLevelCommand(admin: Command): void {
  addDryRun(admin.command("log-level"))
    .description("Show how much a server logs, or change it until it ends.")
    .addArgument(new Argument("[level]", "debug, info, warn or error").choices(LOG_LEVELS))
    .addHelpText(
      "after",
      `
Any server answers for itself: --admin-address is then its public port.`,
    )
    .addHelpText("after", examples("varia admin log-level debug", "varia admin --admin-address h1:6648 log-level"))
    .action(async (level: string | undefined, _, command: Command) => {
      const flags = command.optsWithGlobals<AdminFlags>();
      if (level !== undefined && flags.dryRun !== true) {
        const { before } = await callAdmin(flags, VariaAdmin.method.setLogLevel, { level });
        await printObject(flags.output, { log_level: level, before }, standardOutput());
        return;
      }
      const { logLevel } = await callAdmin(flags, VariaAdmin.method.getNodeStatus, {});
      if (level !== undefined && isDryRun(flags, `Log level: ${logLevel}, would be ${level}.`)) return;
      await printObject(flags.output, { log_level: logLevel }, standardOutput());
    });
}
