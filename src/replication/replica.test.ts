/** One replica's life: ids, promises and ends, as its coordinator sees them, over restarts of its server. */
import { expect, spyOn, test } from "bun:test";
import { NAMESPACE, OPTIONS, refusal, ScriptedLeader, SHARD, simulated } from "../../test/harness/replica-server.ts";
import { DiskKeyValues } from "../../test/sim/disk-key-values.ts";
import { EMPTY_BYTES } from "../lib/bytes.ts";
import { REPLICA_CALLS_WAITING_MAX } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import type { Log } from "../ports.ts";

test("NewTerm with id 0 mints a replica once; the id is answered again and outlives a power cut with its promise", () =>
  simulated(async (world) => {
    const server = await world.server();
    expect(await refusal(server.status())).toBe("NODE_IS_NOT_MEMBER");
    const first = await server.newTerm(3, 0n);
    expect(first).toMatchObject({ ended: "", mintedTerm: 3, head: { term: -1, offset: -1, crc: 0 } });
    expect(first.replicaId).not.toBe(0n);
    expect((await server.newTerm(4, 0n)).replicaId).toBe(first.replicaId);
    await server.restart();
    expect(await refusal(server.newTerm(3, first.replicaId))).toBe("INVALID_TERM");
    expect(await server.newTerm(4, first.replicaId)).toMatchObject({
      replicaId: first.replicaId,
      ended: "",
      mintedTerm: 3,
    });
    expect(await server.newTerm(5, 99n)).toMatchObject({ replicaId: first.replicaId });
    expect((await server.newTerm(6, 99n)).ended).toContain("99");
    expect(await server.status()).toMatchObject({ status: "FENCED", term: 6, promise: 6, ended: "" });
  }));

test("a disk without space for its state leaves no replica behind: it is minted once there is", () =>
  simulated(async (world) => {
    const server = await world.server();
    const open = spyOn(DiskKeyValues.prototype, "open");
    try {
      open.mockRejectedValueOnce(new Refusal("RESOURCE_EXHAUSTED", "no space left"));
      expect(await refusal(server.newTerm(3, 0n))).toBe("RESOURCE_EXHAUSTED");
    } finally {
      open.mockRestore();
    }
    expect(server.log.replicas()).toEqual([]);
    const minted = await server.newTerm(4, 0n);
    expect(minted).toMatchObject({ ended: "", mintedTerm: 4 });
    await server.restart();
    expect(await server.newTerm(5, minted.replicaId)).toMatchObject({ ended: "", replicaId: minted.replicaId });
  }));

test("an id that is asked for where nothing lives has ended; nothing is minted", () =>
  simulated(async (world) => {
    const server = await world.server();
    expect(await server.newTerm(3, 5n)).toMatchObject({ replicaId: 0n, head: { offset: -1 } });
    expect((await server.newTerm(3, 5n)).ended).not.toBe("");
    expect(server.log.replicas()).toEqual([]);
  }));

test("a promise below the term in which the id was counted ends it, durably; what is minted then begins empty", () =>
  simulated(async (world) => {
    const server = await world.server();
    const id = await server.mint(2);
    const leader = new ScriptedLeader().add(2).add(2, "a");
    const stream = server.stream(2, leader).open(id).entry(0).entry(1, 1);
    await world.until(() => server.kv.applied.offset === 1, "both applied");
    const answer = await server.newTerm(9, id, { countedTerm: 5 });
    expect(answer.ended).toContain("below term 5");
    expect(answer.replicaId).toBe(0n);
    expect(await stream.ended).toBe("RESOURCE_UNAVAILABLE");
    await server.restart();
    expect(await server.status()).toMatchObject({ status: "NOT_MEMBER", replicaId: 0n, ended: answer.ended });
    expect((await server.newTerm(9, id)).ended).toBe(answer.ended);
    const fresh = await server.newTerm(9, 0n);
    expect(fresh).toMatchObject({ head: { offset: -1 }, ended: "", mintedTerm: 9 });
    expect(fresh.replicaId).not.toBe(id);
    expect(server.kv.rowCount).toBe(0);
  }));

test("a stamp below the confirmed one ends all ids, once, and stops what runs", () =>
  simulated(async (world) => {
    const server = await world.server();
    await server.now.handshake({ instanceId: "cluster", stamp: 10, confirmedStamp: 0 });
    const id = await server.mint(1);
    await server.becomeLeader(1, id);
    expect(await server.now.handshake({ instanceId: "cluster", stamp: 12, confirmedStamp: 11 })).toMatchObject({
      stamp: 10,
    });
    expect(server.now.replicas.leaders()).toEqual([]);
    expect((await server.status()).ended).toContain("older copy");
    const fresh = await server.mint(2);
    expect((await server.newTerm(3, fresh, { confirmedStamp: 20 })).ended).toContain("older copy");
    const next = await server.mint(4);
    // what was confirmed is held now
    expect(await server.newTerm(5, next, { confirmedStamp: 20 })).toMatchObject({ ended: "" });
  }));

