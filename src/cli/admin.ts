/** `varia admin …`: namespaces, data servers and shards of a cluster, with Oxia's flags; the coordinator is asked. */
import type { Command } from "commander";
import { addAdminFlags } from "./admin-connection.ts";
import { addDataServerCommands } from "./admin-dataserver.ts";
import { addEventCommands } from "./admin-event.ts";
import { addLogLevelCommand } from "./admin-log-level.ts";
import { addNamespaceCommands } from "./admin-namespace.ts";
import { addOperationCommands } from "./admin-operation.ts";
import { addSessionCommands } from "./admin-session.ts";
import { addShardCommands } from "./admin-shard.ts";
import { examples } from "./examples.ts";

export function addAdminCommands(program: Command): void {
  const admin = addAdminFlags(program.command("admin"))
    .option("--note <text>", "why something is changed, for the cluster's events")
    .description("Change a cluster: namespaces, data servers, shards; see what has happened.")
    .addHelpText(
      "after",
      examples(
        "varia admin namespace create orders --initial-shards 4 --replication-factor 3",
        "varia admin dataserver create s4 --public h4:6648 --internal h4:6649",
        "varia admin dataserver delete s1          moves what it holds to the others",
        "varia admin --admin-address h1:6651 namespace list -o json",
      ),
    );
  addNamespaceCommands(admin);
  addDataServerCommands(admin);
  addShardCommands(admin);
  addSessionCommands(admin);
  addOperationCommands(admin);
  addEventCommands(admin);
  addLogLevelCommand(admin);
}
