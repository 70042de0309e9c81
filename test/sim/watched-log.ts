/** A Log that tells a cluster's checkers what becomes durable in it, before whoever asked for it hears of it. */
import type { ShardId } from "../../src/model/ids.ts";
import type { Log } from "../../src/ports.ts";
import type { ChangeInvariants } from "./change-invariants.ts";
import type { ShardInvariants } from "./shard-invariants.ts";

export type InvariantsOf = (shard: ShardId) => ShardInvariants;

export interface WatchedServer {
  readonly server: string;
  /** Number of the process that has opened it. */
  readonly life: number;
  readonly of: InvariantsOf;
  readonly changes: ChangeInvariants;
  /** The last stamp that the store knows the server to hold. */
  readonly confirmedStamp: () => number;
}

/** Watches the log from now on, beginning with what it holds. Answers the same object. */
export function watchLog<L extends Log>(log: L, watched: WatchedServer): L {
  const { server, life, of } = watched;
  for (const replica of log.replicas()) of(replica.shard).opened(server, life, replica, isOld(log, watched));
  watchLives(log, watched);
  watchEntries(log, watched);
  const promise = log.promise.bind(log);
  log.promise = async (shard, term) => {
    const head = await promise(shard, term);
    of(shard).promised(server, term, head);
    return head;
  };
  const markLed = log.markLed.bind(log);
  log.markLed = async (shard, term) => {
    await markLed(shard, term);
    of(shard).led(server, term);
  };
  return log;
}

function isOld(log: Log, { confirmedStamp }: WatchedServer): boolean {
  return log.stamp() < confirmedStamp();
}

function watchLives(log: Log, watched: WatchedServer): void {
  const { server, of } = watched;
  const create = log.create.bind(log);
  log.create = async (shard, born) => {
    const replica = await changing(watched, shard, () => create(shard, born));
    of(shard).created(server, replica, isOld(log, watched));
    return replica;
  };
  const adopt = log.adopt.bind(log);
  log.adopt = async (shard, born) => {
    const replica = await changing(watched, shard, () => adopt(shard, born));
    of(shard).created(server, replica, isOld(log, watched));
    return replica;
  };
  const end = log.end.bind(log);
  log.end = async (shard, reason) => {
    const replica = await end(shard, reason);
    of(shard).ended(server, reason);
    return replica;
  };
  const remove = log.remove.bind(log);
  log.remove = async (shard) => {
    await changing(watched, shard, () => remove(shard));
    of(shard).ended(server, "it is removed");
  };
  const takeStamp = log.takeStamp.bind(log);
  log.takeStamp = async (request) => {
    const answer = await takeStamp(request);
    if (answer.rolledBack) for (const { shard, ended } of log.replicas()) of(shard).ended(server, ended);
    return answer;
  };
}

function watchEntries(log: Log, watched: WatchedServer): void {
  const { server, of } = watched;
  const append = log.append.bind(log);
  log.append = (shard, entry, acceptedUnder) => {
    const invariants = of(shard);
    const made = invariants.appending(server, entry);
    const durable = append(shard, entry, acceptedUnder);
    if (made === undefined) return durable;
    return durable.then(
      () => invariants.appended(server, made, acceptedUnder ?? entry.term),
      (error) => {
        invariants.dropped(server, made);
        throw error;
      },
    );
  };
  const truncate = log.truncate.bind(log);
  log.truncate = async (shard, truncation) => {
    const head = await changing(watched, shard, () => truncate(shard, truncation));
    of(shard).truncated(server, head);
    return head;
  };
  const install = log.install.bind(log);
  log.install = async (shard, acceptedUnder, base) => {
    await changing(watched, shard, () => install(shard, acceptedUnder, base));
    of(shard).installed(server, base);
  };
}

/** While it is under way, a crash leaves what was there before, or what comes after. */
async function changing<T>({ server, of }: WatchedServer, shard: ShardId, change: () => Promise<T>): Promise<T> {
  of(shard).changing(server);
  try {
    return await change();
  } finally {
    of(shard).notChanged(server);
  }
}