test("a replica without a live id refuses a reference coordinator once a term, then begins empty", () =>
  simulated(async (world) => {
    const server = await world.server();
    const id = await server.mint(1);
    await server.newTerm(2, id, { countedTerm: 2 });
    expect(await refusal(server.newTerm(3, undefined))).toBe("RESOURCE_UNAVAILABLE");
    expect(await server.newTerm(3, undefined)).toEqual({
      head: { term: -1, offset: -1, crc: undefined },
      replicaId: undefined,
      ended: undefined,
      mintedTerm: undefined,
    });
  }));

test("the data that stands gets a new id by adoption; the old one is void", () =>
  simulated(async (world) => {
    const server = await world.server();
    const id = await server.mint(1);
    const stream = server.stream(1, new ScriptedLeader().add(1).add(1, "a")).open(id).entry(0).entry(1, 1);
    await world.until(() => stream.lastAck?.offset === 1, "both acked");
    await server.newTerm(2, id, { countedTerm: 2 });
    const adopted = await server.newTerm(8, 0n, { adopt: true });
    expect(adopted).toMatchObject({ ended: "", mintedTerm: 8, head: { term: 1, offset: 1 } });
    expect(adopted.replicaId).not.toBe(id);
    await server.restart();
    expect(await server.newTerm(9, adopted.replicaId)).toMatchObject({ ended: "", head: { term: 1, offset: 1 } });
  }));

test("DeleteShard takes only the replica that is meant, erases it and answers the next time that nothing is there", () =>
  simulated(async (world) => {
    const server = await world.server();
    const id = await server.mint(1);
    await server.becomeLeader(1, id);
    const place = { namespace: NAMESPACE, shard: SHARD };
    expect(await refusal(server.now.deleteShard({ ...place, term: 1, replicaId: id + 1n }))).toBe("NODE_IS_NOT_MEMBER");
    expect(await refusal(server.now.deleteShard({ ...place, term: 0, replicaId: id }))).toBe("INVALID_TERM");
    expect(server.now.replicas.leaders().length).toBe(1);
    await server.now.deleteShard({ ...place, term: 4, replicaId: id });
    expect(server.now.replicas.leaders()).toEqual([]);
    expect(server.log.replicas()).toEqual([]);
    await server.now.deleteShard({ ...place, term: 4, replicaId: id });
    expect((await server.newTerm(5, id)).ended).toContain("deleted");
    await server.restart();
    expect(await refusal(server.newTerm(3, 0n))).toBe("INVALID_TERM");
    expect((await server.newTerm(5, 0n)).replicaId).not.toBe(id);
  }));

test("damage to the state that is found at the start ends the id, and it says so", () =>
  simulated(async (world) => {
    const server = await world.server();
    const id = await server.mint(1);
    await server.becomeLeader(1, id);
    await server.kv.flush();
    server.node.end("power");
    expect(server.disk.flipBit((file) => file === `kv/shard-${SHARD}`)).toBeDefined();
    await server.start();
    await server.now.handshake({ instanceId: "cluster", stamp: 0, confirmedStamp: 0 });
    const answer = await server.newTerm(2, id);
    expect(answer.ended).toContain("kv/shard");
    expect(await server.status()).toMatchObject({ status: "NOT_MEMBER", ended: answer.ended });
    expect(server.log.replicas()[0]?.ended).toBe(answer.ended);
    expect(await server.newTerm(3, 0n)).toMatchObject({ ended: "", head: { offset: -1 } });
  }));

test("damage that the log finds while it is read ends the id: the leadership is over, and it says so", () =>
  simulated(async (world) => {
    for (const asked of ["status", "new term"] as const) {
      const server = await world.server(`server asked for ${asked}`);
      const id = await server.mint(1);
      await server.becomeLeader(1, id);
      expect(server.disk.flipBit((file) => file.startsWith("log/segment"))).toBeDefined();
      expect(await refusal(server.log.read(SHARD, 0))).toBe("DATA_LOSS");
      const leader = server.now.replicas.leader(SHARD);
      expect(await refusal(leader.createSession(5_000, EMPTY_BYTES))).not.toBe("resolved");
      if (asked === "new term") expect((await server.newTerm(2, id)).ended).toContain("log/segment");
      expect(await server.status()).toMatchObject({ status: "NOT_MEMBER", replicaId: 0n });
      expect((await server.status()).ended).toContain("log/segment");
      expect(server.now.replicas.leaders()).toEqual([]);
      expect(await server.newTerm(3, 0n)).toMatchObject({ ended: "", head: { offset: -1 } });
    }
  }));

