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
Without --server: of whoever answers at --admin-address, which may be the
public port of any server.`,
    )
    .option("--server <name>", "of this data server, which the coordinator asks")
    .addHelpText("after", examples("varia admin log-level debug", "varia admin log-level debug --server s1"))
    .action(async (level: string | undefined, _, command: Command) => {
      const flags = command.optsWithGlobals<AdminFlags & { readonly server?: string }>();
      const { server = "" } = flags;
      if (level !== undefined && flags.dryRun !== true) {
        const { before } = await callAdmin(flags, VariaAdmin.method.setLogLevel, { level, server });
        await printObject(flags.output, { log_level: level, before }, standardOutput());
        return;
      }
      const { logLevel } = await callAdmin(flags, VariaAdmin.method.getNodeStatus, { server });
      if (level !== undefined && isDryRun(flags, `Log level: ${logLevel}, would be ${level}.`)) return;
      await printObject(flags.output, { log_level: logLevel }, standardOutput());
    });
}
