/** Swaps of an ensemble's member: observer first, caught up as it says itself, frozen, stored with both ensembles. */
import { expect, test } from "bun:test";
import { CoordinatorWorld } from "../../test/harness/coordinator-world.ts";
import { entry } from "../../test/harness/fake-data-servers.ts";
import type { AddFollowerRequest, DeleteShardRequest, FreezeShardRequest } from "../model/peer-messages.ts";
import { Refusal } from "../model/refusal.ts";
import type { SwapResult } from "./tend.ts";

const SHARD = { namespace: "default", shard: 0 };

function started(servers = 4): CoordinatorWorld {
  const world = new CoordinatorWorld({ servers });
  world.start();
  world.until("all well", () => world.isWell(), 5_000);
  world.dataServers.append(0, 5);
  return world;
}

function spare(world: CoordinatorWorld): string {
  const { ensemble } = world.report();
  return ["a:1", "b:1", "c:1", "d:1"].find((server) => !ensemble.some((member) => member.server === server))!;
}

function follower(world: CoordinatorWorld): string {
  const { ensemble, leader } = world.report();
  return ensemble.find(({ server }) => server !== leader)!.server;
}

/** Asks for a swap and says, once it is, what became of it. */
function swap(world: CoordinatorWorld, from: string, to: string): { result: SwapResult | undefined; error: unknown } {
  const asked: { result: SwapResult | undefined; error: unknown } = { result: undefined, error: undefined };
  world.coordinator.swap(SHARD, from, to).then(
    (result) => {
      asked.result = result;
    },
    (error) => {
      asked.error = error;
    },
  );
  return asked;
}

function holders(world: CoordinatorWorld): string[] {
  return [...world.dataServers.servers.values()].filter((at) => at.replica(0).id !== 0n).map(({ address }) => address);
}

test("a follower is replaced: observed, caught up, frozen, elected by both, and its copy deleted", () => {
  const world = started();
  const [from, to] = [follower(world), spare(world)];
  const story: string[] = [];
  world.dataServers.before = ({ method, server, request }) => {
    const { formerEnsemble } = world.stored();
    if (method === "addFollower")
      story.push(`add ${(request as AddFollowerRequest).observer ? "observer" : "follower"}`);
    if (method === "freezeShard") story.push(`freeze ${(request as FreezeShardRequest).frozen}`);
    if (method === "newTerm")
      story.push(`newTerm at ${server === to ? "to" : "other"}${formerEnsemble ? ", joint" : ""}`);
    if (method === "becomeLeader") story.push(`lead${formerEnsemble ? ", joint" : ""}`);
    if (method === "deleteShard") story.push(`delete at ${server === from ? "from" : "other"}`);
  };
  const asked = swap(world, from, to);
  world.until("well again", () => world.isWell() && asked.result !== undefined);
  expect(asked.result).toEqual({ done: true });
  expect(story.filter((step) => !step.startsWith("newTerm at other"))).toEqual([
    "newTerm at to",
    "add observer",
    "freeze true",
    "newTerm at to, joint",
    "lead, joint",
    "delete at from",
  ]);
  expect(holders(world)).not.toContain(from);
  expect(world.report().ensemble.map(({ server }) => server)).toContain(to);
  expect(world.report().term).toBe(1);
});

test("a leader can be replaced too: a member of the new ensemble that holds the frozen head leads", () => {
  const world = started();
  const from = world.report().leader!;
  const asked = swap(world, from, spare(world));
  world.until("well again", () => world.isWell() && asked.result !== undefined);
  expect(world.report().leader).not.toBe(from);
  expect(holders(world)).not.toContain(from);
});

test("the change waits until the new copy itself says that it has caught up, and is not frozen for before", () => {
  const world = started();
  const to = spare(world);
  world.dataServers.reaches = (server) => server !== to;
  const asked = swap(world, follower(world), to);
  world.run(10_000);
  expect(asked.result).toBeUndefined();
  expect(world.dataServers.callsOf("freezeShard")).toHaveLength(0);
  expect(world.report()).toMatchObject({ term: 0, swap: { added: to } });
  expect(world.report().swap!.why).toContain("has no entry of term 0 yet");
  world.dataServers.reaches = () => true;
  world.dataServers.replicate(0);
  world.until("well again", () => world.isWell() && asked.result !== undefined);
  expect(asked.result).toEqual({ done: true });
});

