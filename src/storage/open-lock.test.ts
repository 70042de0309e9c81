import { expect, test } from "bun:test";
import { inTurn, shareOpenLock } from "./open-lock.ts";

/** In a Worker: adds to a number in two steps that others must not come between, `times` times. */
const CODE = `
import { inTurn } from ${JSON.stringify(new URL("./open-lock.ts", import.meta.url).href)};
self.onmessage = ({ data: { sum, times } }) => {
  for (let n = 0; n < times; n++) {
    inTurn(() => {
      const before = sum[0];
      for (let spent = 0; spent < 200; spent++) sum[1] = spent;
      sum[0] = before + 1;
    });
  }
  postMessage("done");
};`;

test("threads take turns, Workers and the one that has started them", async () => {
  shareOpenLock();
  const sum = new Int32Array(new SharedArrayBuffer(8));
  const url = URL.createObjectURL(new Blob([CODE], { type: "application/typescript" }));
  const workers = [1, 2, 3].map(() => new Worker(url));
  const done = workers.map(
    (worker) =>
      new Promise<void>((resolve, reject) => {
        worker.onmessage = () => resolve();
        worker.onerror = ({ message }) => reject(new Error(message));
        worker.postMessage({ sum, times: 2_000 });
      }),
  );
  for (let n = 0; n < 2_000; n++) {
    inTurn(() => {
      const before = sum[0]!;
      sum[0] = before + 1;
    });
    if (n % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await Promise.all(done);
  for (const worker of workers) worker.terminate();
  expect(sum[0]).toBe(8_000);
});

test("an error within a turn ends it", () => {
  expect(() =>
    inTurn(() => {
      throw new Error("no such file");
    }),
  ).toThrow("no such file");
  expect(inTurn(() => 7)).toBe(7);
});
