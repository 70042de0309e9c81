/**
 * Which data servers hold a new shard: those that hold the fewest replicas so far. Among equals a hash decides, so that
 * neighbours in the list do not always meet in one ensemble, and the same question has the same answer everywhere.
 *
 * Rules may keep replicas apart: a server that a rule keeps from one already chosen is not asked.
 *
 * Source: semantics.md §9.7 (lowest load, then FNV-1a of namespace, shard and ordinal).
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

/** FNV-1a, 32 bits, over UTF-8. */
export function fnv1a(words: string): number {
  let hash = 0x811c_9dc5;
  for (const byte of utf8(words)) hash = Math.imul(hash ^ byte, 0x0100_0193);
  return hash >>> 0;
}
