/** What a server says of shards that it does not lead, while terms change under it. */
import { expect, test } from "bun:test";
import { ScriptedLeader, SHARD, simulated, type TestServer } from "../../test/harness/replica-server.ts";
import { Refusal } from "../model/refusal.ts";

function hintOf(server: TestServer): string | undefined {
  try {
    server.now.replicas.leader(SHARD);
    return "it leads";
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return error.hint?.leader;
  }
}

const follows = (server: TestServer) => server.now.replicas.replica(SHARD)?.state.status === "following";

function assigned(server: TestServer, leader: string): void {
  const all = { shard: SHARD, leader, minHashInclusive: 0, maxHashInclusive: 0xffff_ffff };
  server.now.takeAssignments({ namespaces: new Map([["default", [all]]]), allowedAuthorities: [] });
}

test("assignments of an earlier term than the replica follows in name no leader: it may be this very server", () =>
  simulated(async (world) => {
    const server = await world.server();
    const id = await server.mint(2);
    server.stream(2, new ScriptedLeader().add(2)).open(id).entry(0);
    await world.until(() => follows(server), "it follows in term 2");
    assigned(server, "other:1");
    expect(hintOf(server)).toBe("other:1");
    await server.newTerm(3, id);
    const stream = server.stream(3, new ScriptedLeader().add(2).add(3)).open(id);
    stream.entry(1);
    await world.until(() => follows(server), "it follows in term 3");
    expect(hintOf(server)).toBeUndefined();
    assigned(server, "next:1");
    expect(hintOf(server)).toBe("next:1");
  }));
