/** A lost majority, given up by the operator: what is told before, and what is safe wherever it is broken off. */
import { expect, test } from "bun:test";
import { CoordinatorWorld } from "../../test/harness/coordinator-world.ts";
import { entry } from "../../test/harness/fake-data-servers.ts";
import type { NewTermRequest } from "../model/peer-messages.ts";
import { Refusal } from "../model/refusal.ts";

const SHARD = { namespace: "default", shard: 0 };

/** The leader and one follower are gone for good; the one that is left holds 5, the leader held 7. */
function bereft(): { world: CoordinatorWorld; left: string; gone: string[] } {
  const world = new CoordinatorWorld({ servers: 4 });
  world.start();
  world.until("all well", () => world.isWell(), 5_000);
  world.dataServers.append(0, 5);
  const { leader, ensemble } = world.report();
  const left = ensemble.find(({ server }) => server !== leader)!.server;
  world.dataServers.reaches = (server) => server !== left;
  world.dataServers.append(0, 2);
  world.dataServers.reaches = () => true;
  const gone = ensemble.map(({ server }) => server).filter((server) => server !== left);
  for (const server of gone) world.dataServers.server(server).kill();
  world.run(5_000);
  expect(world.dataServers.leaderOf(0)).toBeUndefined();
  return { world, left, gone };
}

test("the plan says what would be lost, and changes nothing", () => {
  const { world, left, gone } = bereft();
  const before = world.stored();
  const plan = world.complete(() => world.coordinator.planLoss(SHARD, [left]));
  expect(plan.best).toMatchObject({ server: left, head: { offset: 5 } });
  expect(plan.term).toBe(before.term + 1);
  for (const server of gone) {
    expect(plan.losses.some((loss) => loss.startsWith(`${server} cannot be asked`))).toBe(true);
    expect(plan.dropped.some((loss) => loss.includes(`at ${server} never counts again`))).toBe(true);
  }
  expect(world.stored()).toEqual(before);
});

test("who looks what would be lost holds up no election", () => {
  const world = new CoordinatorWorld({ servers: 4 });
  world.start();
  world.until("all well", () => world.isWell(), 5_000);
  const { leader, ensemble } = world.report();
  world.dataServers.before = ({ method }) => (method === "newTerm" ? world.scheduler.sleep(50) : undefined);
  world.dataServers.server(leader!).kill();
  world.until("an election", () => world.dataServers.callsOf("newTerm").length > ensemble.length);
  const left = ensemble.find(({ server }) => server !== leader)!.server;
  world.complete(() => world.coordinator.planLoss(SHARD, [left]));
  world.until("another leads", () => ![undefined, leader].includes(world.report().leader), 10_000);
  expect(world.report().term).toBe(1);
});

test("a better head that is not chosen is named", () => {
  const { world, left, gone } = bereft();
  const [one] = gone as [string];
  world.dataServers.before = ({ method }) => {
    if (method === "newTerm") throw new Refusal("RESOURCE_UNAVAILABLE", "not now");
  };
  world.dataServers.server(one).start();
  world.run(2_500);
  const plan = world.complete(() => world.coordinator.planLoss(SHARD, [left]));
  const held = world.dataServers.server(one).replica(0).head;
  expect(plan.losses.join()).toContain(`${one} holds entries up to term 0, offset ${held.offset}`);
});

test("the chosen replica goes on alone under a new id; old ids never count again, and are deleted", () => {
  const { world, left, gone } = bereft();
  const old = world.stored().ensemble.map(({ replicaId }) => replicaId);
  world.complete(() => world.coordinator.acceptLoss(SHARD, [left]));
  world.until("a leader", () => world.dataServers.leaderOf(0)?.address === left);
  world.until("stored", () => world.report().status === "SteadyState");
  expect(world.report().ensemble.map(({ server }) => server)).toEqual([left]);
  expect(old).not.toContain(world.report().ensemble[0]!.replicaId);
  expect(world.dataServers.server(left).replica(0).head.offset).toBeGreaterThan(5);
  for (const server of gone) world.dataServers.server(server).start();
  world.until("well, and the old copies gone", () => world.isWell(), 120_000);
  for (const server of gone) expect(world.dataServers.server(server).replica(0).id).toBe(0n);
});

