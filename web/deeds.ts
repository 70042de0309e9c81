/**
 * What can be changed from a page: each is shown first, with what it will do, and carried out by a form that belongs to
 * its session. All of it goes through the methods that everybody has.
 *
 *     GET /do/NAME?fields ─> what will change ─> POST /do/NAME ─> done ─> the page that shows it
 */
import { SHARD_FREEZE_MS_MAX } from "../src/model/limits.ts";
import { LOG_LEVELS } from "../src/ops/logger.ts";
import {
  CancelOperation,
  CloseSession,
  DrainServer,
  FreezeShard,
  GetClusterStatus,
  GetNodeStatus,
  GetOperation,
  GetSession,
  SetLogLevel,
  SwapReplica,
  SwitchLeader,
} from "./admin.ts";
import { type Deed, deed, needs, operationAddress, wholeNumber } from "./deed.ts";
import { shardOf } from "./deed-checks.ts";
import type { Inspect } from "./inspect.ts";
import { NAMESPACE_DEEDS } from "./namespace-deeds.ts";
import { PageError } from "./page.ts";
import { count, query, sessionId } from "./parts/format.ts";
import { shellWord } from "./parts/text.ts";
import { RECORD_DEEDS } from "./record-deeds.ts";

/** By one request. */
const FREEZE_SECONDS_MAX = SHARD_FREEZE_MS_MAX / 1_000;

