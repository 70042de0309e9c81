import { afterAll } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/ops/clock.ts";
import type { Log } from "../../src/ports.ts";
import { openSqliteLog } from "../../src/storage/log.ts";
import { openLogInProcess } from "../harness/in-process-log.ts";
import { drawDiskRates, SimDisk } from "../sim/disk.ts";
import { openMemoryLog } from "../sim/memory-log.ts";
import { SimNode } from "../sim/node.ts";
import { SimRandom } from "../sim/random.ts";
import { Scheduler } from "../sim/scheduler.ts";
import { Trace } from "../sim/trace.ts";
import { type LogPlace, logContract } from "./log.ts";
import { logLivesContract } from "./log-lives.ts";
import { logReplicationContract } from "./log-replication.ts";

const folder = mkdtempSync(join(tmpdir(), "varia-log-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function contracts(name: string, place: () => LogPlace): void {
  logContract(name, place);
  logReplicationContract(name, place);
  logLivesContract(name, place);
}

let nth = 0;
contracts("SQLite", () => {
  const directory = join(folder, `${nth++}`);
  return {
    open: () =>
      openSqliteLog({
        directory,
        retentionMs: 3_600_000,
        syncData: true,
        onFault: (error) => {
          throw error;
        },
      }),
  };
});

contracts("SQLite in this thread", () => {
  const directory = join(folder, `${nth++}`);
  return {
    async open() {
      const { log } = await openLogInProcess({
        directory,
        retentionMs: 3_600_000,
        syncData: true,
        clock: systemClock,
        commitSoon: queueMicrotask,
        onFault: (error) => {
          throw error;
        },
      });
      return log;
    },
  };
});

/** Runs simulated time, as far as it goes, whenever the test has asked for something. */
function drive(scheduler: Scheduler): () => void {
  let isRunning = false;
  const run = () => {
    if (isRunning) return; // the test goes on within the run: what it asks for now is run there
    isRunning = true;
    try {
      scheduler.run();
    } finally {
      isRunning = false;
    }
  };
  return () => queueMicrotask(run);
}

function driven(log: Log, asked: () => void): Log {
  return new Proxy(log, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      return (...parameters: unknown[]) => {
        asked();
        return value.apply(target, parameters);
      };
    },
  });
}

for (const seed of [1, 2, 3]) {
  contracts(`simulated, seed ${seed}`, () => {
    const scheduler = new Scheduler({ trace: new Trace({ seed }) });
    const asked = drive(scheduler);
    const random = new SimRandom(seed);
    const node = new SimNode(scheduler, "n1");
    const disk = new SimDisk(node, random.split("disk"), drawDiskRates(random.split("rates")));
    return {
      async open() {
        node.end("power");
        const life = node.start();
        const options = { life, disk: disk.mount(life), random: random.split(`log ${life.number}`) };
        asked();
        return driven(await openMemoryLog({ ...options, retentionMs: 3_600_000, segmentEntriesMax: 7 }), asked);
      },
    };
  });
}
