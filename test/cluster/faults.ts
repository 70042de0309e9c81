/**
 * What can happen to a cluster, by name. Each fault mends what it broke before it ends, and waits for nothing that the
 * cluster does in answer, except where the next step would otherwise take a second majority away.
 */
import type { Member } from "../e2e/cluster.ts";
import { diskFaults } from "./disk-faults.ts";
import type { Stage } from "./stage.ts";

export type Fault = (stage: Stage) => Promise<void>;

const processFaults = {
  async "leader-killed"(stage) {
    const leader = await stage.cluster.leader();
    await away(stage, leader);
  },

  async "follower-killed"(stage) {
    await away(stage, await stage.follower());
  },

  async "coordinator-killed"(stage) {
    await away(stage, stage.cluster.coordinator);
  },

  /** Nobody elects until the coordinator is back. */
  async "coordinator-and-leader-killed"(stage) {
    const { coordinator } = stage.cluster;
    const leader = await stage.cluster.leader();
    stage.note(`${coordinator.name} and ${leader.name} killed`);
    await coordinator.kill();
    await leader.kill();
    await stage.sleep(0, 1_500);
    await coordinator.start();
    await stage.sleep(0, 1_500);
    await leader.start();
  },

  async "all-killed"(stage) {
    stage.note("all killed");
    await stage.cluster.killAll();
    await stage.sleep(0, 1_000);
    await Promise.all(stage.cluster.members.map((member) => member.start()));
  },

  async "majority-killed"(stage) {
    const [first, second] = await Promise.all([stage.cluster.leader(), stage.follower()]);
    stage.note(`${first.name} and ${second.name} killed`);
    await Promise.all([first.kill(), second.kill()]);
    await stage.sleep(500, 3_000);
    await Promise.all([first.start(), second === first ? undefined : second.start()]);
  },

  /** Back before anybody has noticed. */
  async "restarted-fast"(stage) {
    const member = stage.pick([await stage.cluster.leader(), ...stage.cluster.members]);
    stage.note(`${member.name} killed and started`);
    await member.kill();
    await member.start();
  },

  async "leader-stopped"(stage) {
    await stopped(stage, await stage.cluster.leader(), stage.between(1_000, 6_000));
  },

  async "leader-stopped-long"(stage) {
    await stopped(stage, await stage.cluster.leader(), stage.between(6_000, 30_000));
  },

  async "follower-stopped"(stage) {
    await stopped(stage, await stage.follower(), stage.between(1_000, 6_000));
  },

  async "coordinator-stopped"(stage) {
    await stopped(stage, stage.cluster.coordinator, stage.between(1_000, 6_000));
  },

  /** The old leader comes back when those who replaced it have been stopped. */
  async "stopped-in-turn"(stage) {
    const old = await stage.cluster.leader();
    stage.note(`${old.name} stopped`);
    old.pause();
    await stage.sleep(3_500, 5_000);
    const others = stage.cluster.servers.filter((server) => server !== old);
    stage.note(`${others.map(({ name }) => name).join(" and ")} stopped, ${old.name} resumed`);
    for (const other of others) other.pause();
    old.resume();
    await stage.sleep(500, 2_000);
    for (const other of others) other.resume();
  },
} satisfies Record<string, Fault>;

const networkFaults = {
  async "leader-isolated"(stage) {
    await isolated(stage, await stage.cluster.leader(), "both");
  },

  async "leader-deaf"(stage) {
    await isolated(stage, await stage.cluster.leader(), "in");
  },

  async "leader-mute"(stage) {
    await isolated(stage, await stage.cluster.leader(), "out");
  },

  async "coordinator-isolated"(stage) {
    await isolated(stage, stage.cluster.coordinator, stage.pick(["both", "in", "out"] as const));
  },

  /** The coordinator reaches everybody, and the leader one follower less. */
  async "pair-cut"(stage) {
    const leader = await stage.cluster.leader();
    const other = stage.pick(stage.cluster.servers.filter((server) => server !== leader));
    const oneWay = stage.between(0, 1) < 0.5;
    stage.note(`${leader.name} to ${other.name} cut${oneWay ? "" : ", and back"}`);
    stage.cluster.network.cut(leader.name, other.name);
    if (!oneWay) stage.cluster.network.cut(other.name, leader.name);
    await stage.sleep(2_000, 6_000);
    stage.cluster.network.heal();
  },

  /** Each server hears its neighbour only: no two of them hear one another. */
  async "ring-cut"(stage) {
    const { servers, network } = stage.cluster;
    stage.note("each server hears one other");
    for (const [index, server] of servers.entries())
      network.cut(server.name, servers[(index + 1) % servers.length]!.name);
    await stage.sleep(2_000, 5_000);
    network.heal();
  },
} satisfies Record<string, Fault>;

const orderly = {
  /** Each server in turn, as an upgrade does it: the next one goes when the one before has come back for good. */
  async "rolling-restart"(stage) {
    for (const member of stage.cluster.members) {
      stage.note(`${member.name} restarted`);
      await member.stop();
      await member.start();
      await stage.whole();
    }
  },
} satisfies Record<string, Fault>;

export const FAULTS = { ...processFaults, ...networkFaults, ...diskFaults, ...orderly } satisfies Record<string, Fault>;

export type FaultName = keyof typeof FAULTS;

export function isFaultName(name: string): name is FaultName {
  return Object.hasOwn(FAULTS, name);
}

async function away(stage: Stage, member: Member): Promise<void> {
  stage.note(`${member.name} killed`);
  await member.kill();
  await stage.sleep(200, 3_000);
  await member.start();
}

async function stopped(stage: Stage, member: Member, ms: number): Promise<void> {
  stage.note(`${member.name} stopped for ${Math.round(ms)} ms`);
  member.pause();
  await Bun.sleep(ms);
  member.resume();
}

async function isolated(stage: Stage, member: Member, direction: "both" | "in" | "out"): Promise<void> {
  stage.note(`${member.name} cut off, ${direction}`);
  stage.cluster.isolate(member, direction);
  await stage.sleep(2_000, 6_000);
  stage.cluster.network.heal();
}
