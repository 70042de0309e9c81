/** Data servers that die, stand still, come back, come back on another disk, or belong to somebody else. */
import { expect, test } from "bun:test";
import { CoordinatorWorld } from "../../test/harness/coordinator-world.ts";
import { SERVER_LEAVING_MS_MAX, SERVER_RETRY_MS } from "../model/limits.ts";
import type { HandshakeRequest } from "../model/peer-messages.ts";

function started(options: ConstructorParameters<typeof CoordinatorWorld>[0] = {}): CoordinatorWorld {
  const world = new CoordinatorWorld(options);
  world.start();
  world.until("all well", () => world.isWell(), 5_000);
  world.run(1_500);
  return world;
}

function otherLeader(world: CoordinatorWorld, than: string): boolean {
  const { leader } = world.report();
  return leader !== undefined && leader !== than && world.dataServers.leaderOf(0)?.address === leader;
}

test("a leader whose process ends is replaced within a quarter of a second", () => {
  const world = started();
  const before = world.report().leader!;
  world.dataServers.server(before).kill();
  expect(world.until("another leader", () => otherLeader(world, before))).toBeLessThan(250);
  expect(world.report().term).toBe(1);
});

test("a leader that stands still is found within three seconds, wherever in the interval it stops", () => {
  for (const laterMs of [0, 130, 470, 990]) {
    const world = started();
    world.run(laterMs);
    const before = world.report().leader!;
    world.dataServers.server(before).standsStill = true;
    const tookMs = world.until("given up", () =>
      world.coordinator.status().servers.some(({ state }) => state !== "available"),
    );
    expect(tookMs).toBeLessThan(3_000);
    world.until("another leader", () => otherLeader(world, before), 500);
  }
});

test("one question that is not answered costs nobody the leadership", () => {
  const world = started();
  const before = world.report().leader!;
  world.dataServers.server(before).standsStill = true;
  world.run(800);
  world.dataServers.server(before).standsStill = false;
  world.run(5_000);
  expect(world.report()).toMatchObject({ leader: before, term: 0 });
});

test("a leader that is about to stop is replaced at the next question, holds writes back first and is fenced like others", () => {
  const world = started();
  const before = world.report().leader!;
  world.dataServers.calls.length = 0;
  world.dataServers.server(before).serving = false;
  expect(world.until("another leader", () => otherLeader(world, before))).toBeLessThan(1_200);
  expect(world.dataServers.callsOf("freezeShard").map(({ server }) => server)).toContain(before);
  expect(world.dataServers.callsOf("newTerm").map(({ server }) => server)).toContain(before);
  world.until("it follows", () => world.dataServers.server(before).replica(0).status === "following");
  expect(world.report().term).toBe(1);
  expect(world.coordinator.status().servers.find(({ server }) => server === before)?.state).toBe("leaving");
});

test("a new stream tells the assignments twice: what the one before still carried may arrive behind the first time", () => {
  const world = started();
  const server = world.dataServers.server(world.report().leader!);
  server.restart();
  world.until("well again", () => world.isWell() && world.report().term === 1);
  world.run(100);
  const whole = server.assignments.at(-1);
  // an older set comes late
  server.assignments.push({ namespaces: new Map(), allowedAuthorities: [] });
  world.until(
    "told again",
    () => server.assignments.at(-1) !== undefined && server.assignments.at(-1) === whole,
    2_500,
  );
});

test("a server that has said for long that it does not serve is not available; one that serves again is", () => {
  const world = started();
  const state = () => world.coordinator.status().servers.find(({ server }) => server === "a:1")?.state;
  world.dataServers.server("a:1").serving = false;
  world.run(3_000);
  expect(state()).toBe("leaving");
  world.dataServers.server("a:1").serving = true;
  world.until("it is available", () => state() === "available", 2_000);
  world.dataServers.server("a:1").serving = false;
  const tookMs = world.until("it is not available", () => state() === "unavailable", 20_000);
  expect(tookMs).toBeGreaterThan(SERVER_LEAVING_MS_MAX - 1_000);
  expect(tookMs).toBeLessThan(SERVER_LEAVING_MS_MAX + 3_000);
});

test("a leader that restarts faster than it is missed is found out: its shard gets a leader again", () => {
  const world = started();
  const before = world.report().leader!;
  world.dataServers.server(before).restart();
  expect(world.dataServers.leaderOf(0)).toBeUndefined();
  expect(world.until("well again", () => world.isWell() && world.report().term === 1)).toBeLessThan(300);
});

test("a follower that restarts faster than it is missed follows again, without an election", () => {
  const world = started();
  const { leader } = world.report();
  const follower = ["a:1", "b:1", "c:1"].find((server) => server !== leader)!;
  world.dataServers.server(follower).restart();
  world.until("well again", () => world.isWell());
  expect(world.report()).toMatchObject({ leader, term: 0 });
  expect(world.dataServers.server(follower).replica(0).status).toBe("following");
});

