/**
 * The checker itself: it must accept every history that a correct server can show, and reject each kind of wrong one.
 * A checker that accepts everything would make all the crash tests pass.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { type Owner, ShardHistory, Violation } from "./checker.ts";
import {
  type Answer,
  type Batch,
  batch,
  carryOut,
  compareKeys,
  type Found,
  isUnknown,
  type Key,
  put,
  remove,
  removeRange,
  type State,
  type Version,
} from "./model.ts";

/** A correct shard, in memory: answers at once, and can be made to lie afterwards. */
class HonestShard {
  records: State = new Map();
  versions = 0;
  #nowMs = 1000;

  apply(request: Batch): Answer {
    const nowMs = this.#nowMs++;
    const versions = new Map<number, Version>();
    const predicted = carryOut(this.records, request, (nth) => {
      const key = request.puts[nth]!.key;
      const old = this.records.get(key);
      const versionId = this.versions++;
      const createdMs = old === undefined || isUnknown(old.version) ? nowMs : old.version.createdMs;
      const modifications = old === undefined ? 0 : old.modifications + 1;
      const version = { versionId, modifications, createdMs, modifiedMs: nowMs };
      versions.set(nth, version);
      return version;
    });
    return {
      puts: predicted.puts.map(({ status }, nth) => ({ status, version: versions.get(nth) })),
      deletes: predicted.deletes,
      deleteRanges: predicted.deleteRanges,
    };
  }

  show(): Map<Key, Found> {
    return new Map(
      [...this.records].map(([key, { value, version }]) => [key, { value, version: version as Version }] as const),
    );
  }
}

function start(): { history: ShardHistory; owner: Owner; server: HonestShard; acked(request: Batch): Answer } {
  const history = new ShardHistory(0);
  const owner = history.owner("o/");
  const server = new HonestShard();
  const acked = (request: Batch) => {
    owner.send(request);
    const answer = server.apply(request);
    owner.acknowledge(answer);
    return answer;
  };
  return { history, owner, server, acked };
}

const found = (value: string, versionId: number, modifications = 0): Found => ({
  value: Buffer.from(value),
  version: { versionId, modifications, createdMs: 0, modifiedMs: 0 },
});

test("a history without faults is accepted", () => {
  const { history, server, acked } = start();
  acked(batch(put("o/a", "1"), put("o/b", "1"), put("o/c", "1")));
  acked(batch(put("o/a", "2", 0), put("o/b", "2", 999), put("o/c", "x", -1)));
  acked(batch(remove("o/b"), remove("o/none"), removeRange("o/c", "o/d")));
  expect([...server.records.keys()]).toEqual(["o/a"]);
  history.check(server.show());
});

test("any prefix of the requests in doubt is accepted, and the next check goes on from it", () => {
  for (const applied of [0, 1, 2, 3]) {
    const { history, owner, server, acked } = start();
    acked(batch(put("o/a", "1")));
    const doubtful = [
      batch(put("o/a", "2"), put("o/b", "2")),
      batch(remove("o/a")),
      batch(put("o/a", "4"), put("o/c", "4")),
    ];
    for (const request of doubtful) owner.send(request);
    for (const request of doubtful.slice(0, applied)) server.apply(request);
    history.check(server.show());
    expect(owner.pending).toBe(0);
    acked(batch(put("o/a", "5"), put("o/b", "5")));
    history.check(server.show());
  }
});

test("a lost write is rejected", () => {
  const { history, server, acked } = start();
  acked(batch(put("o/a", "1")));
  const before = server.show();
  acked(batch(put("o/b", "2")));
  expect(() => history.check(before)).toThrow(/"o\/b" is missing/);
});

test("a lost overwrite is rejected", () => {
  const { history, server, acked } = start();
  acked(batch(put("o/a", "1")));
  const before = server.show();
  acked(batch(put("o/a", "2")));
  expect(() => history.check(before)).toThrow(/"o\/a" holds "1"/);
});

test("a half-applied batch is rejected", () => {
  const { history, owner, server, acked } = start();
  acked(batch(put("o/a", "1"), put("o/b", "1")));
  owner.send(batch(put("o/a", "2"), put("o/b", "2")));
  server.apply(batch(put("o/a", "2")));
  expect(() => history.check(server.show())).toThrow(/no prefix of its requests/);
});

test("a half-applied batch whose other half was overwritten in doubt is rejected", () => {
  const { history, owner, server } = start();
  owner.send(batch(put("o/a", "1"), put("o/b", "1")));
  owner.send(batch(put("o/b", "2")));
  server.apply(batch(put("o/b", "2"))); // the second request without the first
  expect(() => history.check(server.show())).toThrow(Violation);
});

