/** GetShardAssignments and the registry that it is made from, as a server of a cluster answers. */
import { expect, test } from "bun:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ManualClock } from "../../test/harness/manual-clock.ts";
import { ShardAssignmentsRequestSchema, ShardAssignmentsSchema } from "../gen/io/oxia/proto/v1/client_pb.ts";
import { ASSIGNMENTS_ENCODED_MAX, ASSIGNMENTS_HELD_MS_MAX } from "../model/limits.ts";
import type { ShardAssignment, ShardAssignments } from "../model/peer-messages.ts";
import { Refusal } from "../model/refusal.ts";
import { initialRanges } from "../protocol/assignment.ts";
import { Shards } from "../replication/shards.ts";
import { Assignments } from "./assignments-api.ts";
import type { Call } from "./method.ts";

/** Shards of the namespace, each with its leader. */
function setOf(...leaders: string[]): ShardAssignment[] {
  return initialRanges(leaders.length).map(({ minInclusive, maxInclusive }, shard) => {
    return { shard, leader: leaders[shard]!, minHashInclusive: minInclusive, maxHashInclusive: maxInclusive };
  });
}

function pushed(namespaces: Record<string, ShardAssignment[]>, allowedAuthorities: string[] = []): ShardAssignments {
  return { namespaces: new Map(Object.entries(namespaces)), allowedAuthorities };
}

/** A client that watches, and what it has been told: leaders in order of their shards, or why it was refused. */
class Client {
  readonly told: (string[] | string)[] = [];
  ended = "";
  /** Whether it reads; when it does not, the next message waits. */
  reads = true;
  #drained: () => void = () => {};
  #cancel: () => void = () => {};

  /** An authority of "" is none. */
  constructor(assignments: Assignments, { namespace = "", authority = "me:1" } = {}) {
    const call: Call = {
      header: () => [],
      authority: authority === "" ? undefined : authority,
      peer: "",
      onCancel: (callback) => {
        this.#cancel = callback;
      },
      cancelled: false,
      setResponseHeader() {},
    };
    const send = (message: Uint8Array) => {
      const { namespaces } = fromBinary(ShardAssignmentsSchema, message);
      const set = Object.values(namespaces)[0];
      this.told.push(set === undefined ? "nothing" : set.assignments.map(({ leader }) => leader));
      return this.reads;
    };
    const drained = () =>
      new Promise<void>((resolve) => {
        this.#drained = resolve;
      });
    const request = toBinary(ShardAssignmentsRequestSchema, create(ShardAssignmentsRequestSchema, { namespace }));
    assignments.serve(request, call, { send, drained }).then(
      () => {
        this.ended = "ended";
      },
      (error: unknown) => {
        this.ended = error instanceof Refusal ? error.reason : String(error);
      },
    );
  }

  read(): void {
    this.reads = true;
    this.#drained();
  }

  leave(): void {
    this.#cancel();
  }
}

