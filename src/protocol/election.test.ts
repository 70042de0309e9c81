import { expect, test } from "bun:test";
import fc from "fast-check";
import { EMPTY_HEAD, type Head, NO_TERM } from "../model/ids.ts";
import { type Answer, type Election, judge, majority, type Slot, slotsToFence, standings } from "./election.ts";
import { compareHeads, NO_REPLICA } from "./replica-state.ts";

const head = (term: number, offset: number): Head => ({ term, offset, crc: term * 100 + offset });
const slot = (server: string, replicaId: bigint, countedTerm = 6): Slot => ({ server, replicaId, countedTerm });
const fenced = (replicaId: bigint | undefined, at: Head, more: Partial<Answer> = {}): Answer =>
  ({ kind: "fenced", replicaId, mintedTerm: 0, head: at, ended: "", ...more }) as Answer;

const A = slot("a", 1n);
const B = slot("b", 2n);
const C = slot("c", 3n);
const D = slot("d", 4n, NO_TERM);

function election(
  answers: Record<string, Answer>,
  more: Partial<Election["stored"]> = {},
  failed: bigint[] = [],
): Election {
  const stored = { term: 7, members: [A, B, C], formerMembers: [], everLed: true, adoptedTerm: undefined, ...more };
  return { stored, termInStore: 7, answers: new Map(Object.entries(answers)), failedLeaders: new Set(failed) };
}

function elected(of: Election) {
  const verdict = judge(of);
  if (verdict.kind !== "elect") throw new Error(JSON.stringify(verdict));
  return { ...verdict, names: verdict.candidates.map(({ server }) => server).join("") };
}

test("a majority elects whoever holds the best head, by term before offset; all who hold it are named", () => {
  expect(judge(election({ a: fenced(1n, head(6, 9)) })).kind).toBe("wait");
  expect(elected(election({ a: fenced(1n, head(5, 9)), b: fenced(2n, head(6, 3)) })).names).toBe("b");
  const all = { a: fenced(1n, head(6, 9)), b: fenced(2n, head(6, 9)), c: fenced(3n, head(6, 8)) };
  expect(elected(election(all)).names).toBe("ab");
});

test("whoever counted is to be stored as counted in this term, nobody else", () => {
  const verdict = elected(election({ a: fenced(1n, head(6, 9)), b: fenced(2n, head(6, 9)) }));
  expect(verdict.members.map(({ countedTerm }) => countedTerm)).toEqual([7, 7, 6]);
  expect(verdict.followers.map(({ server }) => server)).toEqual(["a", "b"]);
});

test("who could not lead is left out of the majorities and follows all the same, unless its head is a better one", () => {
  const same = { a: fenced(1n, head(6, 9)), b: fenced(2n, head(6, 9)), c: fenced(3n, head(6, 9)) };
  const after = elected(election(same, {}, [1n]));
  expect(after.names).toBe("bc");
  expect(after.followers.map(({ server }) => server)).toEqual(["a", "b", "c"]);
  expect(after.members.map(({ countedTerm }) => countedTerm)).toEqual([7, 7, 7]);
  const better = elected(election({ ...same, a: fenced(1n, head(6, 10)) }, {}, [1n]));
  expect(better.names).toBe("bc");
  expect(better.followers.map(({ server }) => server)).toEqual(["b", "c"]);
  expect(better.members.map(({ countedTerm }) => countedTerm)).toEqual([6, 7, 7]);
});

test("a vote belongs to the listed id: a wiped or ended replica does not count, and status says why (seed 17)", () => {
  const wiped = election({
    a: fenced(1n, head(6, 9)),
    b: fenced(22n, EMPTY_HEAD),
    c: fenced(3n, head(6, 9), { ended: "the promise is below term 6" } as Partial<Answer>),
  });
  expect(judge(wiped).kind).toBe("next-term");
  expect(standings(wiped).map(({ counted, why }) => [counted, why])).toEqual([
    [true, ""],
    [false, "replica 22 lives there, listed is 2"],
    [false, "the promise is below term 6"],
  ]);
});

