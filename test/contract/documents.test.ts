/** What every adapter of the Documents port owes, and what the file of the real one survives. */
import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/ops/clock.ts";
import type { Documents } from "../../src/ports.ts";
import { FileDocuments } from "../../src/storage/documents.ts";
import { SimDisk } from "../sim/disk.ts";
import { diskDocuments } from "../sim/disk-documents.ts";
import { SimNode } from "../sim/node.ts";
import { SimRandom } from "../sim/random.ts";
import { Scheduler } from "../sim/scheduler.ts";
import { Trace } from "../sim/trace.ts";

const folder = mkdtempSync(join(tmpdir(), "varia-documents-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** An adapter, and how it is opened again after the process was killed. */
interface Subject {
  /** Runs `body` and whatever it waits for. */
  run(body: () => Promise<void>): Promise<void>;
  open(): Promise<Documents>;
}

function onFile(name: string): Subject {
  const path = join(folder, name);
  return {
    run: (body) => body(),
    open: async () =>
      new FileDocuments({
        path,
        clock: systemClock,
        onDamage: (what) => expect(what).toBe(""),
        onFault: (error) => {
          throw error;
        },
      }),
  };
}

function simulated(): Subject {
  const random = new SimRandom(1);
  const scheduler = new Scheduler({ trace: new Trace({ seed: 1, linesMax: 10 }) });
  const node = new SimNode(scheduler, "server");
  const disk = new SimDisk(node, random);
  return {
    async run(body) {
      scheduler.complete("body", body, 60_000);
    },
    async open() {
      if (node.life !== undefined) node.end("power");
      return diskDocuments(disk.mount(node.start()));
    },
  };
}

for (const [name, subject] of [
  ["a file", () => onFile("contract")],
  ["a simulated disk", simulated],
] as const) {
  describe(`Documents on ${name}`, () => {
    test("what was stored is there when it is opened again, what was deleted is not", async () => {
      const { run, open } = subject();
      await run(async () => {
        const documents = await open();
        expect([...(await documents.all())]).toEqual([]);
        await documents.put("a", '{"text":"é"}');
        await Promise.all([documents.put("b", "1"), documents.put("b", "2"), documents.put("c", "3")]);
        await documents.put("c", undefined);
        const again = await open();
        expect(Object.fromEntries(await again.all())).toEqual({ a: '{"text":"é"}', b: "2" });
      });
    });
  });
}

test("a file that is not what was written holds nothing, says so, and is written anew", async () => {
  const path = join(folder, "damaged");
  const said: string[] = [];
  const onFault = (error: Error) => {
    throw error;
  };
  const open = () => new FileDocuments({ path, clock: systemClock, onDamage: (what) => said.push(what), onFault });
  await open().put("instance", "one");
  const good = readFileSync(path);
  for (let bit = 0; bit < good.length * 8; bit++) {
    const bytes = Uint8Array.from(good);
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    writeFileSync(path, bytes);
    const before = said.length;
    expect([...(await open().all())]).toEqual([]);
    expect(said.length).toBe(before + 1);
  }
  writeFileSync(path, "");
  await open().put("instance", "two");
  expect(existsSync(`${path}.new`)).toBe(false);
  expect(Object.fromEntries(await open().all())).toEqual({ instance: "two" });
});

test("with no space a text is refused and nothing is changed; later it is taken", async () => {
  const path = join(folder, "full");
  const onFault = (error: Error) => {
    throw error;
  };
  const documents = new FileDocuments({ path, clock: systemClock, onDamage: () => {}, onFault });
  await documents.put("a", "1");
  symlinkSync("/dev/full", `${path}.new`);
  const refused = await Promise.allSettled([documents.put("a", "2"), documents.put("b", "3")]);
  expect(refused).toMatchObject([
    { status: "rejected", reason: { reason: "RESOURCE_EXHAUSTED" } },
    { status: "rejected", reason: { reason: "RESOURCE_EXHAUSTED" } },
  ]);
  expect(Object.fromEntries(await documents.all())).toEqual({ a: "1" });
  rmSync(`${path}.new`);
  await documents.put("b", "3");
  expect(Object.fromEntries(await documents.all())).toEqual({ a: "1", b: "3" });
});