test("writes are not held back while another member does not follow", () => {
  const world = started();
  const { ensemble, leader } = world.report();
  const [from, away] = ensemble.map(({ server }) => server).filter((server) => server !== leader) as [string, string];
  world.dataServers.server(away).kill();
  const asked = swap(world, from, spare(world));
  world.run(30_000);
  expect(world.dataServers.callsOf("freezeShard")).toHaveLength(0);
  world.dataServers.server(away).start();
  world.until("well again", () => world.isWell() && asked.result !== undefined);
});

test("a freeze that settles nothing is ended after ten seconds, and comes again at growing distances", () => {
  const world = started();
  const to = spare(world);
  // The new copy has an entry of the term, and then gets no more.
  const asked = swap(world, follower(world), to);
  world.dataServers.after = ({ method }) => {
    if (method === "addFollower") world.dataServers.reaches = (server) => server !== to;
    if (method === "freezeShard") {
      const leader = world.dataServers.leaderOf(0)!;
      const { head, promise } = leader.replica(0);
      const lags = world.dataServers.server(to).replica(0).head.offset === head.offset;
      if (lags) leader.write(0, entry(promise, head.offset + 1));
    }
  };
  world.run(60_000);
  const asks = world.dataServers.callsOf("freezeShard").map(({ request }) => (request as FreezeShardRequest).frozen);
  const thaws = asks.filter((frozen) => !frozen).length;
  expect(thaws).toBeGreaterThanOrEqual(1);
  expect(thaws).toBeLessThanOrEqual(5);
  expect(asked.result).toBeUndefined();
  world.dataServers.after = () => {};
  world.dataServers.reaches = () => true;
  world.dataServers.replicate(0);
  world.until("well again", () => {
    world.dataServers.replicate(0);
    return world.isWell() && asked.result !== undefined;
  });
});

test("what makes no sense is refused", () => {
  const world = started();
  const [from, to] = [follower(world), spare(world)];
  for (const [one, other, reason] of [
    [to, to, "INVALID_ARGUMENT"],
    [from, world.report().leader!, "INVALID_ARGUMENT"],
    [from, "nowhere:1", "INVALID_ARGUMENT"],
  ] as const) {
    const asked = swap(world, one, other);
    world.run(10);
    expect((asked.error as Refusal).reason).toBe(reason);
  }
  swap(world, from, to);
  const twice = swap(world, from, to);
  world.run(10);
  expect((twice.error as Refusal).reason).toBe("RESOURCE_CONFLICT");
});

test("a replica that has ended is refilled at its server under a new id and swapped in, by itself", () => {
  const world = started(3);
  const server = follower(world);
  const at = world.dataServers.server(server);
  const { id } = at.replica(0);
  at.end(0, "a flipped bit");
  world.until("told", () => world.report().ended.length > 0, 15_000);
  expect(world.report().ended).toEqual([{ server, replicaId: id, why: "a flipped bit" }]);
  world.until("well again", () => world.isWell());
  expect(at.replica(0).id).not.toBe(id);
  expect(world.report().term).toBe(1);
  expect(world.dataServers.callsOf("deleteShard")).toHaveLength(0);
});

test("a member that has not voted while its place is refilled is not due to be attached: the keeper sleeps meanwhile", () => {
  const world = started();
  const { leader, ensemble } = world.report();
  const lost = ensemble.find(({ server }) => server !== leader)!.server;
  world.dataServers.server(lost).restart();
  world.dataServers.server(lost).wipe();
  world.until("its place is refilled", () => world.report().swap?.added === lost, 10_000);
  // the copy stays behind, so that the change takes long
  world.dataServers.before = ({ method, server }) =>
    method === "freezeShard" && server === world.report().leader ? world.scheduler.sleep(5_000) : undefined;
  world.dataServers.server(leader!).restart();
  world.until("another term is led", () => world.report().term > 0 && world.report().leader !== undefined);
  const before = world.scheduler.steps;
  world.run(2_000);
  expect(world.scheduler.steps - before).toBeLessThan(2_000);
  world.dataServers.before = () => {};
  world.until("all well", () => world.isWell(), 60_000);
});

test("a copy that ends while it is filled is made anew", () => {
  const world = started(3);
  const server = follower(world);
  const at = world.dataServers.server(server);
  world.dataServers.reaches = (address) => address !== server;
  at.end(0, "a flipped bit");
  world.until("observed", () => world.dataServers.callsOf("addFollower").length > 0, 30_000);
  const { id } = at.replica(0);
  at.end(0, "another flipped bit");
  world.dataServers.reaches = () => true;
  world.until("well again", () => world.isWell(), 30_000);
  expect(at.replica(0).id).not.toBe(id);
});

