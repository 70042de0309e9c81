/** What a start has to hear before it takes a stream, and that no call under way forgets it again. */
import { expect, spyOn, test } from "bun:test";
import { NAMESPACE, refusal, ScriptedLeader, SHARD, simulated } from "../../test/harness/replica-server.ts";

const place = { namespace: NAMESPACE, shard: SHARD };

test("a call that has begun before the coordinator was heard, and ends behind that, takes nothing of it back", () =>
  simulated(async (world) => {
    const server = await world.server();
    const id = await server.mint(1);
    const leader = new ScriptedLeader().add(1).add(1, "a").add(1, "b");
    const stream = server.stream(1, leader).open(id).entry(0).entry(1).entry(2);
    await world.until(() => stream.lastAck?.offset === 2, "the entries");
    await server.newTerm(2, id);
    await server.restart({ greeted: false });
    const { promise: mayEnd, resolve: end } = Promise.withResolvers<void>();
    const truncate = server.log.truncate.bind(server.log);
    const spy = spyOn(server.log, "truncate").mockImplementation(async (...cut) => {
      const head = await truncate(...cut);
      await mayEnd;
      return head;
    });
    const keep = { term: 1, offset: 1 };
    const cut = server.now.truncate({ ...place, term: 2, replicaId: id, keep, expectedHead: leader.head(2) });
    await world.until(() => spy.mock.calls.length === 1, "the cut");
    await server.now.handshake({ instanceId: "cluster", stamp: 1, confirmedStamp: 0 });
    end();
    await cut;
    const again = server.stream(2, leader).open(id, 1);
    await world.until(() => again.acks.length === 1, "it is open");
    expect(await refusal(server.becomeLeader(2, id))).not.toBe("NOT_INITIALIZED");
  }));

test("a replica that is minted behind the log's end of all ids lives on, whenever the others hear of that end", () =>
  simulated(async (world) => {
    const server = await world.server();
    await server.mint(1);
    const { promise: mayCreate, resolve: goOn } = Promise.withResolvers<void>();
    const create = server.log.create.bind(server.log);
    const creating = spyOn(server.log, "create").mockImplementation(async (...life) => {
      const replica = await create(...life);
      await mayCreate;
      return replica;
    });
    // the disk is older than what the first coordinator knows, and what the second one knows is newer still
    const minting = server.newTerm(2, 0n, { confirmedStamp: 10 });
    const takeStamp = server.log.takeStamp.bind(server.log);
    const taking = spyOn(server.log, "takeStamp").mockImplementation(async (request) => {
      const answer = await takeStamp(request);
      await world.until(() => creating.mock.calls.length === 1, "the second id");
      return answer;
    });
    const greeting = server.now.handshake({ instanceId: "cluster", stamp: 30, confirmedStamp: 20 });
    await world.until(() => creating.mock.calls.length === 1 && taking.mock.calls.length === 1, "both");
    await world.sleep(1);
    goOn();
    const { replicaId, ended } = await minting;
    await greeting;
    expect({ ended, live: (await server.newTerm(3, replicaId)).replicaId }).toEqual({ ended: "", live: replicaId });
    expect((await server.status()).ended ?? "").not.toBe("");
  }));
