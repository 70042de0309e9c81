/** `varia admin shard …`: what is done to one shard by hand. */
import { type Command, InvalidArgumentError as InvalidFlag, Option } from "commander";
import { OxiaAdmin } from "../gen/io/oxia/proto/v1/admin_pb.ts";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { SHARD_FREEZE_MS_MAX } from "../model/limits.ts";
import { type AdminFlags, addDryRun, callAdmin, isDryRun } from "./admin-connection.ts";
import { operationRow, requireSuccess, watchOperation } from "./admin-operation.ts";
import { durationFlag, integerFlag } from "./client-connection.ts";
import { addYes, confirmed } from "./confirm.ts";
import { examples } from "./examples.ts";
import { EXIT, ExitError } from "./exit.ts";
import { json, printObject, standardOutput } from "./output.ts";

interface ShardFlags extends AdminFlags {
  readonly namespace: string;
  readonly shard: number;
}

interface RecoverFlags extends ShardFlags {
  readonly servers: readonly string[];
  readonly acceptLoss?: boolean;
  readonly yes?: boolean;
}

interface SwapFlags extends ShardFlags {
  readonly from: string;
  readonly to: string;
  readonly timeout: number;
  readonly detach?: boolean;
}

interface LeaderFlags extends ShardFlags {
  readonly to: string;
}

interface FreezeFlags extends ShardFlags {
  readonly for: number;
}

interface SplitFlags extends ShardFlags {
  readonly splitPoint?: number;
}

export function addShardCommands(admin: Command): void {
  const shard = admin
    .command("shard")
    .description("Single shards.")
    .addHelpText("after", examples("varia admin shard switch-leader --shard 3 --to s2"));
  addSwap(shard);
  addSwitchLeader(shard);
  addFreeze(shard);
  addThaw(shard);
  addRecover(shard);
  addSplit(shard);
}

function addShardFlags(command: Command): Command {
  return command
    .addOption(new Option("-n, --namespace <name>", "namespace").default("default"))
    .addOption(new Option("--shard <id>", "shard").argParser(integerFlag(0)).makeOptionMandatory());
}

function addSwap(shard: Command): void {
  addYes(addDryRun(addShardFlags(shard.command("swap"))))
    .description("Move one replica to another server, or refill it on the same one. Ends when that is done.")
    .option("--detach", "end as soon as it has begun; `varia admin operation watch` follows it")
    .requiredOption("--from <server>", "server whose replica goes, by name or internal address")
    .requiredOption("--to <server>", "server that gets one")
    .addOption(
      new Option("--timeout <duration>", "cancelled after that").default(3_600_000, "1h").argParser(durationFlag),
    )
    .addHelpText(
      "after",
      `
Examples:
  varia admin shard swap --shard 3 --from s1 --to s4
  varia admin shard swap --shard 3 --from s1 --to s1     refill it`,
    )
    .action(async (_, command: Command) => {
      const { timeout, detach = false, ...flags } = command.optsWithGlobals<SwapFlags>();
      const { namespace, from, to } = flags;
      const request = { namespace, shard: BigInt(flags.shard), from, to };
      if (flags.dryRun === true) {
        isDryRun(flags, await whatSwapDoes(flags));
        return;
      }
      const { operation } = await callAdmin(flags, VariaAdmin.method.swapReplica, { ...request, detach: true });
      if (detach) return printObject(flags.output, operationRow(operation!), standardOutput());
      requireSuccess(await watchOperation(flags, operation!.id, timeout));
      await printObject(flags.output, { namespace, shard: flags.shard, from, to }, standardOutput());
    });
}