test("the term is above every promise that is told, also one that the store has never seen", () => {
  const { world, left } = bereft();
  const at = world.dataServers.server(left);
  at.replicas.set(0, { ...at.replica(0), promise: 40 });
  const { plan } = world.complete(() => world.coordinator.acceptLoss(SHARD, [left]));
  expect(plan.term).toBe(41);
  world.until("a leader", () => world.dataServers.leaderOf(0)?.address === left);
});

test("with three chosen, no election leaves behind what the better one holds", () => {
  const { world, left, gone } = bereft();
  const better = gone.find((server) => world.dataServers.server(server).replica(0).led === 0)!;
  const held = world.dataServers.server(better).replica(0).head.offset;
  expect(held).toBeGreaterThan(world.dataServers.server(left).replica(0).head.offset);
  const third = gone.find((server) => server !== better)!;
  world.dataServers.server(third).write(0, world.dataServers.server(left).replica(0).head);
  // The better one takes its new id, and then no term.
  world.dataServers.before = ({ method, server, request }) => {
    const votes = method === "newTerm" && (request as NewTermRequest).adopt !== true;
    if (votes && server === better) throw new Refusal("RESOURCE_UNAVAILABLE", "not now");
    if (votes && world.stored().formerEnsemble === undefined) throw new Refusal("RESOURCE_UNAVAILABLE", "not now");
  };
  for (const server of gone) world.dataServers.server(server).start();
  world.run(2_500);
  world.complete(() => world.coordinator.acceptLoss(SHARD, [left, better, third]));
  world.run(10_000);
  expect(world.dataServers.leaderOf(0)).toBeUndefined();
  world.dataServers.before = () => {};
  world.until("a leader", () => world.dataServers.leaderOf(0) !== undefined);
  expect(world.dataServers.leaderOf(0)!.replica(0).head.offset).toBeGreaterThan(held);
});

test("chosen servers that do not answer, no server, and one named twice are refused", () => {
  const { world, left, gone } = bereft();
  for (const chosen of [[], [left, left], [gone[0]!]]) {
    const asked = () => world.complete(() => world.coordinator.acceptLoss(SHARD, chosen));
    expect(asked).toThrow();
  }
  expect(world.stored().term).toBe(0);
});

/** The process ends at its n-th call from the acceptance on; the next coordinator elects from what is stored. */
test("broken off at any step, the chosen replicas are the shard, or nothing has changed", () => {
  let broken = 0;
  for (let crashAt = 1; ; crashAt++) {
    const { world, left } = bereft();
    let calls = 0;
    const step = ({ method }: { readonly method: string }) => {
      if (method === "checkHealth" || method === "handshake") return;
      calls += 1;
      if (calls === crashAt) world.scheduler.after(0, "crash", () => world.crash());
    };
    world.dataServers.before = step;
    world.dataServers.after = step;
    world.coordinator.acceptLoss(SHARD, [left]).catch(() => {});
    world.scheduler.run({
      untilMs: world.scheduler.nowMs + 10_000,
      until: () => world.node.life === undefined || world.dataServers.leaderOf(0) !== undefined,
    });
    if (world.node.life !== undefined) break;
    broken += 1;
    world.dataServers.before = () => {};
    world.dataServers.after = () => {};
    world.start();
    world.run(3_000);
    const { ensemble, formerEnsemble, leader } = world.report();
    const accepted = ensemble.length === 1;
    expect(ensemble.length).toBeOneOf([1, 3]);
    expect(leader === left).toBe(accepted);
    if (accepted) expect(formerEnsemble).toEqual([]);
  }
  expect(broken).toBeGreaterThan(5);
});

test("an answer that the log holds more than was planned is no matter: the best of what is chosen leads", () => {
  const { world, left } = bereft();
  world.dataServers.server(left).write(0, entry(0, 6));
  const { plan } = world.complete(() => world.coordinator.acceptLoss(SHARD, [left]));
  expect(plan.best.head!.offset).toBe(6);
  world.until("a leader", () => world.dataServers.leaderOf(0) !== undefined);
});
