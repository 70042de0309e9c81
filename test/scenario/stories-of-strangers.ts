/**
 * What goes wrong between our own servers and reference peers, and what comes of it: each row of safety.md §11 once, by
 * hand. The times of messages and disks are drawn from the seed.
 */
import assert from "node:assert/strict";
import type { LogEntry, Offset, Term } from "../../src/model/ids.ts";
import type { Append, GetStatusResponse } from "../../src/model/peer-messages.ts";
import type { AppendStream } from "../../src/ports.ts";
import { encodeWriteEntry } from "../../src/wire/log-entry.ts";
import type { Outcome } from "../sim/history.ts";
import { simDataServers, simFollowers } from "../sim/peer-calls.ts";
import { type Kind, type Mix, MixedCluster } from "../sim/reference/mixed-cluster.ts";
import { encode, NAMESPACE, OPTIONS, SHARD } from "../sim/reference/registers.ts";

const LIMITS = { timeoutMs: 5_000 };

/** Servers without a coordinator: the test calls them as a reference coordinator, or as a leader, would. */
class MixedStage {
  readonly cluster: MixedCluster;

  constructor(seed: number, servers: readonly Kind[]) {
    const mix: Mix = { name: "by hand", servers, coordinator: "reference", judged: "puts" };
    this.cluster = new MixedCluster(seed, mix, { calm: true });
    this.cluster.start({ coordinator: false });
    this.run(() => this.cluster.scheduler.sleep(100));
    for (const server of servers.keys()) this.handshake(server);
  }

  run<T>(flow: () => Promise<T>, withinMs = 60_000): T {
    return this.cluster.scheduler.complete("step", flow, withinMs);
  }

