/** A coordinator that was stopped leaves nothing behind that keeps its process. */
import { expect, spyOn, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Coordinator } from "../coordination/coordinator.ts";
import { Interrupted } from "../coordination/wait.ts";
import { systemClock } from "../ops/clock.ts";
import { resolveSettings } from "../ops/settings.ts";
import type { Clock } from "../ports.ts";
import { JournalFile } from "../storage/metadata/journal.ts";
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

/** A coordinator without data servers, in a directory of its own. */
async function withServer(
  clock: Clock,
  onFault: (error: Error) => void,
  work: (server: CoordinatorServer) => Promise<void>,
  prepare: (directory: string) => void = () => {},
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "varia-coordinator-"));
  try {
    prepare(directory);
    const flags = {
      ...{ publicAddr: "127.0.0.1:0", internalAddr: "127.0.0.1:0", metricsAddr: "127.0.0.1:0" },
      metadataDir: join(directory, "metadata"),
    };
    const { values: settings } = resolveSettings(COORDINATOR_SETTINGS, { flags, environment: {}, file: undefined });
    const nothing = () => {};
    const logger = { debug: nothing, info: nothing, warn: nothing, error: nothing, level: "info" as const };
    await work(await CoordinatorServer.start({ settings, version: "test", clock, logger, onFault }));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

test("a journal that cannot be opened keeps no coordinator from its work; one that another process has does", async () => {
  const onFault = (error: Error) => expect.unreachable(error.message);
  const prepare = (directory: string) => mkdirSync(join(directory, "metadata", "journal.sqlite"), { recursive: true });
  await withServer(systemClock, onFault, (server) => server.stop(), prepare);
  const hold = (directory: string) => void held.push(JournalFile.open(join(directory, "metadata", "journal.sqlite")));
  const held: JournalFile[] = [];
  const refused = await withServer(systemClock, onFault, (server) => server.stop(), hold).catch(
    (error: Error) => error,
  );
  for (const one of held) one.close();
  expect((refused as Error).message).toContain("is in use by another process");
}, 20_000);

test("no timer is left once it has stopped: its process ends", async () => {
  const { clock, pending } = countingClock();
  const onFault = (error: Error) => expect.unreachable(error.message);
  await withServer(clock, onFault, async (server) => {
    expect(pending.size).toBeGreaterThan(0);
    await server.stop();
    expect(pending.size).toBe(0);
  });
}, 20_000);

test("a coordinator whose work was cut off is followed by another one; a fault ends the process", async () => {
  const faults: string[] = [];
  const onFault = ({ message }: Error) => void faults.push(message);
  const ends = [new Interrupted(), new Error("a bug")];
  const lives: Coordinator[] = [];
  const run = spyOn(Coordinator.prototype, "run").mockImplementation(function (this: Coordinator) {
    lives.push(this);
    return Promise.reject(ends.shift());
  });
  try {
    await withServer(systemClock, onFault, async (server) => {
      while (faults.length === 0) await Bun.sleep(5);
      expect([lives.length, new Set(lives).size, faults]).toEqual([2, 2, ["a bug"]]);
      await server.stop();
    });
  } finally {
    run.mockRestore();
  }
}, 20_000);