function served() {
  const clock = new ManualClock();
  const shards = new Shards();
  const assignments = new Assignments(shards, { clock });
  return { clock, shards, assignments };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test("before the first assignments clients are told to come again; a set of nothing is none", async () => {
  const { shards, assignments } = served();
  shards.takeAssignments(pushed({}));
  const early = new Client(assignments);
  await turn();
  expect(early.ended).toBe("NOT_INITIALIZED");
  shards.takeAssignments(pushed({}, ["me:1"]));
  const noNamespace = new Client(assignments);
  await turn();
  expect(noNamespace.ended).toBe("NOT_INITIALIZED");
  shards.takeAssignments(pushed({ default: setOf("a:1") }));
  const unknown = new Client(assignments, { namespace: "other" });
  await turn();
  expect(unknown.ended).toBe("NAMESPACE_NOT_FOUND");
});

test("an authority must be well formed, and one of those that are allowed where some are named", async () => {
  const { shards, assignments } = served();
  shards.takeAssignments(pushed({ default: setOf("a:1") }, ["me:1"]));
  for (const [authority, reason] of [
    ["me:1", ""],
    ["you:1", "PERMISSION_DENIED"],
    ["me", "INVALID_ARGUMENT"],
    ["", "INVALID_ARGUMENT"],
  ] as const) {
    const client = new Client(assignments, { authority });
    await turn();
    expect(client.ended).toBe(reason);
  }
});

test("changes are told, sets that say the same are not, and what is due to another namespace is none", async () => {
  const { shards, assignments } = served();
  shards.takeAssignments(pushed({ default: setOf("a:1", "b:1") }));
  const client = new Client(assignments);
  await turn();
  shards.takeAssignments(pushed({ default: setOf("a:1", "b:1"), other: setOf("c:1") }));
  await turn();
  shards.takeAssignments(pushed({ default: setOf("b:1", "b:1") }));
  await turn();
  shards.takeAssignments(pushed({ other: setOf("c:1") }));
  await turn();
  expect(client.told).toEqual([["a:1", "b:1"], ["b:1", "b:1"], "nothing"]);
  expect(client.ended).toBe("");
});

test("where a shard has no leader this server is named by the client's name for it, after a moment of waiting for one", async () => {
  const { clock, shards, assignments } = served();
  shards.takeAssignments(pushed({ default: setOf("a:1", "") }));
  const waiting = new Client(assignments);
  const patient = new Client(assignments, { authority: "[::1]:7" });
  await turn();
  expect(waiting.told).toEqual([]);
  clock.advance(ASSIGNMENTS_HELD_MS_MAX - 1);
  await turn();
  expect(waiting.told).toEqual([]);
  clock.advance(1);
  await turn();
  expect(waiting.told).toEqual([["a:1", "me:1"]]);
  expect(patient.told).toEqual([["a:1", "[::1]:7"]]);
  const lucky = new Client(assignments);
  await turn();
  shards.takeAssignments(pushed({ default: setOf("a:1", "b:1") }));
  await turn();
  expect(lucky.told).toEqual([["a:1", "b:1"]]);
  expect(waiting.told.at(-1)).toEqual(["a:1", "b:1"]);
  shards.takeAssignments(pushed({ default: setOf("a:1", "") }));
  await turn();
  expect(lucky.told.at(-1)).toEqual(["a:1", "me:1"]);
});

test("a set with a gap or an overlap is never told", async () => {
  const { shards, assignments } = served();
  const [first, second] = setOf("a:1", "b:1");
  const gaps = [[first!], [second!], [first!, { ...second!, minHashInclusive: 7 }], []];
  for (const gap of gaps) {
    shards.takeAssignments(pushed({ default: gap }));
    const client = new Client(assignments);
    await turn();
    expect([client.ended, client.told]).toEqual(["NOT_INITIALIZED", []]);
  }
  shards.takeAssignments(pushed({ default: [second!, first!] }));
  const client = new Client(assignments);
  await turn();
  for (const gap of gaps) shards.takeAssignments(pushed({ default: gap }));
  await turn();
  expect(client.told).toEqual([["b:1", "a:1"]]);
});

test("a client that does not read is told the newest set when it reads again, and nothing between", async () => {
  const { shards, assignments } = served();
  shards.takeAssignments(pushed({ default: setOf("a:1") }));
  const client = new Client(assignments);
  client.reads = false;
  await turn();
  for (const leader of ["b:1", "c:1", "d:1"]) {
    shards.takeAssignments(pushed({ default: setOf(leader) }));
    await turn();
  }
  expect(client.told).toEqual([["a:1"]]);
  client.read();
  await turn();
  expect(client.told).toEqual([["a:1"], ["d:1"]]);
});

test("streams end with their clients, and with the server's reason", async () => {
  const { clock, shards, assignments } = served();
  shards.takeAssignments(pushed({ default: setOf("a:1") }));
  const gone = new Client(assignments);
  const stays = new Client(assignments);
  shards.takeAssignments(pushed({ default: setOf("") }));
  const held = new Client(assignments);
  await turn();
  expect(assignments.watchers).toBe(3);
  gone.leave();
  await turn();
  expect([gone.ended, assignments.watchers]).toEqual(["ended", 2]);
  assignments.close(new Refusal("RESOURCE_UNAVAILABLE", "going down"));
  await turn();
  expect([stays.ended, held.ended, held.told]).toEqual(["RESOURCE_UNAVAILABLE", "RESOURCE_UNAVAILABLE", []]);
  expect(assignments.watchers).toBe(0);
  clock.advance(ASSIGNMENTS_HELD_MS_MAX);
});

test("clients of more names than are kept encoded are all answered", async () => {
  const { shards, assignments } = served();
  shards.takeAssignments(pushed({ default: setOf("a:1") }));
  const clients = Array.from({ length: ASSIGNMENTS_ENCODED_MAX * 2 + 1 }, (_, n) => {
    return new Client(assignments, { authority: `name-${n}:1` });
  });
  await turn();
  for (const { told } of clients) expect(told).toEqual([["a:1"]]);
});

test("a request for a shard that is led elsewhere is refused with its leader, if one is known", () => {
  const { shards } = served();
  const hint = (shard: number | bigint | undefined) => {
    try {
      shards.leader(shard);
      return "served";
    } catch (error) {
      return error instanceof Refusal ? { reason: error.reason, hint: error.hint } : error;
    }
  };
  expect(hint(undefined)).toEqual({ reason: "INVALID_ARGUMENT", hint: undefined });
  expect(hint(0)).toEqual({ reason: "NODE_IS_NOT_LEADER", hint: undefined });
  shards.takeAssignments(
    pushed({ other: setOf("x:1").map((one) => ({ ...one, shard: 9 })), default: setOf("a:1", "") }),
  );
  expect(hint(0)).toEqual({ reason: "NODE_IS_NOT_LEADER", hint: { shard: 0, leader: "a:1" } });
  expect(hint(9)).toEqual({ reason: "NODE_IS_NOT_LEADER", hint: { shard: 9, leader: "x:1" } });
  expect(hint(1)).toEqual({ reason: "NODE_IS_NOT_LEADER", hint: undefined });
  expect(hint(2n ** 63n)).toEqual({ reason: "NODE_IS_NOT_LEADER", hint: undefined });
});
