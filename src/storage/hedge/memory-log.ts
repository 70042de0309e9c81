import type { Head, LogEntry } from "../../model/ids.ts";
import type { Log, ReplicaLog } from "../../ports.ts";
export class HedgeLog implements Log {
  r = new Map<number, { -readonly [K in keyof ReplicaLog]: ReplicaLog[K] } & { e: LogEntry[] }>();
  replicas() {
    return [...this.r.values()];
  }
  async create(shard: number) {
    const x = {
      shard,
      replicaId: 5n,
      promise: -1,
      led: -1,
      base: { term: -1, offset: -1, crc: 0 },
      head: { term: -1, offset: -1, crc: 0 } as Head,
      damage: undefined,
      e: [] as LogEntry[],
    };
    this.r.set(shard, x);
    return x;
  }
  async promise(shard: number, term: number) {
    const x = this.r.get(shard)!;
    x.promise = term;
    return x.head;
  }
  async markLed() {}
  append(shard: number, entry: LogEntry) {
    const x = this.r.get(shard)!;
    x.head = { term: entry.term, offset: entry.offset, crc: 0 };
    return new Promise<void>((r) => setImmediate(r));
  }
  async read() {
    return [];
  }
  release() {}
  stats() {
    return { bytes: 0, segments: 0, entriesAppended: 0, bytesAppended: 0, commits: 0 };
  }
  async close() {}
}
