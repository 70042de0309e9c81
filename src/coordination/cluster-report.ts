/**
 * How the cluster stands, for people: from what the coordinator knows and what all replicas answer at this moment,
 * whether all is well, what is not, and how many servers may still fail. Pure.
 *
 * A replica counts when it says that it leads, or follows, in the shard's term, under the id that the ensemble lists.
 */
import { NO_OFFSET, NO_TERM, type Offset, type ReplicaId, type ShardId, type Term } from "../model/ids.ts";
import type { GetStatusResponse } from "../model/peer-messages.ts";
import type { HashRange } from "../protocol/assignment.ts";
import { majority } from "../protocol/election.ts";
import { serverName } from "./administer.ts";
import type { ClusterConfig } from "./cluster-config.ts";
import { isReplica, promised, type StatusAnswer } from "./replica-calls.ts";
import type { CoordinatorStatus, ReplicaReport, ShardReport } from "./report.ts";
import { EMPTY_SLOT } from "./status-document.ts";

/** By shard and server. */
export type ClusterAnswers = ReadonlyMap<ShardId, ReadonlyMap<string, StatusAnswer>>;

export interface ClusterReport {
  readonly instanceId: string;
  readonly healthy: boolean;
  /** In words; empty when healthy. */
  readonly problems: readonly string[];
  /** Servers that may fail, whichever they are, before a shard stops; STOPPED: one has. */
  readonly faultTolerance: number;
  readonly servers: readonly ServerLine[];
  readonly shards: readonly ShardLine[];
}

export interface ServerLine {
  readonly name: string;
  readonly public: string;
  readonly internal: string;
  readonly available: boolean;
  readonly why: string;
  readonly replicas: number;
  readonly leaders: number;
  /** It is configured no more, and its replicas are moved to others. */
  readonly draining: boolean;
}

export interface ShardLine {
  readonly namespace: string;
  readonly shard: ShardId;
  readonly term: Term;
  readonly leader: string | undefined;
  readonly range: HashRange;
  readonly replicas: readonly ReplicaLine[];
  readonly problems: readonly string[];
  readonly faultTolerance: number;
  /** What is being changed about it, and what that waits for; empty: nothing. */
  readonly change: string;
}

export interface ReplicaLine {
  readonly server: string;
  /** EMPTY_SLOT: none yet. */
  readonly replicaId: ReplicaId;
  readonly part: "member" | "former" | "observer";
  /** Empty: it did not answer. */
  readonly status: "" | "not-member" | "fenced" | "follower" | "leader";
  /** Why its id has ended, or why it did not answer. */
  readonly why: string;
  readonly promise: Term;
  readonly head: Offset;
  /** Up to where it has acked entries to this term's leader, or is that leader; NO_OFFSET: none, or not known. */
  readonly acked: Offset;
  readonly committed: Offset;
  readonly applied: Offset;
  /** Entries that the leader has committed and it has not; undefined: not known. */
  readonly lag: number | undefined;
  readonly scanned: boolean;
}

/** Fault tolerance of a shard that does not serve. */
export const STOPPED = -1;

export function clusterReport(
  { instanceId, servers, shards, problems, notAdopted }: CoordinatorStatus,
  config: ClusterConfig,
  answers: ClusterAnswers,
): ClusterReport {
  const away = new Set(servers.filter(({ state }) => state === "unavailable").map(({ server }) => server));
  const lines = shards.map((shard) => shardLine(shard, answers.get(shard.shard) ?? new Map(), away));
  const known = new Set(
    [...config.servers, ...shards.flatMap(({ identities }) => identities)].map(({ internal }) => internal),
  );
  const serverLines = servers
    .filter(({ server }) => known.has(server))
    .map(({ server, state, why }) => serverLine(config, shards, { server, available: state === "available", why }));
  const absent = serverLines.filter(({ available, draining }) => !available && !draining);
  // said once with the server, and not again with each of its shards
  const toldOnce = new Set(absent.map(({ internal }) => isAway(internal)));
  const all = [
    ...problems,
    ...notAdopted.map(({ namespace, shard, why }) => `shard ${namespace}/${shard} is not adopted: ${why}`),
    ...absent.map(serverProblem),
    ...lines.flatMap(({ namespace, shard, problems: found }) =>
      found.filter((text) => !toldOnce.has(text)).map((text) => `shard ${namespace}/${shard}: ${text}`),
    ),
  ];
  const living = lines.filter((_, index) => shards[index]!.status !== "Deleting");
  const faultTolerance = living.length === 0 ? 0 : Math.min(...living.map((line) => line.faultTolerance));
  return {
    ...{ instanceId, healthy: all.length === 0, problems: all, faultTolerance },
    ...{ servers: serverLines, shards: lines },
  };
}

