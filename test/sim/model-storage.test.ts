/** What damage at rest leaves of a log: a misdirected write can always be told from a torn end. */
import { expect, test } from "bun:test";
import { ModelStorage } from "./model-storage.ts";
import { SimNode } from "./node.ts";
import { drawPlan } from "./plan.ts";
import { SimRandom } from "./random.ts";
import { Scheduler } from "./scheduler.ts";
import { Trace } from "./trace.ts";

const SEGMENT = "log/segment-1";

/** Whether a write was misdirected in a segment of so many records, and what is bad of them then. */
function misdirected(seed: number, records: number): { readonly done: boolean; readonly bad: readonly boolean[] } {
  const scheduler = new Scheduler({ trace: new Trace({ seed }) });
  const node = new SimNode(scheduler, "n1");
  const random = new SimRandom(seed);
  const fail = (error: unknown) => scheduler.fail(error);
  const storage = new ModelStorage({ node, random, plan: drawPlan({ seed, faultSteps: 1 }), fail });
  node.start();
  scheduler.complete("fill", async () => {
    const disk = storage.disk.mount(node.life!);
    await disk.write(
      SEGMENT,
      Array.from({ length: records }, (_, nth) => ({ record: nth, bytes: 10 })),
    );
    await disk.sync(SEGMENT);
    await disk.syncNames();
  });
  node.end("power");
  const done = storage.damage("misdirected", random);
  return { done, bad: storage.disk.file(SEGMENT)!.records.map(({ bad }) => bad) };
}

test("between what a misdirected write has destroyed and its own place a good record is left", () => {
  for (let seed = 0; seed < 100; seed++) {
    const { done, bad } = misdirected(seed, 3 + (seed % 5));
    expect(done).toBe(true);
    expect(bad.at(-1)).toBe(true);
    const destroyed = bad.indexOf(true);
    expect(destroyed).toBeLessThan(bad.length - 1);
    expect(bad.slice(destroyed + 1, -1)).toContain(false);
  }
});

test("a log that is too short for that is left alone", () => {
  for (const records of [0, 1, 2])
    expect(misdirected(1, records)).toEqual({ done: false, bad: new Array(records).fill(false) });
});