test("status says why for each slot", () => {
  const of = election({ a: { kind: "failed", why: "is down" }, b: { kind: "promised", promise: 7 } });
  expect(standings(of).map(({ why }) => why)).toEqual(["is down", "has promised term 7", "has not answered yet"]);
});

test("an empty slot counts by the id that it answers, which is stored before anybody leads", () => {
  const members = ["a", "b", "c"].map((server) => slot(server, NO_REPLICA, NO_TERM));
  const of = election({ a: fenced(11n, EMPTY_HEAD), b: fenced(12n, EMPTY_HEAD) }, { members, everLed: false });
  expect(elected(of).members.map(({ replicaId }) => replicaId)).toEqual([11n, 12n, NO_REPLICA]);
});

test("on an adopted shard an id minted after the adopted term is no vote", () => {
  const members = ["a", "b", "c"].map((server) => slot(server, NO_REPLICA, NO_TERM));
  const young = { mintedTerm: 6 } as Partial<Answer>;
  const answers = {
    a: fenced(11n, head(4, 3)),
    b: fenced(12n, EMPTY_HEAD, young),
    c: { kind: "failed", why: "is down" } as const,
  };
  const adopted = election(answers, { members, adoptedTerm: 5 });
  expect(judge(adopted)).toMatchObject({ kind: "next-term" });
  expect(standings(adopted)[1]!.why).toContain("minted in term 6");
  expect(elected(election(answers, { members, adoptedTerm: 6 })).names).toBe("a");
});

test("a change in doubt needs both majorities (seeds 46, 3305)", () => {
  const change = { members: [D, B, C], formerMembers: [A, B, C] };
  const down: Answer = { kind: "failed", why: "is down" };
  const newOnly = election({ d: fenced(4n, head(6, 9)), b: fenced(2n, head(6, 9)), a: down, c: down }, change);
  expect(judge(newOnly)).toMatchObject({ kind: "next-term" });
  const both = election({ b: fenced(2n, head(6, 9)), c: fenced(3n, head(6, 9)) }, change);
  expect(elected(both).names).toBe("bc");
  const disjoint = { members: [D, slot("e", 5n), slot("f", 6n)], formerMembers: [A, B, C] };
  const four = { a: fenced(1n, head(6, 1)), b: fenced(2n, head(6, 1)), d: fenced(4n, head(6, 1)) };
  expect(judge(election(four, disjoint)).kind).toBe("wait");
  expect(elected(election({ ...four, e: fenced(5n, head(6, 1)) }, disjoint)).names).toBe("de");
});

test("the best head is sought over both; with a former member alone it elects nobody, then turns round (seed 1600)", () => {
  const change = { members: [D, B, C], formerMembers: [A, B, C] };
  const answers = { a: fenced(1n, head(6, 9)), b: fenced(2n, head(6, 8)), c: fenced(3n, head(6, 8)) };
  expect(judge(election(answers, change))).toMatchObject({ kind: "wait" });
  const all = election({ ...answers, d: { kind: "failed", why: "is down" } }, change);
  expect(judge(all)).toMatchObject({ kind: "turn-round" });
  expect(elected(election({ ...answers, d: fenced(4n, head(6, 9)) }, change)).names).toBe("d");
});

test("a server in both ensembles is asked for the new id, and counts for it alone", () => {
  const fresh = slot("c", 33n, NO_TERM);
  const change = { members: [A, B, fresh], formerMembers: [A, B, C] };
  const of = election({ a: fenced(1n, head(6, 9)), b: fenced(2n, head(6, 9)), c: fenced(33n, head(6, 9)) }, change);
  expect(slotsToFence(of.stored).map(({ replicaId }) => replicaId)).toEqual([1n, 2n, 33n]);
  expect(elected(of).names).toBe("abc");
  expect(standings(of).filter(({ counted }) => !counted)).toMatchObject([{ former: true, slot: { replicaId: 3n } }]);
});