test("damage that a scan finds while the state is served ends the id at the next call", () =>
  simulated(async (world) => {
    const server = await world.server();
    const id = await server.mint(1);
    await server.becomeLeader(1, id);
    Object.defineProperty(server.kv, "damage", {
      value: { file: "kv", where: "row 3", what: "its checksum is wrong" },
    });
    expect(await refusal(server.status())).toBe("DATA_LOSS");
    expect(await server.status()).toMatchObject({ status: "NOT_MEMBER", replicaId: 0n });
    expect((await server.newTerm(2, id)).ended).toContain("row 3");
    expect(server.now.replicas.leaders()).toEqual([]);
  }));

test("a standalone server keeps the id of a damaged replica, which refuses", () =>
  simulated(async (world) => {
    const server = await world.server("server", { onDamage: "keep" });
    const id = await server.mint(1);
    await server.becomeLeader(1, id);
    await server.kv.flush();
    server.node.end("power");
    server.disk.flipBit((file) => file === `kv/shard-${SHARD}`);
    await server.start();
    expect(await refusal(server.newTerm(2, id))).toBe("DATA_LOSS");
    expect(() => server.now.replicas.leader(SHARD)).toThrow("kv/shard");
    expect(server.log.replicas()[0]).toMatchObject({ replicaId: id, ended: "" });
  }));

test("a state that was lost, and needs what the log has trimmed since it was opened, ends the id: as follower and as leader", () =>
  simulated(async (world) => {
    for (const leads of [true, false]) {
      const server = await world.server(leads ? "leader" : "follower");
      const id = await server.mint(1);
      await server.becomeLeader(1, id);
      await server.kv.flush();
      server.node.end("power");
      server.disk.lose(`kv/shard-${SHARD}`);
      const spy = (log: Log): Log => {
        log.read = () => Promise.reject(new Refusal("FAILED_PRECONDITION", "offset 0 was trimmed"));
        return log;
      };
      await server.start({ spy });
      await server.newTerm(2, id);
      const leading = leads ? server.becomeLeader(2, id) : undefined;
      if (leads) expect(await refusal(leading!)).toBe("DATA_LOSS");
      else {
        server.stream(2).open(id, 0).push({ commitOffset: 0 });
      }
      await world.until(() => server.log.replicas()[0]!.ended !== "", "the end of the id");
      expect(server.log.replicas()[0]!.ended).toContain("offset 0 was trimmed");
    }
  }));

test("the options of the last NewTerm outlive a restart; the key order of a replica is never changed", () =>
  simulated(async (world) => {
    const server = await world.server();
    const id = await server.mint(1);
    await server.newTerm(2, id, { options: { ...OPTIONS, notificationsEnabled: false } });
    await server.restart();
    expect(server.now.replicas.replica(SHARD)!.told).toEqual({
      namespace: NAMESPACE,
      options: { ...OPTIONS, notificationsEnabled: false },
    });
    const natural = { options: { ...OPTIONS, keySorting: "natural" as const } };
    expect(await refusal(server.newTerm(3, id, natural))).toBe("INVALID_ARGUMENT");
    expect(await server.status()).toMatchObject({ term: 2 });
  }));

test("no replica leads a term twice, whatever happens in between", () =>
  simulated(async (world) => {
    const server = await world.server();
    const id = await server.mint(1);
    await server.becomeLeader(1, id);
    expect(await refusal(server.becomeLeader(1, id))).toBe("INVALID_STATUS");
    expect(await refusal(server.newTerm(1, id))).toBe("INVALID_STATUS");
    await server.restart();
    expect(await server.newTerm(1, id)).toMatchObject({ ended: "" });
    expect(await refusal(server.becomeLeader(1, id))).toBe("INVALID_STATUS");
    await server.newTerm(2, id);
    await server.becomeLeader(2, id);
    expect(await server.status()).toMatchObject({ status: "LEADER", headOffset: 1, commitOffset: 1, headTerm: 2 });
  }));

test("NewTerm interrupts a BecomeLeader that waits for followers", () =>
  simulated(async (world) => {
    const server = await world.server();
    const id = await server.mint(1);
    const members = [
      { server: "server:1", replicaId: id },
      { server: "b:1", replicaId: 11n },
      { server: "c:1", replicaId: 12n },
    ];
    const leading = refusal(server.becomeLeader(1, id, { members, replicationFactor: 3 }));
    await world.sleep(100);
    expect(await server.status()).toMatchObject({ status: "FENCED", headOffset: -1 });
    expect(await server.newTerm(2, id)).toMatchObject({ head: { offset: -1 } });
    expect(await leading).toBe("RESOURCE_UNAVAILABLE");
  }));