test("a server that was away is attached again in the steady term, counted before it is added", () => {
  const world = started();
  const { leader } = world.report();
  const follower = ["a:1", "b:1", "c:1"].find((server) => server !== leader)!;
  world.dataServers.server(follower).kill();
  world.dataServers.server(leader!).kill();
  world.run(3_000);
  world.dataServers.server(leader!).start();
  world.until("a leader", () => world.dataServers.leaderOf(0) !== undefined);
  const { term } = world.report();
  world.dataServers.after = ({ method, server }) => {
    if (method !== "addFollower") return;
    // The counted term is stored by now: a disk older than that would not pass for this replica.
    expect(server).toBe(world.report().leader!);
    expect(world.stored().ensemble.every(({ countedTerm }) => countedTerm === term)).toBe(true);
  };
  world.dataServers.server(follower).start();
  world.until("well again", () => world.isWell());
  expect(world.report().term).toBe(term);
  expect(world.dataServers.callsOf("addFollower")).toHaveLength(1);
});

test("nothing but health is asked of a process before it has been greeted", () => {
  const world = started();
  const { leader } = world.report();
  world.dataServers.calls.length = 0;
  for (const server of ["a:1", "b:1", "c:1"]) world.dataServers.server(server).restart();
  world.until("well again", () => world.isWell() && world.report().term > 0);
  for (const server of ["a:1", "b:1", "c:1"]) {
    const first = world.dataServers.calls.find((call) => call.server === server)!;
    expect(first.method).toBe("handshake");
  }
  expect(leader).toBeDefined();
});

function handshakes(world: CoordinatorWorld, server: string): HandshakeRequest[] {
  return world.dataServers
    .callsOf("handshake")
    .filter((call) => call.server === server)
    .map(({ request }) => request as HandshakeRequest);
}

test("every server gets a new stamp each minute, and is told the last one that it has confirmed", () => {
  const world = started();
  world.run(200_000);
  const asked = handshakes(world, "a:1");
  expect(asked.length).toBe(4);
  for (const [index, { stamp, confirmedStamp }] of asked.entries()) {
    expect(confirmedStamp).toBe(index === 0 ? 0 : asked[index - 1]!.stamp!);
    expect(stamp!).toBeGreaterThan(confirmedStamp!);
  }
  expect(world.dataServers.server("a:1").stamp).toBe(asked.at(-1)!.stamp!);
});

test("no stamp is given out twice, also by a coordinator that follows another", () => {
  const world = started();
  for (let life = 0; life < 3; life++) {
    world.run(70_000);
    world.crash();
    world.start();
  }
  world.run(1_000);
  const stamps = world.dataServers.callsOf("handshake").map(({ request }) => (request as HandshakeRequest).stamp);
  expect(stamps.length).toBeGreaterThan(15);
  expect(new Set(stamps).size).toBe(stamps.length);
});

test("a server that comes back on an older disk is told so by its stamp, does not vote, and is refilled", () => {
  const world = started();
  const { leader } = world.report();
  const server = world.dataServers.server(["a:1", "b:1", "c:1"].find((address) => address !== leader)!);
  const copy = { stamp: server.stamp, replicas: new Map(server.replicas) };
  world.run(65_000);
  expect(server.stamp).toBeGreaterThan(copy.stamp);
  server.kill();
  server.stamp = copy.stamp;
  for (const [shard, replica] of copy.replicas) server.replicas.set(shard, { ...replica, introduced: false });
  const id = server.replica(0).id;
  server.start();
  world.until("refilled under a new id", () => world.isWell() && server.replica(0).id !== id);
});

test("a server of another cluster is left alone", () => {
  const world = new CoordinatorWorld();
  world.dataServers.server("b:1").instanceId = "of another cluster";
  world.start();
  world.until("a leader", () => world.dataServers.leaderOf(0) !== undefined);
  world.run(25_000);
  const status = world.coordinator.status().servers.find(({ server }) => server === "b:1");
  expect(status).toMatchObject({ state: "unavailable", why: "belongs to another cluster" });
  const methods = new Set(world.dataServers.calls.filter(({ server }) => server === "b:1").map(({ method }) => method));
  expect([...methods]).toEqual(["handshake"]);
  expect(handshakes(world, "b:1").length).toBeLessThan(5);
});

test("a server that ends each stream at once is not asked in a tight loop", () => {
  const world = started();
  const push = world.dataServers.pushAssignments.bind(world.dataServers);
  world.dataServers.pushAssignments = (server) => {
    const stream = push(server);
    if (server === "a:1") world.scheduler.after(1, "end", () => stream.cancel());
    return stream;
  };
  for (const end of [...world.dataServers.server("a:1").streams]) end();
  world.run(10_000);
  expect(handshakes(world, "a:1").length).toBeLessThan(10_000 / SERVER_RETRY_MS + 5);
});