function addSwitchLeader(shard: Command): void {
  addYes(addDryRun(addShardFlags(shard.command("switch-leader"))))
    .description("Have another replica lead, as soon as it holds all that the leader does.")
    .requiredOption("--to <server>", "server whose replica is to lead, by name or internal address")
    .addHelpText("after", examples("varia admin shard switch-leader --shard 3 --to s2"))
    .action(async (_, command: Command) => {
      const { to, ...flags } = command.optsWithGlobals<LeaderFlags>();
      const { namespace } = flags;
      if (flags.dryRun === true) {
        const { leader, nameOf } = await shardNow(flags);
        isDryRun(flags, `Shard ${namespace}/${flags.shard}, led by ${nameOf(leader)}, would be led by ${to}.`);
        return;
      }
      const request = { namespace, shard: BigInt(flags.shard), to };
      const { reason } = await callAdmin(flags, VariaAdmin.method.switchLeader, request);
      if (reason !== "") throw new ExitError(EXIT.failure, `${to} does not lead: ${reason}`);
      await printObject(flags.output, { namespace, shard: flags.shard, leader: to }, standardOutput());
    });
}

function addFreeze(shard: Command): void {
  addYes(addDryRun(addShardFlags(shard.command("freeze"))))
    .description("Have a shard take no writes for a while, whoever leads it; reads go on.")
    .addOption(new Option("--for <duration>", "how long, at most 1h").argParser(freezeFlag).makeOptionMandatory())
    .addHelpText("after", examples("varia admin shard freeze --shard 3 --for 5m"))
    .action(async (_, command: Command) => {
      const { for: forMs, ...flags } = command.optsWithGlobals<FreezeFlags & { readonly yes?: boolean }>();
      const { namespace } = flags;
      const name = `${namespace}/${flags.shard}`;
      if (flags.dryRun === true) {
        await shardNow(flags);
        isDryRun(flags, `Shard ${name} would take no writes for ${forMs / 1_000} s.`);
        return;
      }
      await confirmed(flags, `Hold back all writes to shard ${name}?`, { withoutTerminal: "refuse" });
      const request = { namespace, shard: BigInt(flags.shard), forMs };
      const { operation } = await callAdmin(flags, VariaAdmin.method.freezeShard, request);
      await printObject(flags.output, operationRow(operation!), standardOutput());
    });
}

function addThaw(shard: Command): void {
  addYes(addDryRun(addShardFlags(shard.command("thaw"))))
    .description("Have a frozen shard take writes again.")
    .addHelpText("after", examples("varia admin shard thaw --shard 3"))
    .action(async (_, command: Command) => {
      const flags = command.optsWithGlobals<ShardFlags>();
      const { namespace } = flags;
      if (flags.dryRun === true) {
        const { change } = await shardNow(flags);
        isDryRun(flags, `Shard ${namespace}/${flags.shard} would take writes; it is ${change || "not frozen"}.`);
        return;
      }
      const request = { namespace, shard: BigInt(flags.shard) };
      const { operation } = await callAdmin(flags, VariaAdmin.method.thawShard, request);
      if (operation === undefined) {
        throw new ExitError(EXIT.failure, `shard ${namespace}/${flags.shard} is not frozen by anybody's request`);
      }
      await printObject(flags.output, operationRow(operation), standardOutput());
    });
}

/** A shard as it is. Throws an ExitError when there is none. */
async function shardNow({ namespace, shard, ...flags }: ShardFlags) {
  const { shards, servers } = await callAdmin(flags, VariaAdmin.method.getClusterStatus, {});
  const found = shards.find((one) => one.namespace === namespace && one.shard === BigInt(shard));
  if (found === undefined) throw new ExitError(EXIT.notFound, `there is no shard ${namespace}/${shard}`);
  const nameOf = (address: string) =>
    servers.find((one) => one.internalAddress === address)?.name ?? (address === "" ? "nobody" : address);
  return { ...found, servers, nameOf };
}

