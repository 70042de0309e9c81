import { expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Log } from "../../src/ports.ts";
import { append, entry, life, readAll } from "../contract/log.ts";
import { SimNode } from "../sim/node.ts";
import { Scheduler } from "../sim/scheduler.ts";
import { Trace } from "../sim/trace.ts";
import { type InProcessLog, openLogInProcess } from "./in-process-log.ts";

const RETENTION_MS = 60_000;

test("the real log runs within simulated time: groups form, it is killed anywhere, and nothing acknowledged is lost", () => {
  const folder = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "varia-in-process-"));
  try {
    const scheduler = new Scheduler({ trace: new Trace({ seed: 1 }) });
    const node = new SimNode(scheduler, "n1");
    let directory = join(folder, "log-0");
    const open = (): InProcessLog => {
      const { clock } = node.start();
      return scheduler.complete("open", () =>
        openLogInProcess({
          directory,
          retentionMs: RETENTION_MS,
          syncData: true,
          clock,
          commitSoon: (run) => clock.soon(run),
          onFault: (error) => scheduler.fail(error),
        }),
      );
    };
    let opened = open();
    scheduler.complete("create", async () => {
      await opened.log.create(0, life());
      await opened.log.promise(0, 1);
      await append(opened.log, 0, 1, 0, 99);
    });
    expect(opened.log.stats().commits).toBe(1);
    let acked = 99;
    const write = async (log: Log) => {
      for (let offset = acked + 1; ; offset++) {
        await log.append(0, entry(1, offset));
        acked = offset;
        await scheduler.sleep(1);
      }
    };
    for (let round = 1; round < 8; round++) {
      const { log } = opened;
      scheduler.spawn("writer", () => write(log), node.life);
      scheduler.run({ untilMs: scheduler.nowMs + 10 + round });
      const before = acked;
      node.end("killed");
      directory = join(folder, `log-${round}`);
      opened.kill(directory);
      scheduler.run({ untilMs: scheduler.nowMs + 50 });
      expect(acked).toBe(before);
      opened = open();
      const entries = scheduler.complete("read", () => readAll(opened.log, 0, 0));
      expect(entries.length).toBeGreaterThan(before);
      expect(opened.log.replicas()).toMatchObject([{ damage: undefined, head: { offset: entries.length - 1 } }]);
      acked = entries.length - 1;
    }
    expect(acked).toBeGreaterThan(140);
    // with nothing to do it sets no timer
    expect(scheduler.run()).toBe("idle");
    scheduler.complete("close", () => opened.log.close());
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