test("a leader that has let go of the new copy is told of it again, and the copy is not fenced for that", () => {
  const world = started();
  const to = spare(world);
  world.dataServers.reaches = (server) => server !== to;
  const asked = swap(world, follower(world), to);
  world.until("observed", () => world.dataServers.callsOf("addFollower").length > 0);
  world.run(1_000);
  const leader = world.dataServers.leaderOf(0)!;
  const replica = leader.replica(0);
  leader.replicas.set(0, { ...replica, cursors: replica.cursors.filter(({ observer }) => !observer) });
  world.dataServers.reaches = () => true;
  const fenced = () => world.dataServers.callsOf("newTerm").filter(({ server }) => server === to).length;
  const before = fenced();
  world.until("frozen", () => world.dataServers.callsOf("freezeShard").length > 0);
  expect(fenced()).toBe(before);
  world.until("well again", () => world.isWell() && asked.result !== undefined);
});

test("a leader whose replica has ended is replaced, then refilled", () => {
  const world = started(3);
  const server = world.report().leader!;
  const at = world.dataServers.server(server);
  const { id } = at.replica(0);
  at.end(0, "a flipped bit");
  world.until("well again", () => world.isWell() && at.replica(0).id !== id, 60_000);
  expect(at.replica(0).status).not.toBe("not-member");
});

test("a copy is deleted only once every member holds what the new leader began with", () => {
  const world = started();
  const [from, to] = [follower(world), spare(world)];
  world.dataServers.before = ({ method, server }) => {
    const slow = server === to ? world.report().ensemble[0]!.server : to;
    if (method === "becomeLeader") world.dataServers.reaches = (follower) => follower !== slow;
  };
  const asked = swap(world, from, to);
  world.until("stored", () => asked.result?.done === true);
  world.run(20_000);
  expect(holders(world)).toContain(from);
  expect(world.report().pendingDeletes.map(({ server }) => server)).toEqual([from]);
  world.dataServers.reaches = () => true;
  world.dataServers.replicate(0);
  world.until("well again", () => world.isWell(), 120_000);
  expect(holders(world)).not.toContain(from);
});

test("a deletion that fails is tried again, also by a coordinator that comes later, until the server says that it is gone", () => {
  const world = started();
  const from = follower(world);
  world.dataServers.before = ({ method }) => {
    if (method === "deleteShard") throw new Refusal("RESOURCE_UNAVAILABLE", "not now");
  };
  swap(world, from, spare(world));
  world.until("a deletion is tried", () => world.dataServers.callsOf("deleteShard").length > 1);
  world.crash();
  world.start();
  world.run(20_000);
  expect(world.report().pendingDeletes.map(({ server }) => server)).toEqual([from]);
  const { replicaId } = world.report().pendingDeletes[0]!;
  world.dataServers.before = () => {};
  world.until("well again", () => world.isWell(), 120_000);
  const asked = world.dataServers
    .callsOf("deleteShard")
    .map(({ request }) => (request as DeleteShardRequest).replicaId);
  expect(asked.every((id) => id === replicaId)).toBe(true);
  expect(holders(world)).not.toContain(from);
});

test("a copy that a forgotten swap has left is deleted in the end, whatever the clock's fractions come to", () => {
  for (let fraction = 0; fraction < 20; fraction++) {
    const world = started();
    const to = spare(world);
    world.dataServers.reaches = (server) => server !== to;
    swap(world, follower(world), to);
    world.run(90_000 + fraction * 0.074);
    expect(holders(world)).toContain(to);
    world.crash();
    world.dataServers.reaches = () => true;
    world.start();
    world.until("gone", () => !holders(world).includes(to) && world.isWell(), 180_000);
    expect(world.report().term).toBe(0);
  }
});

test("where only the removed replica holds the best head the change is turned round: it leads again", () => {
  const world = started();
  const [from, to] = [follower(world), spare(world)];
  let joint = false;
  world.dataServers.before = ({ method, server }) => {
    if (method !== "newTerm" || server !== from || world.stored().formerEnsemble === undefined || joint) return;
    joint = true;
    const at = world.dataServers.server(from);
    at.write(0, entry(0, at.replica(0).head.offset + 3));
  };
  const asked = swap(world, from, to);
  world.until("told", () => asked.result !== undefined);
  expect(asked.result).toMatchObject({ done: false });
  world.until("well again", () => world.isWell(), 60_000);
  expect(world.report().leader).toBe(from);
  expect(world.report().term).toBe(2);
  expect(holders(world)).not.toContain(to);
});

