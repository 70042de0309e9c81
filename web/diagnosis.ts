/**
 * What an experienced operator would look at first, as rules over what the admin API says: each passes, warns or fails,
 * says what it saw, and what to do next. Pure.
 */
import { count } from "./parts/format.ts";
import { type ClusterStatus, coverage, type Event, isBeingDeleted } from "./view.ts";

export type Outcome = "pass" | "warn" | "fail";

export interface Finding {
  readonly rule: string;
  readonly outcome: Outcome;
  /** What was seen. */
  readonly what: string;
  /** What to do; empty when it passes. */
  readonly next: string;
}

export interface Evidence {
  readonly status: ClusterStatus;
  /** The newest first; empty where none are kept. */
  readonly events: readonly Event[];
  /** Milliseconds since the epoch. */
  readonly nowMs: number;
}

/** Elections in this time are counted. */
const RECENT_MS = 10 * 60_000;
/** More of them for one shard are too many: something ends its leaders again and again. */
const ELECTIONS_RECENT_MAX = 5;
/** Entries that a replica may be behind while it is well. */
const LAG_ENTRIES_MAX = 10_000n;
/** The most leaders of a server against the fewest: more is uneven. */
const LEADERS_APART_MAX = 2;
/** Places that are named; more are counted. */
const NAMED_MAX = 5;

type Rule = (evidence: Evidence) => Omit<Finding, "rule">;