test("requests in doubt out of order are rejected", () => {
  const { history, owner, server } = start();
  owner.send(batch(put("o/a", "1")));
  owner.send(batch(put("o/a", "2")));
  server.apply(batch(put("o/a", "2")));
  expect(() => history.check(server.show())).toThrow(/0 modifications, not 1/);
  expect(() => history.check(new Map([["o/a", found("1", 5, 1)]]))).toThrow(Violation);
});

test("a resurrected delete is rejected", () => {
  const { history, server, acked } = start();
  acked(batch(put("o/a", "1")));
  const before = server.show();
  acked(batch(remove("o/a")));
  expect(() => history.check(before)).toThrow(/"o\/a" is there, and should not be/);
});

test("a resurrected range delete is rejected, also for one key of it", () => {
  const { history, server, acked } = start();
  acked(batch(put("o/a", "1"), put("o/b", "1"), put("o/c", "1")));
  const before = server.show();
  acked(batch(removeRange("o/a", "o/c")));
  before.delete("o/b");
  expect(() => history.check(before)).toThrow(/"o\/a" is there/);
});

test("a version that goes back is rejected at the acknowledgement", () => {
  const { server, acked } = start();
  acked(batch(put("o/a", "1"), put("o/b", "1")));
  server.versions = 0;
  expect(() => acked(batch(put("o/c", "2")))).toThrow(/got version 0, not above 1/);
});

test("a version that was given out twice is rejected, also when the two were concurrent", () => {
  const history = new ShardHistory(0);
  const one = history.register("x");
  const two = history.register("y");
  const first = one.send(Buffer.from("1"));
  const second = two.send(Buffer.from("2"));
  one.acknowledge(first, "OK", found("", 7).version);
  expect(() => two.acknowledge(second, "OK", found("", 7).version)).toThrow(/given out twice/);
});

test("a record in doubt must have a version above all that was told when it was sent", () => {
  const { history, owner, server, acked } = start();
  acked(batch(put("o/a", "1"), put("o/b", "1")));
  owner.send(batch(put("o/c", "2")));
  const shown = server.show().set("o/c", found("2", 1));
  expect(() => history.check(shown)).toThrow(/versions go back/);
});

test("versions within one request in doubt must be consecutive", () => {
  const { history, owner } = start();
  owner.send(batch(put("o/a", "1"), put("o/b", "1")));
  const shown = new Map([
    ["o/a", found("1", 0)],
    ["o/b", found("1", 2)],
  ]);
  expect(() => history.check(shown)).toThrow(/not consecutive/);
});

test("a changed version, count or timestamp of an acknowledged write is rejected", () => {
  for (const change of [{ versionId: 9 }, { modifications: 1 }, { createdMs: 9 }, { modifiedMs: 9 }]) {
    const { history, server, acked } = start();
    acked(batch(put("o/a", "1")));
    const shown = server.show();
    const record = shown.get("o/a")!;
    shown.set("o/a", { ...record, version: { ...record.version, ...change } });
    expect(() => history.check(shown)).toThrow(Violation);
  }
});

test("a key that nobody wrote is rejected", () => {
  const { history, server } = start();
  expect(() => history.check(server.show().set("stray", found("?", 0)))).toThrow(/nobody wrote/);
});

test("a wrong answer to a conditional put or delete is rejected", () => {
  const { owner, acked } = start();
  const version = acked(batch(put("o/a", "1"))).puts[0]!.version;
  owner.send(batch(put("o/a", "2", -1)));
  const lie = { puts: [{ status: "OK" as const, version }], deletes: [], deleteRanges: [] };
  expect(() => owner.acknowledge(lie)).toThrow(/answered \[OK\], not \[UNEXPECTED_VERSION_ID\]/);
  owner.send(batch(remove("o/none")));
  expect(() => owner.acknowledge({ puts: [], deletes: ["OK"], deleteRanges: [] })).toThrow(/KEY_NOT_FOUND/);
});

test("a creation time that changes, or differs from the time of the creating request, is rejected", () => {
  const { owner, server } = start();
  const wrong = (request: Batch, change: Partial<Version>) => {
    owner.send(request);
    const answer = server.apply(request);
    const puts = answer.puts.map(({ status, version }) => ({ status, version: version && { ...version, ...change } }));
    return () => owner.acknowledge({ ...answer, puts });
  };
  expect(wrong(batch(put("o/a", "1")), { createdMs: 1 })).toThrow(/created at 1, not 1000/);
  wrong(batch(put("o/b", "1")), {})();
  expect(wrong(batch(put("o/b", "2")), { createdMs: 1 })).toThrow(/created at 1, not 1001/);
});

test("what was refused must not have happened", () => {
  const { history, owner, server } = start();
  owner.send(batch(put("o/a", "1")));
  owner.refused();
  server.apply(batch(put("o/a", "1")));
  expect(() => history.check(server.show())).toThrow(/should not be/);
});

