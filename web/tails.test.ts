/** Tails of namespaces: one subscription for all who look, bounded, and given up when nobody does. */
import { expect, spyOn, test } from "bun:test";
import { TAIL_IDLE_MS, TAIL_KEPT_MAX, TAILS_MAX, Tails } from "./tails.ts";

/** Notifications that a test says, and whether anybody still listens. */
class Said {
  readonly waiting: ((item: IteratorResult<unknown, undefined>) => void)[] = [];
  readonly items: unknown[] = [];
  returned = false;

  say(...items: unknown[]): void {
    for (const item of items) {
      const next = this.waiting.shift();
      if (next === undefined) this.items.push(item);
      else next({ done: false, value: item });
    }
  }

  next(): Promise<IteratorResult<unknown, undefined>> {
    if (this.returned) return Promise.resolve({ done: true, value: undefined });
    if (this.items.length > 0) return Promise.resolve({ done: false, value: this.items.shift() });
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  return(): Promise<IteratorResult<unknown, undefined>> {
    this.returned = true;
    for (const next of this.waiting.splice(0)) next({ done: true, value: undefined });
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator]() {
    return this;
  }
}

function tailsOf() {
  const said = new Map<string, Said>();
  let subscriptions = 0;
  const client = async (namespace: string) => ({
    notifications: async () => {
      if (namespace === "away") throw new Error("no server answers");
      subscriptions++;
      said.set(namespace, new Said());
      return said.get(namespace);
    },
  });
  const tails = new Tails(client as never);
  return { tails, said, subscriptions: () => subscriptions };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));
const put = (nth: number) => ({ type: "created", key: `k${nth}`, versionId: nth });

test("all who look share one subscription; each kind of change has its words", async () => {
  const { tails, said, subscriptions } = tailsOf();
  await Promise.all([tails.of("a"), tails.of("a")]);
  said
    .get("a")!
    .say(
      put(1),
      { type: "deleted", key: "x" },
      { type: "rangeDeleted", key: "a", keyRangeLast: "b" },
      { type: "missed", shard: 2, writesMax: 7 },
    );
  await settled();
  const { lines, heard, ended } = await tails.of("a");
  expect([heard, ended, subscriptions()]).toEqual([4, "", 1]);
  expect(lines.map(({ type, key, detail }) => [type, key, detail])).toEqual([
    ["created", "k1", "version 1"],
    ["deleted", "x", ""],
    ["range deleted", "a", "up to b"],
    ["missed", "", "at most 7 writes of shard 2"],
  ]);
  tails.close();
});

test("a bounded number is kept, the newest", async () => {
  const { tails, said } = tailsOf();
  await tails.of("a");
  const many = 5 * TAIL_KEPT_MAX;
  for (let nth = 0; nth < many; nth++) said.get("a")!.say(put(nth));
  await settled();
  while ((await tails.of("a")).heard < many) await settled();
  const { lines } = await tails.of("a");
  expect(lines.length).toBeLessThanOrEqual(2 * TAIL_KEPT_MAX);
  expect(lines.at(-1)!.key).toBe(`k${many - 1}`);
  tails.close();
});

test("a subscription that ended says why once, and then another begins", async () => {
  const { tails, said, subscriptions } = tailsOf();
  await tails.of("a");
  await said.get("a")!.return();
  await settled();
  expect((await tails.of("a")).ended).toBe("the subscription has ended");
  expect((await tails.of("a")).ended).toBe("");
  expect(subscriptions()).toBe(2);
  await expect(tails.of("away")).rejects.toThrow("no server answers");
  tails.close();
});

test("no more namespaces are followed than there is room for, and those nobody looks at are let go", async () => {
  const timers: (() => void)[] = [];
  const spy = spyOn(globalThis, "setTimeout").mockImplementation(((callback: () => void, ms: number) => {
    expect(ms).toBe(TAIL_IDLE_MS);
    timers.push(callback);
    return { unref() {}, refresh() {} };
  }) as never);
  const { tails, said } = tailsOf();
  try {
    for (let nth = 0; nth < TAILS_MAX; nth++) await tails.of(`n${nth}`);
    await expect(tails.of("one more")).rejects.toThrow(`${TAILS_MAX} namespaces are followed already`);
    timers[0]!();
    await Promise.resolve();
    await tails.of("one more");
    expect([said.get("n0")!.returned, said.get("n1")!.returned]).toEqual([true, false]);
  } finally {
    spy.mockRestore();
  }
  tails.close();
});