const RULES: Readonly<Record<string, Rule>> = {
  "every shard has a leader": ({ status }) => {
    const without = status.shards.filter(({ leader, change }) => leader === "" && !isBeingDeleted(change)).map(nameOf);
    if (without.length === 0) return pass(`${status.shards.length} of ${status.shards.length} shards have one`);
    return fail(
      `no leader: ${named(without)}`,
      "Start its servers: a majority of a shard's replicas must answer. Only if their disks are lost for ever: varia admin shard recover.",
    );
  },
  "every server answers": ({ status }) => {
    const away = status.servers.filter(({ available, draining }) => !available && !draining);
    if (away.length === 0) return pass(`${status.servers.length} of ${status.servers.length} servers answer`);
    const what = away.map(({ name, reason }) => `${name} (${reason})`);
    return fail(
      `away: ${named(what)}`,
      "Look at its process and its machine; if it is gone for good, delete the server and its replicas are moved.",
    );
  },
  "a server may fail": ({ status }) => {
    if (status.shards.length === 0) return pass("there are no shards");
    if (status.faultTolerance > 0) return pass(`${status.faultTolerance} may`);
    if (status.servers.length < 3) {
      return warn(
        `none may: the cluster has ${count(status.servers.length, "server")}`,
        "Three servers and a replication factor of three survive the loss of one.",
      );
    }
    return fail(
      status.faultTolerance < 0 ? "a shard has stopped" : "none may",
      "See which shards have fewer replicas than they should, and why.",
    );
  },
  "every replica lives": ({ status }) => {
    const ended = replicasOf(status).filter(
      ({ replica }) => replica.status === "not-member" && replica.part === "member",
    );
    if (ended.length === 0) return pass("no id has ended");
    const what = ended.map(
      ({ shard, replica }) =>
        `${nameOf(shard)} at ${replica.server}${replica.reason === "" ? "" : ` (${replica.reason})`}`,
    );
    return warn(
      `ended: ${named(what)}`,
      "It is filled again by itself. If the same disk comes up again and again, it is failing: replace it.",
    );
  },
  "every replica keeps up": ({ status }) => {
    const behind = replicasOf(status).filter(({ replica }) => replica.lagEntries > LAG_ENTRIES_MAX);
    if (behind.length === 0) return pass(`none is more than ${LAG_ENTRIES_MAX} entries behind`);
    const what = behind.map(
      ({ shard, replica }) => `${nameOf(shard)} at ${replica.server}: ${replica.lagEntries} entries`,
    );
    return warn(`behind: ${named(what)}`, "Its disk or its network is slower than its leader's.");
  },
  "stored files have been scanned": ({ status }) => {
    const open = replicasOf(status).filter(
      ({ replica }) => !replica.scanned && replica.status !== "" && replica.status !== "not-member",
    );
    if (open.length === 0) return pass("all of them");
    return warn(
      `${open.length} replicas serve while they are still scanned`,
      "Nothing: it ends by itself. Until then damage may still be found.",
    );
  },
  "no change hangs": ({ status }) => {
    const changing = status.shards.filter(({ change }) => change.includes(": "));
    if (changing.length === 0) return pass("none waits for anything");
    return warn(
      named(changing.map((shard) => `${nameOf(shard)}: ${shard.change}`)),
      "What it waits for stands behind the colon.",
    );
  },
  "leaders are spread": ({ status }) => {
    const counts = status.servers
      .filter(({ available, draining }) => available && !draining)
      .map(({ leaders }) => leaders);
    if (counts.length < 2) return pass("there is one server");
    const [most, fewest] = [Math.max(...counts), Math.min(...counts)];
    const allowed = Math.max(LEADERS_APART_MAX, Math.ceil(status.shards.length / counts.length / 2));
    if (most - fewest <= allowed) return pass(`${fewest} to ${most} a server`);
    return warn(`${fewest} to ${most} a server`, "They are spread again within some minutes, one after the other.");
  },
  "hashes are covered": ({ status }) => {
    const wrong = [
      ...Map.groupBy(
        status.shards.filter(({ change }) => !isBeingDeleted(change)),
        ({ namespace }) => namespace,
      ),
    ]
      .filter(([, shards]) => coverage(shards).length > 0)
      .map(([namespace]) => namespace);
    if (wrong.length === 0) return pass("each hash has one shard, in every namespace");
    return fail(
      `not in ${named(wrong)}`,
      "The status store does not hold what a coordinator writes: keep a copy of it and ask.",
    );
  },
  "leaders stay": ({ events, nowMs }) => {
    const recent = events.filter(
      ({ message, timeMs }) => message === "leader elected" && nowMs - Number(timeMs) < RECENT_MS,
    );
    const counts = new Map<string, number>();
    for (const { namespace, shard } of recent) {
      const name = `${namespace}/${shard}`;
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    const often = [...counts].filter(([, count]) => count > ELECTIONS_RECENT_MAX);
    if (often.length === 0) return pass(`${recent.length} elections in ten minutes`);
    const what = often.map(([name, count]) => `${name}: ${count} elections in ten minutes`);
    return warn(
      named(what),
      "The events say why each was needed: often a server that comes and goes, or a disk that is slow.",
    );
  },
};

/** In the order in which one would look; what fails first, then what warns. */
export function diagnose(evidence: Evidence): Finding[] {
  const order: Record<Outcome, number> = { fail: 0, warn: 1, pass: 2 };
  return Object.entries(RULES)
    .map(([rule, judge]) => ({ rule, ...judge(evidence) }))
    .sort((a, b) => order[a.outcome] - order[b.outcome]);
}

export const RULE_NAMES: readonly string[] = Object.keys(RULES);

function pass(what: string): Omit<Finding, "rule"> {
  return { outcome: "pass", what, next: "" };
}

function warn(what: string, next: string): Omit<Finding, "rule"> {
  return { outcome: "warn", what, next };
}

function fail(what: string, next: string): Omit<Finding, "rule"> {
  return { outcome: "fail", what, next };
}

function named(all: readonly string[]): string {
  const rest = all.length - NAMED_MAX;
  return rest <= 0 ? all.join("; ") : `${all.slice(0, NAMED_MAX).join("; ")}; and ${rest} more`;
}

function nameOf({ namespace, shard }: { readonly namespace: string; readonly shard: bigint }): string {
  return `${namespace}/${shard}`;
}

function replicasOf({ shards }: ClusterStatus) {
  return shards
    .filter(({ change }) => !isBeingDeleted(change))
    .flatMap((shard) => shard.replicas.map((replica) => ({ shard, replica })));
}