function serverLine(
  { servers }: ClusterConfig,
  shards: readonly ShardReport[],
  { server, available, why }: { readonly server: string; readonly available: boolean; readonly why: string },
): ServerLine {
  const configured = servers.find(({ internal }) => internal === server);
  const stored = shards.flatMap(({ identities }) => identities).find(({ internal }) => internal === server);
  const held = shards.filter(({ ensemble }) => ensemble.some((replica) => replica.server === server));
  return {
    name: serverName(configured ?? stored ?? { name: undefined, internal: server }),
    public: configured?.public ?? stored?.public ?? "",
    internal: server,
    available,
    why,
    replicas: held.length,
    leaders: held.filter(({ leader }) => leader === server).length,
    draining: configured === undefined,
  };
}

function serverProblem({ name, internal, why, replicas }: ServerLine): string {
  const where = name === internal ? name : `${name} (${internal})`;
  const held = replicas === 0 ? "" : `, with its ${replicas} replica${replicas === 1 ? "" : "s"}`;
  return `data server ${where} is not available${held}: ${why}`;
}

function shardLine(
  report: ShardReport,
  answers: ReadonlyMap<string, StatusAnswer>,
  away: ReadonlySet<string>,
): ShardLine {
  const { namespace, shard, term, leader, range } = report;
  const answer = ({ server }: ReplicaReport) => answers.get(server);
  const leading = report.ensemble.find(({ server }) => server === leader);
  const leaderAnswer = leading === undefined ? undefined : answer(leading);
  const leads = leading !== undefined && whyNot(report, leading, leaderAnswer) === "";
  const committed = leads && leaderAnswer?.kind === "status" ? leaderAnswer.response.commitOffset : undefined;
  const line = (part: ReplicaLine["part"]) => (replica: ReplicaReport) =>
    replicaLine(replica, part, answer(replica), committed);
  const replicas = [
    ...report.ensemble.map(line("member")),
    ...report.formerEnsemble.map(line("former")),
    ...report.observers.map(line("observer")),
  ];
  const isDeleted = report.status === "Deleting";
  const found = isDeleted ? [] : problemsOf(report, answers, away);
  const there = report.ensemble.filter((replica) => whyNot(report, replica, answer(replica)) === "").length;
  const spare = there - majority(report.ensemble.length);
  return {
    ...{ namespace, shard, term, leader, range, replicas },
    problems: found,
    faultTolerance: leads && spare >= 0 ? spare : STOPPED,
    change: isDeleted ? `it is being deleted${waits(report.problems[0])}` : changeOf(report),
  };
}

/** What the coordinator says of it, then what the replicas say that it has not said. */
function problemsOf(
  report: ShardReport,
  answers: ReadonlyMap<string, StatusAnswer>,
  away: ReadonlySet<string>,
): string[] {
  const told = [...report.problems];
  if (report.leader === undefined && told.length === 0) told.push("it has no leader yet");
  const { length } = report.ensemble;
  if (length < report.replicationFactor) told.push(`it has ${length} of ${report.replicationFactor} replicas`);
  for (const replica of report.ensemble) {
    const why = whyNot(report, replica, answers.get(replica.server));
    // while there is no leader, nobody is expected to follow
    const matters = report.leader !== undefined || answers.get(replica.server)?.kind !== "status";
    if (why === "" || !matters || told.some((text) => text.includes(replica.server))) continue;
    told.push(away.has(replica.server) ? isAway(replica.server) : `${replica.server}: ${why}`);
  }
  return told;
}