test("a change that fails again and again is turned round: one of its ensembles may be dead for good", () => {
  const world = started();
  const [from, to] = [follower(world), spare(world)];
  const sides: string[] = [];
  let joint = false;
  world.dataServers.before = ({ method, server }) => {
    const { formerEnsemble, ensemble } = world.stored();
    if (method !== "newTerm" || formerEnsemble === undefined) return;
    joint = true;
    if (server === from) sides.push(ensemble.some(({ internal }) => internal === to) ? "to" : "from");
    if (sides.length < 8) throw new Refusal("RESOURCE_UNAVAILABLE", "not now");
  };
  swap(world, from, to);
  world.until("in doubt", () => joint);
  world.until("well again", () => world.isWell(), 60_000);
  expect(sides.slice(0, 7)).toEqual(["to", "to", "to", "from", "from", "from", "to"]);
});

test("a change whose new copy dies with its own data is turned round, and the old ensemble goes on", () => {
  const world = started();
  const { ensemble, leader } = world.report();
  const others = ensemble.map(({ server }) => server).filter((server) => server !== leader);
  const [from, away] = others as [string, string];
  const to = spare(world);
  let joint = false;
  world.dataServers.before = ({ method }) => {
    if (method !== "newTerm" || world.stored().formerEnsemble === undefined || joint) return;
    joint = true;
    // Of the new ensemble one is left that answers, of the old one two.
    world.dataServers.server(to).kill();
    world.dataServers.server(to).wipe();
    world.dataServers.server(to).start();
    world.dataServers.server(away).kill();
    world.dataServers.server(from).kill();
  };
  const asked = swap(world, from, to);
  world.until("in doubt", () => joint);
  world.run(20_000);
  world.dataServers.server(from).start();
  world.dataServers.server(away).start();
  world.until("well again", () => world.isWell(), 240_000);
  expect(asked.result).toBeDefined();
  expect(world.report().ensemble.some(({ server }) => server === leader)).toBe(true);
});

/**
 * The coordinator's process ends after its n-th call or change of the store, for every n of a swap. Whoever comes next
 * knows what is stored and no more.
 */
test("a coordinator that dies at any step of a swap leaves nothing that the next one does not bring to its end", () => {
  let steps = 0;
  for (let crashAt = 1; ; crashAt++) {
    const world = started();
    const [from, to] = [follower(world), spare(world)];
    const heldBefore = world.dataServers.leaderOf(0)!.replica(0).head.offset;
    steps = 0;
    let crashed = false;
    const step = ({ method }: { readonly method: string }) => {
      if (method === "checkHealth" || crashed) return;
      steps += 1;
      if (steps !== crashAt) return;
      crashed = true;
      world.scheduler.after(0, "crash", () => world.crash());
    };
    world.dataServers.before = step;
    world.dataServers.after = step;
    const asked = swap(world, from, to);
    world.scheduler.run({
      untilMs: world.scheduler.nowMs + 20_000,
      until: () => world.node.life === undefined || (asked.result !== undefined && world.isWell()),
    });
    if (world.node.life !== undefined) break;
    world.dataServers.before = () => {};
    world.dataServers.after = () => {};
    world.start();
    world.until("well again", () => world.isWell(), 240_000);
    const leader = world.dataServers.leaderOf(0)!;
    expect(leader.replica(0).head.offset).toBeGreaterThanOrEqual(heldBefore);
    expect(holders(world).length).toBe(3);
  }
  expect(steps).toBeGreaterThan(30);
});

test("a leader whose replica lives is not refilled: the swap is given up, and holds up no other", () => {
  const world = started();
  const { leader } = world.report();
  const asked = swap(world, leader!, leader!);
  world.until("given up", () => asked.result !== undefined, 5_000);
  expect(asked.result).toEqual({ done: false, why: `${leader} leads the shard: its replica lives` });
  expect(world.report().swap).toBeUndefined();
});

test("a swap that is given up leaves nothing: neither a listing nor a copy", () => {
  const world = started();
  const server = follower(world);
  const asked = swap(world, server, server);
  world.until("given up", () => asked.result !== undefined, 5_000);
  expect(asked.result).toEqual({ done: false, why: `${server} holds that very replica` });
  world.until("well again", () => world.isWell(), 2_000);
  expect(world.dataServers.callsOf("deleteShard")).toEqual([]);
  // a copy that was made is deleted
  const to = spare(world);
  world.dataServers.reaches = (at) => at !== to;
  const second = swap(world, follower(world), to);
  world.until("made", () => holders(world).includes(to), 5_000);
  world.coordinator.giveUpSwap(SHARD, to);
  world.until("well again", () => second.result?.done === false && world.isWell(), 5_000);
  expect(holders(world)).not.toContain(to);
});