test("who failed to lead is left out while the others form the majorities, and comes last when they do not", () => {
  const two = { a: fenced(1n, head(6, 9)), b: fenced(2n, head(6, 8)) };
  const three = elected(election({ ...two, c: fenced(3n, head(6, 7)) }, {}, [1n]));
  expect(three.names).toBe("b");
  expect(three.followers.map(({ server }) => server)).toEqual(["b", "c"]);
  expect(elected(election(two, {}, [1n])).names).toBe("a");
  const equal = { a: fenced(1n, head(6, 9)), b: fenced(2n, head(6, 9)) };
  expect(elected(election(equal, {}, [1n])).names).toBe("ba");
});

test("a promise above the store's term: the store was rolled back, unless another coordinator has gone on", () => {
  const of = election({ a: { kind: "promised", promise: 12 }, b: fenced(2n, head(6, 9)), c: fenced(3n, head(6, 9)) });
  expect(judge(of)).toEqual({ kind: "store-rolled-back", server: "a", promise: 12, termInStore: 7 });
  expect(judge({ ...of, termInStore: 12 })).toEqual({ kind: "superseded", termInStore: 12 });
});

test("two logs that differ at one (term, offset) elect nobody", () => {
  const other = { ...head(6, 9), crc: 1 };
  expect(judge(election({ a: fenced(1n, head(6, 9)), b: fenced(2n, other) }))).toMatchObject({ kind: "diverged" });
});

test("an empty reference server is no vote where a leader ever was, unless every listed member has answered", () => {
  const members = ["a", "b", "c"].map((server) => slot(server, NO_REPLICA, NO_TERM));
  const two = { a: fenced(undefined, head(6, 9)), b: fenced(undefined, EMPTY_HEAD) };
  expect(judge(election(two, { members })).kind).toBe("wait");
  expect(elected(election({ ...two, c: fenced(undefined, EMPTY_HEAD) }, { members })).names).toBe("a");
  expect(elected(election(two, { members, everLed: false })).names).toBe("a");
  expect(standings(election({ a: fenced(undefined, head(6, 9)) }))[0]!.why).toContain("without a replica id");
});

const someHead = fc.record({ term: fc.integer({ min: 1, max: 3 }), offset: fc.integer({ min: 0, max: 3 }) });

test("whoever is elected is listed in the new ensemble and no counted head of either ensemble is better", () => {
  const servers = ["a", "b", "c", "d", "e"];
  const someEnsemble = fc.uniqueArray(fc.constantFrom(...servers), { minLength: 3, maxLength: 3 });
  const someAnswers = fc.array(fc.option(someHead, { nil: undefined }), { minLength: 5, maxLength: 5 });
  fc.assert(
    fc.property(someEnsemble, someEnsemble, fc.boolean(), someAnswers, (now, before, change, heads) => {
      const id = (server: string) => BigInt(servers.indexOf(server) + 1);
      const list = (names: string[]) => names.map((server) => slot(server, id(server)));
      const answers = Object.fromEntries(
        heads.flatMap((at, index) =>
          at === undefined ? [] : [[servers[index]!, fenced(BigInt(index + 1), head(at.term, at.offset))]],
        ),
      );
      const of = election(answers, { members: list(now), formerMembers: change ? list(before) : [] });
      const counts = (names: string[]) => names.filter((server) => server in answers).length >= majority(3);
      const verdict = judge(of);
      const possible = counts(now) && (!change || counts(before));
      if (verdict.kind !== "elect") {
        expect(["wait", "turn-round", "next-term"]).toContain(verdict.kind);
        return verdict.kind === "turn-round" ? possible : true;
      }
      expect(possible).toBe(true);
      for (const candidate of verdict.candidates) {
        expect(now).toContain(candidate.server);
        for (const server of change ? [...now, ...before] : now) {
          const answer = answers[server];
          if (answer?.kind === "fenced") expect(compareHeads(answer.head, candidate.head)).toBeLessThanOrEqual(0);
        }
      }
      return true;
    }),
    { numRuns: 500 },
  );
});