test("a frozen leader keeps its head until it is thawed or the freeze lapses", () =>
  simulated(async (world) => {
    const server = await world.server();
    const id = await server.mint(1);
    await server.becomeLeader(1, id);
    const freeze = (frozen: boolean) => server.now.freezeShard({ namespace: NAMESPACE, shard: SHARD, term: 1, frozen });
    expect(await freeze(true)).toEqual({ headOffset: 0 });
    expect((await server.status()).frozen).toBe(true);
    expect(() => server.now.replicas.leader(SHARD).readable()).not.toThrow();
    await world.sleep(2_900);
    expect(await freeze(true)).toEqual({ headOffset: 0 });
    await world.sleep(2_900);
    expect((await server.status()).frozen).toBe(true);
    await world.sleep(200);
    expect((await server.status()).frozen).toBe(false);
    await freeze(true);
    await freeze(false);
    expect((await server.status()).frozen).toBe(false);
  }));

test("calls on one replica past the bound are refused, and the others are answered one after the other", () =>
  simulated(async (world) => {
    const server = await world.server();
    await server.mint(1);
    const calls = Array.from({ length: REPLICA_CALLS_WAITING_MAX + 5 }, () => refusal(server.status()));
    const answers = await Promise.all(calls);
    expect(answers.filter((answer) => answer === "resolved").length).toBe(REPLICA_CALLS_WAITING_MAX);
    expect(answers.filter((answer) => answer === "RESOURCE_EXHAUSTED").length).toBe(5);
    expect(await refusal(server.status())).toBe("resolved");
  }));

test("a server belongs to one cluster: unbound it refuses, of another it takes no stamp", () =>
  simulated(async (world) => {
    const server = await world.server();
    expect(await server.now.handshake({ instanceId: "other", stamp: 50, confirmedStamp: 40 })).toMatchObject({
      status: "MISMATCH",
    });
    expect(server.log.stamp()).toBe(0);
    expect(await server.now.handshake({ instanceId: "cluster", stamp: 5, confirmedStamp: 0 })).toMatchObject({
      status: "ALREADY_BOUND",
      stamp: 0,
    });
    expect(await refusal(server.now.handshake({ instanceId: "", stamp: 5, confirmedStamp: 0 }))).toBe(
      "INVALID_ARGUMENT",
    );
    await server.restart({ greeted: false });
    expect(server.now.instance).toBe("cluster");
    expect(await refusal(server.newTerm(1, 0n, { namespace: "" }))).toBe("INVALID_ARGUMENT");
    const fresh = await world.server("fresh");
    fresh.node.end("power");
    fresh.disk.wipe();
    await fresh.start();
    expect(await refusal(fresh.newTerm(1, 0n))).toBe("NOT_INITIALIZED");
    expect(await refusal(fresh.status())).toBe("NOT_INITIALIZED");
  }));

test("a replica that no longer knows what it belongs to says that it is no member until a NewTerm tells it, and follows then", () =>
  simulated(async (world) => {
    const server = await world.server();
    const id = await server.mint(2);
    server.node.end("power");
    server.disk.lose("documents");
    await server.start();
    await server.now.handshake({ instanceId: "cluster", stamp: 0, confirmedStamp: 0 });
    expect(await server.status()).toMatchObject({ status: "NOT_MEMBER", replicaId: id, promise: 2, ended: "" });
    expect((await server.newTerm(2, id)).replicaId).toBe(id);
    expect(await server.status()).toMatchObject({ status: "FENCED", replicaId: id, promise: 2 });
    server.stream(2, new ScriptedLeader().add(2).add(2, "a")).open(id).entry(0).entry(1, 1);
    await world.until(() => server.kv.applied.offset === 1, "both applied");
  }));

test("a replica whose last entry is damaged where no state needs it still says how it stands, without that entry's chain", () =>
  simulated(async (world) => {
    const server = await world.server();
    const id = await server.mint(1);
    await server.becomeLeader(1, id);
    await world.until(() => server.kv.applied.offset === 0, "its own entry");
    await server.restart();
    const at = spyOn(server.log, "at").mockRejectedValue(new Refusal("DATA_LOSS", "row 2: its checksum is wrong"));
    expect(await server.status()).toMatchObject({ replicaId: id, promise: 1, headOffset: 0, headCrc: undefined });
    expect(at).toHaveBeenCalled();
    expect(await server.newTerm(2, id)).toMatchObject({ ended: "", replicaId: id });
  }));
