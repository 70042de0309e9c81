/** A coordinator that was stopped leaves nothing behind that keeps its process. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../ops/clock.ts";
import { resolveSettings } from "../ops/settings.ts";
import type { Clock } from "../ports.ts";
import { CoordinatorServer } from "./coordinator-server.ts";
import { COORDINATOR_SETTINGS } from "./coordinator-settings.ts";

/** The real one, with how many of its timers are still to come. */
function countingClock() {
  const pending = new Set<object>();
  const clock: Clock = {
    ...systemClock,
    after(ms, callback) {
      const timer = {};
      pending.add(timer);
      const cancel = systemClock.after(ms, () => {
        pending.delete(timer);
        callback();
      });
      return () => {
        pending.delete(timer);
        cancel();
      };
    },
  };
  return { clock, pending };
}

test("no timer is left once it has stopped: its process ends", async () => {
  const directory = mkdtempSync(join(tmpdir(), "varia-coordinator-"));
  try {
    const flags = {
      ...{ publicAddr: "127.0.0.1:0", internalAddr: "127.0.0.1:0", metricsAddr: "127.0.0.1:0" },
      metadataDir: join(directory, "metadata"),
    };
    const { values: settings } = resolveSettings(COORDINATOR_SETTINGS, { flags, environment: {}, file: undefined });
    const nothing = () => {};
    const logger = { debug: nothing, info: nothing, warn: nothing, error: nothing, level: "info" as const };
    const { clock, pending } = countingClock();
    const onFault = (error: Error) => expect.unreachable(error.message);
    const server = await CoordinatorServer.start({ settings, version: "test", clock, logger, onFault });
    expect(pending.size).toBeGreaterThan(0);
    await server.stop();
    expect(pending.size).toBe(0);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}, 20_000);