export const DEEDS: Readonly<Record<string, Deed>> = {
  "swap-replica": deed({
    title: "Move replica",
    verb: "Move",
    fields: ["namespace", "shard", "from", "to"],
    needs: needs(SwapReplica),
    async preview(inspect, { namespace, shard, from, to }) {
      const { members, servers } = await shardOf(inspect, { namespace, shard });
      if (!members.includes(from)) throw new PageError(400, `${from} holds no replica of shard ${namespace}/${shard}.`);
      if (!servers.includes(to)) throw new PageError(404, `There is no data server ${to}.`);
      if (to !== from && members.includes(to))
        throw new PageError(400, `${to} holds a replica of shard ${namespace}/${shard} already.`);
      const what =
        from === to
          ? `The replica of shard ${namespace}/${shard} on ${from} will be filled anew, if its id has ended.`
          : `A replica of shard ${namespace}/${shard} will be filled on ${to}; then it takes the place of the one on ${from}, which is deleted.`;
      const lines = [what, "The shard serves meanwhile. How long it takes depends on how much it holds."];
      const flags = `--shard ${shard} --from ${shellWord(from)} --to ${shellWord(to)}`;
      return { lines, command: shardCommand(inspect, "swap", namespace, flags) };
    },
    async run({ calls }, { namespace, shard, from, to }) {
      const swap = { namespace, shard: wholeNumber(shard), from, to, detach: true };
      return operationAddress((await calls.call(SwapReplica, swap)).operation);
    },
  }),
  "switch-leader": deed({
    title: "Switch leader",
    verb: "Switch",
    fields: ["namespace", "shard", "to"],
    needs: needs(SwitchLeader),
    async preview(inspect, { namespace, shard, to }) {
      const { leader, members } = await shardOf(inspect, { namespace, shard });
      if (!members.includes(to)) throw new PageError(400, `${to} holds no replica of shard ${namespace}/${shard}.`);
      if (to === leader) throw new PageError(409, `${to} leads shard ${namespace}/${shard} already.`);
      const lines = [
        `Shard ${namespace}/${shard}, which ${leader} leads, will be led by ${to}.`,
        "Writes wait until that one holds all that the leader does: some milliseconds.",
      ];
      const flags = `--shard ${shard} --to ${shellWord(to)}`;
      return { lines, command: shardCommand(inspect, "switch-leader", namespace, flags) };
    },
    async run({ calls }, { namespace, shard, to }) {
      return operationAddress((await calls.call(SwitchLeader, { namespace, shard: wholeNumber(shard), to })).operation);
    },
  }),
  "freeze-shard": deed({
    title: "Freeze shard",
    verb: "Freeze",
    fields: ["namespace", "shard", "seconds"],
    needs: needs(FreezeShard),
    async preview(inspect, { namespace, shard, seconds }) {
      await shardOf(inspect, { namespace, shard });
      const lines = [
        `Shard ${namespace}/${shard} will take no writes for ${count(frozenSeconds(seconds), "second")}; clients wait, or give up.`,
        "Reads go on. It can be thawed before, on the page of the operation.",
      ];
      return { lines, command: shardCommand(inspect, "freeze", namespace, `--shard ${shard} --for ${seconds}s`) };
    },
    async run({ calls }, { namespace, shard, seconds }) {
      const freeze = { namespace, shard: wholeNumber(shard), forMs: frozenSeconds(seconds) * 1_000 };
      return operationAddress((await calls.call(FreezeShard, freeze)).operation);
    },
  }),
  "cancel-operation": deed({
    title: "Cancel operation",
    verb: "Cancel it",
    fields: ["id"],
    needs: needs(CancelOperation),
    async preview({ calls, adminAddress }, { id }) {
      const { operation } = await calls.call(GetOperation, { id: wholeNumber(id) });
      if (operation?.cancellable !== true) throw new PageError(409, `Operation ${id} cannot be cancelled any more.`);
      const command = `varia admin operation cancel --admin-address ${adminAddress()} ${id}`;
      return { lines: [WHAT_CANCELLING_DOES[operation.kind] ?? "It will end as soon as it can."], command };
    },
    async run({ calls }, { id }) {
      return operationAddress((await calls.call(CancelOperation, { id: wholeNumber(id) })).operation);
    },
  }),
  ...NAMESPACE_DEEDS,
  "drain-server": deed({
    ...{ title: "Drain server", isDestructive: true, verb: "Drain", fields: ["name"], needs: needs(DrainServer) },
    async preview({ calls, adminAddress }, { name }) {
      const { servers } = await calls.call(GetClusterStatus, {});
      const server = servers.find((one) => one.name === name);
      if (server === undefined) throw new PageError(404, `There is no server "${name}".`);
      const lines = [
        `${name} will be emptied and leave the cluster: others lead what it leads, and its ${count(server.replicas, "replica")} will be filled on other servers.`,
        "It is needed until that is done. It is refused where too few servers would be left.",
      ];
      const command = `varia admin dataserver drain --admin-address ${adminAddress()} ${shellWord(name)}`;
      return { lines, command, typed: name };
    },
    async run({ calls }, { name }) {
      return operationAddress((await calls.call(DrainServer, { server: name })).operation);
    },
  }),
  "log-level": deed({
    ...{ title: "Change log level", verb: "Change", fields: ["level", "server"], needs: needs(SetLogLevel) },
    async preview({ calls, adminAddress }, { level, server }) {
      if (!LOG_LEVELS.some((one) => one === level)) {
        throw new PageError(400, `"${level}" is none of the levels ${LOG_LEVELS.join(", ")}.`);
      }
      if (server !== "") await calls.call(GetNodeStatus, { server });
      const who = server === "" ? "This process" : server;
      const lines = [`${who} will log at the level ${level}, until it ends or that is changed again.`];
      const flags = server === "" ? "" : ` --server ${shellWord(server)}`;
      const to = adminAddress();
      return { lines, command: `varia admin --admin-address ${to} log-level ${shellWord(level)}${flags}` };
    },
    async run({ calls }, { level, server }) {
      await calls.call(SetLogLevel, { level, server });
      return `/configuration${server === "" ? "" : query({ server })}`;
    },
  }),
  "close-session": deed({
    title: "Close session",
    isDestructive: true,
    verb: "Close",
    fields: ["namespace", "shard", "session"],
    needs: needs(GetSession, CloseSession),
    async preview({ calls, adminAddress }, { namespace, shard, session }) {
      const of = { namespace, shard: wholeNumber(shard), session: wholeNumber(session) };
      const { keys, hasMore } = await calls.call(GetSession, of);
      const records = `${count(keys.length, "record")}${hasMore ? " and more" : ""}`;
      const id = sessionId(of.session);
      const lines = [
        `The session ${id} of shard ${namespace}/${shard} will end, and ${records} with it.`,
        "Its client is told at its next heartbeat.",
      ];
      const at = `--admin-address ${adminAddress()} -n ${shellWord(namespace ?? "")}`;
      return { lines, command: `varia admin session close ${at} --shard ${of.shard} --session ${id} --yes` };
    },
    async run({ calls }, { namespace, shard, session }) {
      await calls.call(CloseSession, { namespace, shard: wholeNumber(shard), session: wholeNumber(session) });
      return `/sessions${query({ namespace })}`;
    },
  }),
  ...RECORD_DEEDS,
};

/** Whether a deed can be done here. */
export function isServed({ needs: methods }: Deed, { calls, mode }: Inspect): boolean {
  // what needs no method of an admin works on the records of clients, which a data server has no page of
  return (methods.length > 0 || mode !== "storage") && methods.every((method) => calls.serves(method as never));
}

const WHAT_CANCELLING_DOES: Readonly<Record<string, string>> = {
  "create-namespace": "It will not be followed any more; the namespace is made all the same.",
  "delete-namespace": "It will not be followed any more; the namespace is deleted all the same.",
  "drain-server": "The server will stay in the cluster; what has moved already is not moved back at once.",
  "freeze-shard": "The shard will take writes again.",
  "swap-replica": "The new replica will be given up and deleted, unless it is a member already.",
};

function frozenSeconds(text: string): number {
  const seconds = Number(wholeNumber(text));
  if (seconds < 1 || seconds > FREEZE_SECONDS_MAX) {
    throw new PageError(400, `A shard is frozen for 1 to ${FREEZE_SECONDS_MAX} seconds.`);
  }
  return seconds;
}

function shardCommand({ adminAddress }: Inspect, what: string, namespace: string, flags: string): string {
  return `varia admin shard ${what} --admin-address ${adminAddress()} -n ${shellWord(namespace)} ${flags}`;
}
