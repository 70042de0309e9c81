/**
 * Which data servers hold a new shard: those that hold the fewest replicas so far. Among equals a hash decides, so that
 * neighbours in the list do not always meet in one ensemble, and the same question has the same answer everywhere. And
 * which replica, or which leader, is to move next: off servers that are to be emptied, then from those that have most
 * to those that have least, until none has more than one above another.
 *
 * Rules may keep replicas apart: a server that a rule keeps from one already chosen is not asked.
 *
 * Source: semantics.md §9.6, §9.7 (lowest load, then FNV-1a of namespace, shard and ordinal).
 */
import { utf8 } from "../lib/bytes.ts";

export interface PlacedShard {
  readonly namespace: string;
  readonly shard: number;
}

/** Whether two servers may hold replicas of one shard. */
export type Apart = (server: string, other: string) => boolean;

/**
 * The servers of a new shard's ensemble, `replicationFactor` different ones of `replicas` (server -> replicas that it
 * holds, each counted as it is given out: the map is changed in place). Undefined, with nothing given out, when there are
 * not that many that may go together.
 */
export function placeShard(
  replicas: Map<string, number>,
  { namespace, shard }: PlacedShard,
  replicationFactor: number,
  apart: Apart = () => true,
): string[] | undefined {
  const chosen: string[] = [];
  for (let ordinal = 0; ordinal < replicationFactor; ordinal++) {
    const free = [...replicas].filter(
      ([server]) => !chosen.includes(server) && chosen.every((other) => apart(server, other)),
    );
    if (free.length === 0) {
      for (const server of chosen) replicas.set(server, replicas.get(server)! - 1);
      return undefined;
    }
    const least = Math.min(...free.map(([, count]) => count));
    const equals = free.filter(([, count]) => count === least);
    const [server] = equals[fnv1a(`${namespace}${shard}${ordinal}`) % equals.length]!;
    chosen.push(server);
    replicas.set(server, least + 1);
  }
  return chosen;
}

/** A shard that is there, as far as moving its replicas goes. */
export interface HeldShard extends PlacedShard {
  /** Holders of its replicas. */
  readonly servers: readonly string[];
  readonly leader: string | undefined;
  /** Whether one of its replicas, or its leader, may be moved now. */
  readonly movable: boolean;
  readonly apart?: Apart;
}

export interface Move extends PlacedShard {
  readonly from: string;
  readonly to: string;
}

/**
 * Replicas at servers that are to be emptied, each with the server that holds least of those that may take it; at most
 * `movesMax`. `replicas` has the servers that may take any; a move counts in it at once, it is changed in place.
 */
export function drainMoves(
  shards: readonly HeldShard[],
  replicas: Map<string, number>,
  { stays, movesMax }: { readonly stays: (server: string) => boolean; readonly movesMax: number },
): Move[] {
  const moves: Move[] = [];
  for (const shard of shards) {
    if (moves.length >= movesMax) break;
    const from = shard.servers.find((server) => !stays(server));
    const to = from === undefined || !shard.movable ? undefined : leastLoaded(shard, from, replicas);
    if (from === undefined || to === undefined) continue;
    replicas.set(to, replicas.get(to)! + 1);
    moves.push({ namespace: shard.namespace, shard: shard.shard, from, to });
  }
  return moves;
}

/**
 * The replica whose move makes the numbers in `replicas` more even, of a server that holds most; a leader's only if
 * there is no other. A shard with one replica stays where it is. Undefined: they are even, or no move helps.
 */
export function evenMove(shards: readonly HeldShard[], replicas: ReadonlyMap<string, number>): Move | undefined {
  const least = Math.min(...replicas.values());
  const full = [...replicas].filter(([, count]) => count > least + 1).sort(([, a], [, b]) => b - a);
  for (const [from, count] of full) {
    const holds = ({ servers, movable }: HeldShard) => movable && servers.length > 1 && servers.includes(from);
    const held = shards.filter(holds).sort((a, b) => Number(a.leader === from) - Number(b.leader === from));
    let best: Move | undefined;
    for (const shard of held) {
      const to = leastLoaded(shard, from, replicas);
      if (to === undefined || replicas.get(to)! + 1 >= count) continue;
      if (best !== undefined && replicas.get(to)! >= replicas.get(best.to)!) continue;
      best = { namespace: shard.namespace, shard: shard.shard, from, to };
    }
    if (best !== undefined) return best;
  }
  return undefined;
}

/** Of so many shards the leaders are known before any is moved. */
const LED_SHARE_MIN = 0.75;

/**
 * The shard whose leader should move, and where to: from a server that leads at least two more than another holder of
 * it, of those that lead most. `servers` are those that may lead. Undefined: leaders are spread evenly, or too few
 * shards have one.
 */
export function leaderMove(shards: readonly HeldShard[], servers: ReadonlySet<string>): Move | undefined {
  const led = shards.filter(({ leader }) => leader !== undefined);
  if (led.length < shards.length * LED_SHARE_MIN) return undefined;
  const counts = new Map([...servers].map((server) => [server, 0]));
  for (const { leader } of led) if (servers.has(leader!)) counts.set(leader!, counts.get(leader!)! + 1);
  for (const [from, count] of [...counts].sort(([, a], [, b]) => b - a)) {
    let best: Move | undefined;
    for (const shard of led) {
      if (!shard.movable || shard.leader !== from) continue;
      for (const to of shard.servers) {
        const ledThere = counts.get(to) ?? Number.POSITIVE_INFINITY;
        if (ledThere + 2 > count || (best !== undefined && ledThere >= counts.get(best.to)!)) continue;
        best = { namespace: shard.namespace, shard: shard.shard, from, to };
      }
    }
    if (best !== undefined) return best;
  }
  return undefined;
}

/** The server that may hold the shard in the place of `from` and holds least; undefined: there is none. */
function leastLoaded(
  { namespace, shard, servers, apart = () => true }: HeldShard,
  from: string,
  replicas: ReadonlyMap<string, number>,
): string | undefined {
  const others = servers.filter((server) => server !== from);
  const mayHold = (server: string) => !servers.includes(server) && others.every((other) => apart(server, other));
  const free = [...replicas].filter(([server]) => mayHold(server));
  const least = Math.min(...free.map(([, count]) => count));
  const equals = free.filter(([, count]) => count === least);
  return equals[fnv1a(`${namespace}${shard}${from}`) % equals.length]?.[0];
}

/** FNV-1a, 32 bits, over UTF-8. */
export function fnv1a(words: string): number {
  let hash = 0x811c_9dc5;
  for (const byte of utf8(words)) hash = Math.imul(hash ^ byte, 0x0100_0193);
  return hash >>> 0;
}
