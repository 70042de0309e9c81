/** What can happen to the disk of one server. The next one is touched only when this one is whole again. */
import { closeSync, fstatSync, openSync, readdirSync, readSync, rmSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { Member } from "../e2e/cluster.ts";
import { faultEnvironment } from "../e2e/fault.ts";
import type { Stage } from "./stage.ts";

/** Writes and syncs of a data server within which an injected error comes. */
const ERROR_AFTER_CALLS_MAX = 400;
const FLIPS_MAX = 8;

export const diskFaults = {
  async "disk-wiped"(stage: Stage): Promise<void> {
    const member = stage.pick(stage.cluster.servers);
    stage.note(`${member.name} wiped`);
    await member.kill();
    member.wipe();
    await member.start();
    await stage.whole();
  },

  /** The server that gets a snapshot, or the one that sends it, is killed in its midst. */
  async "killed-during-snapshot"(stage: Stage): Promise<void> {
    const receiver = stage.pick(stage.cluster.servers);
    await receiver.kill();
    receiver.wipe();
    await receiver.start();
    await stage.sleep(0, 1_500);
    const other = stage.pick(stage.cluster.servers.filter((server) => server !== receiver));
    const killed = stage.between(0, 1) < 0.5 ? receiver : other;
    stage.note(`${receiver.name} wiped, ${killed.name} killed while it is filled again`);
    await killed.kill();
    await killed.start();
    await stage.whole();
  },

  /** A copy of the disk comes back that is older than what the server has confirmed since. */
  async "disk-rolled-back"(stage: Stage): Promise<void> {
    const member = stage.pick(stage.cluster.servers);
    const copy = join(stage.directory, `${member.name}.copy`);
    stage.note(`${member.name} gets an old copy of its disk`);
    await member.kill();
    member.copy(copy);
    await member.start();
    await stage.sleep(2_000, 3_000);
    await member.kill();
    member.restore(copy);
    await member.start();
    await stage.whole();
    rmSync(copy, { recursive: true });
  },

  async "bits-flipped"(stage: Stage): Promise<void> {
    const member = stage.pick(stage.cluster.servers);
    await member.kill();
    const file = stage.pick(filesOf(member));
    const flips = Math.ceil(stage.between(0, FLIPS_MAX));
    stage.note(`${flips} bits flipped in ${file.slice(member.directory.length + 1)}`);
    for (let flip = 0; flip < flips; flip++) flipBit(file, stage);
    await member.start();
    await stage.whole();
  },

  /** Elections and reads go on, and writes when there is room again. Needs a small disk under the server. */
  async "disk-full"(stage: Stage): Promise<void> {
    const small = stage.cluster.servers.filter((server) => server.mounted);
    const member = stage.pick(small);
    const other = stage.pick(stage.cluster.servers.filter((server) => server !== member));
    const filler = join(member.directory, "filler");
    stage.note(`${member.name}'s disk is full, ${other.name} killed meanwhile`);
    fill(filler);
    await stage.sleep(1_000, 2_000);
    await other.kill();
    await stage.sleep(500, 1_500);
    await other.start();
    await stage.sleep(500, 1_500);
    rmSync(filler);
    await stage.whole();
  },

  /** A device that fails ends the process, which comes back on a device that works. */
  async "device-error"(stage: Stage): Promise<void> {
    const member = stage.pick(stage.cluster.servers);
    const at = Math.ceil(stage.between(0, ERROR_AFTER_CALLS_MAX));
    const kind = stage.pick(["write", "sync", "any"] as const);
    stage.note(`${member.name}: EIO from ${kind} number ${at} on`);
    await member.kill();
    const before = member.environment;
    member.environment = { ...before, ...faultEnvironment(stage.shim, member.directory, "", { at, kind }) };
    member.launch();
    await member.ends(5_000).catch(() => member.kill()); // a server with little to do may not have got that far
    member.environment = before;
    await member.start();
    await stage.whole();
  },
};

/** Files with something in them, of the log and of the states; not the index of a -wal, which is made anew. */
function filesOf(member: Member): string[] {
  return ["db", "wal"]
    .flatMap((part) =>
      readdirSync(join(member.directory, part), { recursive: true, encoding: "utf8" }).map((name) =>
        join(member.directory, part, name),
      ),
    )
    .filter((file) => !file.endsWith("-shm") && statSync(file).isFile() && statSync(file).size > 0);
}

function flipBit(path: string, stage: Stage): void {
  const file = openSync(path, "r+");
  const at = Math.floor(stage.between(0, fstatSync(file).size));
  const byte = Buffer.alloc(1);
  readSync(file, byte, 0, 1, at);
  byte[0]! ^= 1 << Math.floor(stage.between(0, 8));
  writeSync(file, byte, 0, 1, at);
  closeSync(file);
}

/** Takes all space that is left. */
function fill(path: string): void {
  const file = openSync(path, "a");
  for (let chunk = Buffer.alloc(1024 * 1024, 1); chunk.length > 0; ) {
    try {
      if (writeSync(file, chunk) < chunk.length) chunk = chunk.subarray(0, chunk.length >> 1);
    } catch {
      chunk = chunk.subarray(0, chunk.length >> 1);
    }
  }
  closeSync(file);
}