test("a read that does not show the last acknowledged write is rejected", () => {
  const { owner, acked } = start();
  acked(batch(put("o/a", "1")));
  expect(() => owner.read("o/a", undefined)).toThrow(/missing/);
  expect(() => owner.read("o/b", found("1", 0))).toThrow(/should not be/);
});

test("a register accepts the last acknowledged write or a later one in doubt, and nothing else", () => {
  const plant = () => {
    const history = new ShardHistory(0);
    const register = history.register("r");
    for (const [n, text] of ["a", "b"].entries()) {
      register.acknowledge(register.send(Buffer.from(text)), "OK", found("", n, n).version);
    }
    register.send(Buffer.from("c"));
    return register;
  };
  plant().settle(found("b", 1, 1));
  plant().settle(found("c", 2, 2));
  expect(() => plant().settle(undefined)).toThrow(/gone/);
  expect(() => plant().settle(found("a", 0, 0))).toThrow(/after version 1/); // an older write came back
  expect(() => plant().settle(found("c", 1, 1))).toThrow(Violation); // two writes with one version
  expect(() => plant().settle(found("?", 2, 2))).toThrow(Violation); // never sent
  expect(() => plant().settle(found("c", 2, 5))).toThrow(/nobody sent/); // counted too often
  expect(() => plant().settle(found("c", 2, 1))).toThrow(/go back/);
  expect(() => plant().read(found("a", 0, 0), 1)).toThrow(/after 1 was told/);
});

test("a register rejects two conditional puts that both replaced the same version", () => {
  const register = new ShardHistory(0).register("r");
  register.acknowledge(register.send(Buffer.from("a")), "OK", found("", 0, 0).version);
  const one = register.send(Buffer.from("b"), 0);
  const two = register.send(Buffer.from("c"), 0);
  register.acknowledge(one, "OK", found("", 1, 1).version);
  register.acknowledge(two, "OK", found("", 2, 2).version);
  expect(() => register.settle(found("c", 2, 2))).toThrow(/expected 0, not 1/);
});

test("a register rejects a conditional put that fails although nobody else wrote", () => {
  const register = new ShardHistory(0).register("r");
  register.acknowledge(register.send(Buffer.from("a")), "OK", found("", 0, 0).version);
  const attempt = register.send(Buffer.from("b"), 0);
  expect(() => register.acknowledge(attempt, "UNEXPECTED_VERSION_ID", undefined)).toThrow(Violation);
});

test("keys are compared in hierarchical order", () => {
  const sorted = "a b z ~ a/ a/b / /a /b // /a/ /a/x /a/y /a// /b/x /a/x/1 /c/d/e".split(" ");
  expect([...sorted].reverse().sort(compareKeys)).toEqual(sorted);
});

test("every correct run is accepted, and every run with one record changed is rejected", () => {
  const key = fc.constantFrom("o/a", "o/b", "o/c", "o/x/a", "o/x/b");
  const expected = fc.option(fc.constantFrom(-1, 0, 1, 2), { nil: undefined });
  const operation = fc.oneof(
    { weight: 5, arbitrary: fc.tuple(key, fc.string(), expected).map(([k, v, e]) => put(k, v, e)) },
    { weight: 2, arbitrary: fc.tuple(key, expected).map(([k, e]) => remove(k, e)) },
    { weight: 1, arbitrary: fc.tuple(key, key).map(([a, b]) => removeRange(a, b)) },
  );
  const requests = fc.array(fc.array(operation, { minLength: 1, maxLength: 4 }), { maxLength: 12 });
  fc.assert(
    fc.property(requests, fc.nat(), fc.nat(), fc.nat(), (list, ackedSeed, appliedSeed, victimSeed) => {
      const acked = ackedSeed % (list.length + 1);
      const applied = acked + (appliedSeed % (list.length - acked + 1));
      const { history, owner, server, acked: acknowledge } = start();
      // In doubt, only versions that were told before may be expected: the model says why.
      const told = (ops: (typeof list)[number]) =>
        batch(...ops.map((op) => ("expected" in op && (op.expected ?? -1) >= 0 ? { ...op, expected: undefined } : op)));
      for (const ops of list.slice(0, acked)) acknowledge(batch(...ops));
      for (const ops of list.slice(acked)) owner.send(told(ops));
      for (const ops of list.slice(acked, applied)) server.apply(told(ops));
      const shown = server.show();
      const victim = [...shown.keys()][victimSeed % Math.max(shown.size, 1)];
      if (victim !== undefined) {
        const record = shown.get(victim)!;
        const wrong = new Map(shown).set(victim, { ...record, value: Buffer.from(`${record.value}!wrong`) });
        expect(() => history.check(wrong)).toThrow(Violation);
      }
      history.check(shown);
    }),
  );
});