  handshake(server: number): void {
    const request = { instanceId: "by hand", stamp: undefined, confirmedStamp: undefined };
    this.run(() => this.#servers().handshake(this.#address(server), request, LIMITS));
  }

  newTerm(server: number, term: Term) {
    const ours = { replicaId: undefined, countedTerm: undefined, confirmedStamp: undefined, adopt: undefined };
    const request = { ...this.#shard(term), options: OPTIONS, ...ours };
    return this.run(() => this.#servers().newTerm(this.#address(server), request, LIMITS)).head;
  }

  /** Fences all that are named, and makes the first one lead the others. */
  lead(term: Term, leader: number, ...others: readonly number[]): void {
    this.newTerm(leader, term);
    const followers = others.map((server) => {
      const { term: headTerm, offset } = this.newTerm(server, term);
      return { server: this.#address(server), head: { term: headTerm, offset } };
    });
    const ours = { replicaId: undefined, expectedHead: undefined, members: undefined, formerMembers: undefined };
    const features = ["DB_CHECKSUM"] as const;
    const request = { ...this.#shard(term), replicationFactor: 1 + others.length, followers, features, ...ours };
    this.run(() => this.#servers().becomeLeader(this.#address(leader), request, LIMITS));
  }

  /** Entries of a leader that is never heard of again: they are not committed. */
  foreign(server: number, term: Term, ...entries: readonly LogEntry[]): void {
    this.newTerm(server, term);
    const stream = simFollowers(this.cluster.channel()).replicate(this.#address(server), this.#shard(term));
    for (const entry of entries) stream.send(appendOf(term, entry));
    this.run(() => ackOf(stream, entries.at(-1)!.offset));
    stream.cancel();
    this.run(() => this.cluster.scheduler.sleep(100));
  }

  status(server: number): GetStatusResponse {
    return this.run(() => this.#servers().getStatus(this.#address(server), { shard: SHARD }, LIMITS));
  }

  put(server: number, key: string, value: string): Outcome | undefined {
    return this.#ask(server, { kind: "put", key, value });
  }

  /** The value, or why there is none. */
  get(server: number, key: string): string | undefined {
    const outcome = this.#ask(server, { kind: "get", key });
    return outcome?.status === "OK" ? outcome.record!.value : outcome?.status;
  }

  #ask(server: number, operation: Parameters<MixedCluster["ask"]>[3]): Outcome | undefined {
    return this.run(() => this.cluster.askServer(server, operation));
  }

  #servers() {
    return simDataServers(this.cluster.channel());
  }

  #address(server: number): string {
    return this.cluster.servers[server]!.address;
  }

  #shard(term: Term) {
    return { namespace: NAMESPACE, shard: SHARD, term };
  }
}

async function ackOf(stream: AppendStream, offset: Offset): Promise<void> {
  for (let ack = await stream.next(); ack !== undefined && ack.offset < offset; ) ack = await stream.next();
}

function putEntry(term: Term, offset: Offset, key: string, value: string): LogEntry {
  return { term, offset, timestamp: 1, value: encodeWriteEntry(encode({ kind: "put", key, value })) };
}

/** As a reference leader sends it that says nothing of the chain. */
function appendOf(term: Term, entry: LogEntry): Append {
  return {
    ...{ term, entry, commitOffset: -1, previousEntryCrc: 0, cumulativeAcksSupported: true },
    ...{ previousTerm: undefined, previousCrc: undefined, readRound: undefined },
    ...{ ackedOffset: undefined, replicaId: undefined },
  };
}

/** A foreign tail is cut until term and offset agree. Under a reference coordinator a server of ours has no id towards its leader either. */
function foreignTail(seed: number, kind: Kind): void {
  const stage = new MixedStage(seed, ["varia", kind]);
  const shared = putEntry(1, 0, "k0", "shared");
  const tail = [1, 2].map((offset) => putEntry(2, offset, `k${offset}`, "foreign"));
  const own = [1, 2].map((offset) => putEntry(1, offset, `k${offset}`, "kept"));
  stage.foreign(1, 1, shared);
  stage.foreign(1, 2, shared, ...tail);
  stage.foreign(0, 1, shared, ...own);
  stage.foreign(0, 3, shared, ...own, putEntry(3, 3, "k3", "kept"));
  stage.lead(4, 0, 1);
  assert.equal(stage.put(0, "k4", "acknowledged")?.status, "OK");
  stage.lead(5, 1);
  const values = ["k0", "k1", "k2", "k3", "k4"].map((key) => stage.get(1, key));
  assert.deepEqual(values, ["shared", "kept", "kept", "kept", "acknowledged"]);
}

export const strangers: Readonly<Record<string, (seed: number) => void>> = {
  /** A foreign tail that its truncation leaves is compared entry by entry, cut, and filled with the leader's. */
  "a reference leader leaves a foreign tail": (seed) => {
    const stage = new MixedStage(seed, ["varia", "reference"]);
    // the follower: 1 … 3 of term 2, of a leader that is gone; the leader: 0 … 2 of term 1, 3 of term 3
    stage.foreign(0, 2, ...[0, 1, 2].map((offset) => putEntry(2, offset, `k${offset}`, "foreign")));
    stage.lead(1, 1);
    stage.put(1, "k1", "kept");
    stage.put(1, "k2", "kept");
    stage.lead(3, 1);
    stage.put(1, "k3", "kept");
    stage.lead(4, 1, 0);
    // it is told to keep what it has up to 2, which it does not share; the leader goes on behind that
    assert.equal(stage.put(1, "k4", "acknowledged")?.status, "OK");
    stage.lead(5, 0);
    assert.deepEqual([stage.get(0, "k1"), stage.get(0, "k2"), stage.get(0, "k3")], ["kept", "kept", "kept"]);
    assert.deepEqual([stage.get(0, "k4"), stage.get(0, "k0")], ["acknowledged", "KEY_NOT_FOUND"]);
  },

  /** Applied entries that it does not have are not cut: the replica stops, and says so. */
  "a reference leader has not what was applied": (seed) => {
    const stage = new MixedStage(seed, ["varia", "reference"]);
    stage.lead(2, 0);
    stage.put(0, "k1", "applied");
    stage.lead(1, 1);
    stage.put(1, "k1", "other");
    stage.lead(3, 1);
    stage.put(1, "k2", "other");
    stage.lead(4, 1, 0);
    assert.equal(stage.put(1, "k3", "never"), undefined);
    const { cluster } = stage;
    assert.equal(
      cluster.scheduler.trace.lines().some((line) => line.includes("ALARM")),
      true,
    );
    assert.throws(() => stage.newTerm(0, 5), /this replica has stopped/);
  },

  /** What it commits of earlier terms by counting may be lost again: its clients saw it, our follower did not apply it. */
  "a reference leader commits by counting alone": (seed) => {
    const stage = new MixedStage(seed, ["varia", "reference", "varia"]);
    stage.foreign(1, 1, ...[0, 1].map((offset) => putEntry(1, offset, "a", `uncommitted ${offset}`)));
    stage.foreign(2, 2, putEntry(2, 0, "a", "of a later term"));
    // Raft's figure 8: it goes on with what it has, and no entry of its own term comes first
    stage.lead(3, 1, 0);
    assert.equal(stage.get(1, "a"), "uncommitted 1");
    const { headTerm, headOffset, appliedOffset } = stage.status(0);
    assert.deepEqual([headTerm, headOffset, appliedOffset], [1, 1, -1]);
    stage.lead(4, 2, 0);
    assert.equal(stage.get(2, "a"), "of a later term");
    stage.lead(5, 0);
    assert.equal(stage.get(0, "a"), "of a later term");
  },

  "a reference follower has a foreign tail": (seed) => foreignTail(seed, "reference"),

  "a follower without an id has a foreign tail": (seed) => foreignTail(seed, "varia"),

  /** Reads wait for a follower's status of the leader's own term: a deposed leader answers none. */
  "a deposed leader of reference followers is asked for a value": (seed) => {
    const stage = new MixedStage(seed, ["varia", "reference", "reference"]);
    stage.lead(1, 0, 1, 2);
    assert.equal(stage.put(0, "k", "old")?.status, "OK");
    assert.equal(stage.get(0, "k"), "old");
    stage.lead(2, 1, 2);
    assert.equal(stage.put(1, "k", "new")?.status, "OK");
    assert.equal(stage.get(0, "k"), undefined);
  },

  /** A status that was asked before a read came confirms nothing for it, however late it is answered. */
  "a reference follower's status comes late": (seed) => {
    const stage = new MixedStage(seed, ["varia", "reference", "reference"]);
    const { network, servers, scheduler } = stage.cluster;
    stage.lead(1, 0, 1, 2);
    stage.put(0, "k", "old");
    assert.equal(stage.get(0, "k"), "old");
    const [leader, ...followers] = servers.map(({ machine }) => machine.node);
    for (const follower of followers) network.slow(follower, leader!, 2_000);
    // a round of the idle leader: the followers are asked, and their answers are on their way
    const asked = () => scheduler.trace.lines().filter((line) => line.endsWith("call GetStatus")).length;
    const before = asked();
    stage.run(async () => {
      while (asked() < before + followers.length) await scheduler.sleep(20);
    });
    stage.lead(2, 1, 2);
    assert.equal(stage.put(1, "k", "new")?.status, "OK");
    assert.equal(stage.get(0, "k"), undefined);
  },

  /** A follower at head hears of the commit by a message without an entry. */
  "a reference follower at head hears of the commit": (seed) => {
    const stage = new MixedStage(seed, ["varia", "reference"]);
    stage.lead(1, 0, 1);
    stage.put(0, "k", "v");
    stage.run(() => stage.cluster.scheduler.sleep(100));
    const { headOffset, commitOffset } = stage.status(1);
    assert.equal(commitOffset, headOffset);
  },

  /** Servers of ours under a reference coordinator that share no entry, with nothing committed yet: an empty snapshot. */
  "a reference coordinator's members share no entry": (seed) => {
    const stage = new MixedStage(seed, ["varia", "varia"]);
    stage.foreign(0, 1, ...[0, 1].map((offset) => putEntry(1, offset, `k${offset}`, "foreign")));
    stage.foreign(1, 2, putEntry(2, 0, "k2", "kept"));
    stage.lead(3, 1, 0);
    stage.lead(4, 0);
    assert.deepEqual(
      ["k0", "k1", "k2"].map((key) => stage.get(0, key)),
      ["KEY_NOT_FOUND", "KEY_NOT_FOUND", "kept"],
    );
  },

  /** A reference coordinator: a damaged replica stays away from votes, and is filled anew beside a leader that stands: with this
   * seed the bit that flips is one of the log's that is read. */
  "a reference coordinator has a damaged member": () => {
    const mix: Mix = { name: "", servers: ["varia", "varia", "varia"], coordinator: "reference", judged: "all" };
    const cluster = new MixedCluster(3, mix, { calm: true });
    const { scheduler } = cluster;
    cluster.start();
    const insist = (key: string, value: string) =>
      scheduler.complete("put", () => cluster.insist({ kind: "put", key, value }), 60_000);
    insist("a", "one");
    const [victim] = cluster.servers.filter(({ address }) => address !== cluster.parts.reference.document.leader);
    const { machine, disk, address } = victim!;
    const status = () =>
      scheduler.complete(
        "status",
        () => simDataServers(cluster.channel()).getStatus(address, { shard: SHARD }, LIMITS),
        60_000,
      );
    const before = status().replicaId;
    machine.end("killed", 200);
    disk.flipBit((file) => file.startsWith("log/segment"));
    scheduler.complete("a while", () => scheduler.sleep(2_000));
    assert.equal(status().status, "NOT_MEMBER");
    assert.notEqual(status().ended, "");
    // its leader goes too: of the two answers that come now, one is refused
    const { leader, term } = cluster.parts.reference.document;
    const leading = cluster.servers.find((server) => server.address === leader)!;
    leading.machine.end("killed", 20_000);
    scheduler.complete("a while", () => scheduler.sleep(15_000));
    assert.ok(cluster.parts.reference.document.term > term);
    assert.equal(cluster.parts.reference.document.status, "Election");
    assert.equal(status().status, "NOT_MEMBER");
    insist("a", "two");
    scheduler.complete("a while", () => scheduler.sleep(30_000));
    assert.equal(status()?.status, "FOLLOWER");
    assert.notEqual(status().replicaId, before);
    cluster.settle();
  },

  /** A coordinator of ours: an empty reference server is no vote while a listed one is silent. */
  "a reference server has lost its disk while another is silent": (seed) => {
    const servers: Kind[] = ["reference", "reference", "reference"];
    const cluster = new MixedCluster(seed, { name: "", servers, coordinator: "varia", judged: "puts" }, { calm: true });
    const { scheduler } = cluster;
    cluster.start();
    scheduler.complete("put", () => cluster.insist({ kind: "put", key: "a", value: "one" }), 60_000);
    const leader = cluster.leading!;
    const [wiped, late] = cluster.servers.filter((server) => server !== leader);
    // the leader and one other have the entry; the other one loses its disk, and the leader is gone
    late!.machine.end("killed", 3_600_000);
    const written = scheduler.complete("put", () => cluster.insist({ kind: "put", key: "a", value: "two" }), 60_000);
    assert.equal(written?.status, "OK");
    leader.machine.end("killed", 3_600_000);
    wiped!.machine.end("power", 100);
    wiped!.disk.wipe();
    late!.machine.allowUp();
    const served = () => scheduler.complete("read", () => cluster.insist({ kind: "get", key: "a" }), 60_000);
    assert.throws(served, /these wait/);
    leader.machine.allowUp();
    const found = served();
    assert.equal(found.status === "OK" && found.record!.value.startsWith("two"), true);
  },
};
