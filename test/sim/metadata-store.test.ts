/** The simulated store of the coordinators: what a change that nobody hears of comes to. */
import { expect, test } from "bun:test";
import type { MetadataStore, SwapAnswer } from "../../src/ports.ts";
import { openSimMetadata, SimMetadata } from "./metadata-store.ts";
import { Network } from "./network.ts";
import { CALM } from "./network-rates.ts";
import { SimNode } from "./node.ts";
import { SimRandom } from "./random.ts";
import { Scheduler } from "./scheduler.ts";
import { Trace } from "./trace.ts";

function place(seed = 1) {
  const scheduler = new Scheduler({ trace: new Trace({ seed }) });
  const network = new Network(scheduler, new SimRandom(seed), CALM);
  const store = new SimNode(scheduler, "store");
  const coordinators = ["c1", "c2"].map((name) => new SimNode(scheduler, name));
  for (const node of [store, ...coordinators]) network.attach(node);
  const metadata = new SimMetadata();
  network.channel(store.start()).listen("store:1", metadata.service());
  const [one, two] = coordinators.map((node) => openSimMetadata(network.channel(node.start()), "store:1"));
  return { scheduler, network, store, coordinators, metadata, one: one!, two: two! };
}

function put(store: MetadataStore, expected: number, key: string): Promise<SwapAnswer> {
  return store.compareAndSwap(expected, new Map([[key, "{}"]]));
}

test("two hold the store at once: each change is stored by one of them, in the order of its calls", () => {
  const { scheduler, one, two, metadata } = place();
  const outcomes = scheduler.complete("race", async () => {
    const answers = await Promise.all([put(one, -1, "a"), put(one, 0, "b"), put(two, -1, "c")]);
    return answers.map(({ outcome }) => outcome);
  });
  expect(outcomes.slice(0, 2).toSorted()).toEqual(
    outcomes[2] === "stored" ? ["conflict", "conflict"] : ["stored", "stored"],
  );
  expect(metadata.state().version).toBe(outcomes.filter((outcome) => outcome === "stored").length - 1);
});

test("a change whose answer is lost is unknown, though it was stored; the store answers nothing from then on", () => {
  const { scheduler, network, store, coordinators, one, metadata } = place();
  network.cut(store, coordinators[0]!);
  const answer = scheduler.complete("swap", () => put(one, -1, "a"));
  expect(answer.outcome).toBe("unknown");
  expect([...metadata.state().entries.keys()]).toEqual(["a"]);
  network.healAll();
  const again = scheduler.complete("again", () => one.get().catch(({ reason }) => reason as unknown));
  expect(again).toBe("RESOURCE_UNAVAILABLE");
});

test("a change may be stored long after its caller has given it up", () => {
  const late = Array.from({ length: 20 }, (_, seed) => {
    const { scheduler, network, store, coordinators, one, metadata } = place(seed);
    network.cut(coordinators[0]!, store);
    expect(scheduler.complete("swap", () => put(one, -1, "a")).outcome).toBe("unknown");
    expect(metadata.state().entries.size).toBe(0);
    network.healAll();
    scheduler.run();
    return metadata.state().entries.size;
  });
  expect(new Set(late)).toEqual(new Set([0, 1]));
});