/** What a shard says of a member whose server is not there: why that is stands with the server. */
function isAway(server: string): string {
  return `${server} is not available`;
}

/** Why a member does not do its part; empty: it does. */
function whyNot({ leader, term }: ShardReport, replica: ReplicaReport, answer: StatusAnswer | undefined): string {
  if (answer === undefined) return "was not asked";
  if (answer.kind === "silent") return answer.why;
  if (answer.kind === "none") return "no replica lives there";
  const { response } = answer;
  if (replica.replicaId === EMPTY_SLOT && response.replicaId !== undefined) return "has no part in the shard yet";
  if (!isReplica(response, replica.replicaId) || response.status === "NOT_MEMBER") {
    return (response.ended ?? "") === "" ? "another replica lives there" : `its replica has ended: ${response.ended}`;
  }
  const wanted = replica.server === leader ? "LEADER" : "FOLLOWER";
  if (response.status === wanted && promised(response) === term) return "";
  return `is ${STATUS[response.status]} in term ${promised(response)}, the shard is in term ${term}`;
}

const STATUS: Record<GetStatusResponse["status"], Exclude<ReplicaLine["status"], "">> = {
  NOT_MEMBER: "not-member",
  FENCED: "fenced",
  FOLLOWER: "follower",
  LEADER: "leader",
};

function replicaLine(
  { server, replicaId }: ReplicaReport,
  part: ReplicaLine["part"],
  answer: StatusAnswer | undefined,
  committed: Offset | undefined,
): ReplicaLine {
  const nothing = {
    ...{ server, replicaId, part, status: "" as const, promise: NO_TERM, head: NO_OFFSET, acked: NO_OFFSET },
    ...{ committed: NO_OFFSET, applied: NO_OFFSET, lag: undefined, scanned: false },
  };
  if (answer === undefined) return { ...nothing, why: "was not asked" };
  if (answer.kind === "silent") return { ...nothing, why: answer.why };
  if (answer.kind === "none") return { ...nothing, status: "not-member", why: "no replica lives there" };
  const { status, headOffset, commitOffset, verifiedOffset, appliedOffset, scanned, ended } = answer.response;
  const holds = verifiedOffset ?? headOffset;
  const counts = isReplica(answer.response, replicaId) && status !== "NOT_MEMBER";
  const lag = status === "LEADER" ? 0 : Math.max(0, (committed ?? 0) - holds);
  return {
    ...{
      server,
      replicaId,
      part,
      status: STATUS[status],
      why: counts ? "" : (ended ?? ""),
      promise: promised(answer.response),
    },
    ...{
      head: headOffset,
      acked: verifiedOffset ?? NO_OFFSET,
      committed: commitOffset,
      applied: appliedOffset ?? commitOffset,
    },
    lag: committed === undefined || !counts ? undefined : lag,
    scanned: scanned ?? true,
  };
}

function changeOf({ swap, pendingDeletes, frozen }: ShardReport): string {
  if (frozen !== undefined) return `frozen for ${Math.ceil(frozen.leftMs / 1_000)} s more${waits(frozen.why)}`;
  if (swap !== undefined) {
    const what = swap.removed === swap.added ? `refilling ${swap.added}` : `moving ${swap.removed} to ${swap.added}`;
    return `${what}${waits(swap.why)}`;
  }
  if (pendingDeletes.length === 0) return "";
  return `deleting the copy at ${pendingDeletes.map(({ server }) => server).join(", ")}`;
}

function waits(why: string | undefined): string {
  return why === undefined || why === "" ? "" : `: ${why}`;
}