/** As the shard stands now; what the coordinator itself would refuse is refused by it alone. */
async function whatSwapDoes({ namespace, shard, from, to, ...flags }: Omit<SwapFlags, "timeout">): Promise<string> {
  const { servers, replicas } = await shardNow({ namespace, shard, ...flags });
  const addressOf = (name: string) =>
    servers.find((one) => one.name === name || one.internalAddress === name)?.internalAddress;
  for (const name of [from, to]) {
    if (addressOf(name) === undefined) throw new ExitError(EXIT.notFound, `data server "${name}" not found`);
  }
  const holds = replicas.some(({ server, part }) => part === "member" && server === addressOf(from));
  if (!holds) throw new ExitError(EXIT.failure, `${from} holds no replica of shard ${namespace}/${shard}`);
  const what = from === to ? `be filled anew on ${to}` : `be filled on ${to}, and the one on ${from} deleted`;
  return `A replica of shard ${namespace}/${shard} would ${what}.`;
}

function addRecover(shard: Command): void {
  addYes(addDryRun(addShardFlags(shard.command("recover"))))
    .description("Let a shard whose majority is lost for ever go on with the replicas that are left.")
    .addOption(
      new Option("--servers <list>", "servers whose replicas are to be the shard, by name or internal address")
        .argParser(serversFlag)
        .makeOptionMandatory(),
    )
    .option("--accept-loss", "carry it out; without it, only what would be lost is shown")
    .addHelpText(
      "after",
      `
What only the servers hold that are not named is lost for ever. Shards whose
majority may come back need no recovery: wait for it.

Examples:
  varia admin shard recover --shard 3 --servers s2         what would be lost
  varia admin shard recover --shard 3 --servers s2 --accept-loss`,
    )
    .action(async (_, command: Command) => recover(command.optsWithGlobals<RecoverFlags>()));
}

async function recover(flags: RecoverFlags): Promise<void> {
  const { namespace, servers } = flags;
  const request = { namespace, shard: BigInt(flags.shard), servers: [...servers] };
  const { lines, loses } = await callAdmin(flags, VariaAdmin.method.planRecovery, request);
  console.error(
    [...lines, loses ? "Acknowledged writes may be lost." : "Nothing that is known would be lost."].join("\n"),
  );
  if (isDryRun(flags)) return;
  if (flags.acceptLoss !== true) {
    console.error("Nothing was changed: say --accept-loss to carry it out.");
    return;
  }
  await confirmed(flags, `Recover shard ${namespace}/${flags.shard} so?`, { withoutTerminal: "refuse" });
  const { term, pending } = await callAdmin(flags, VariaAdmin.method.recoverShard, request);
  for (const text of pending) console.error(`Not told yet: ${text}`);
  await printObject(flags.output, { namespace, shard: flags.shard, term }, standardOutput());
}

function addSplit(shard: Command): void {
  addShardFlags(shard.command("split"))
    .description("Split a shard in two (Oxia's coordinator; Varia's does not yet).")
    .addHelpText("after", examples("varia admin shard split --shard 3"))
    .addOption(
      new Option("--split-point <hash>", "last hash of the left half; default: the middle").argParser(
        integerFlag(0, 0xffff_ffff),
      ),
    )
    .action(async (_, command: Command) => {
      const { splitPoint, ...flags } = command.optsWithGlobals<SplitFlags>();
      const point = splitPoint === undefined ? {} : { splitPoint };
      const request = { namespace: flags.namespace, shard: BigInt(flags.shard), ...point };
      const answer = await callAdmin(flags, OxiaAdmin.method.splitShard, request);
      const { leftChildShard: LeftChildShardId, rightChildShard: RightChildShardId } = answer;
      console.log(json({ LeftChildShardId, RightChildShardId, Error: null }));
    });
}

function freezeFlag(text: string): number {
  const ms = Math.ceil(durationFlag(text));
  if (ms < 1 || ms > SHARD_FREEZE_MS_MAX) throw new InvalidFlag("A shard is frozen for more than 0s and at most 1h.");
  return ms;
}

function serversFlag(text: string): readonly string[] {
  const servers = text.split(",").map((server) => server.trim());
  if (servers.some((server) => server === ""))
    throw new InvalidFlag("Expected names or addresses, with commas between.");
  return servers;
}
