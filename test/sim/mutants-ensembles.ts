/** Planted bugs in how ensembles change (safety.md §2), and what the coordinators' store is for (§9). */
import type { Mutant } from "./mutants.ts";

export const ENSEMBLE_MUTANTS: readonly Mutant[] = [
  // --- §2 both majorities -------------------------------------------------------------------------------------------
  {
    name: "change begins before the new member has caught up",
    rule: "§2 observers first",
    story: "the joint ensemble is stored as soon as the new copy is an observer, frozen or not",
    edits: [
      {
        file: "src/protocol/ensemble-change.ts",
        find: "const lag = behind(stored, swap, observed);",
        replace: 'const lag = stored.term < 0 ? behind(stored, swap, observed) : "";',
      },
      {
        file: "src/protocol/ensemble-change.ts",
        find: "const apart = unsettled(stored, swap, observed, freeze);",
        replace: 'const apart = stored.term < 0 ? unsettled(stored, swap, observed, freeze) : "";',
      },
    ],
    mix: "swaps",
  },
  {
    name: "freeze not waited for",
    rule: "§2 freeze and settle",
    story: "the joint ensemble is stored as soon as the leader is frozen, whether the members hold its head or not",
    edits: [
      {
        file: "src/protocol/ensemble-change.ts",
        find: "const apart = unsettled(stored, swap, observed, freeze);",
        replace: 'const apart = stored.term < 0 ? unsettled(stored, swap, observed, freeze) : "";',
      },
    ],
    mix: "swaps",
    scenario: "a swap under load, with a slow follower",
  },
  {
    name: "ensemble stored after the election",
    rule: "§2 one CAS stores both",
    story: "the new ensemble reaches the store with the election's result: a coordinator that dies before forgets it",
    edits: [
      {
        file: "src/coordination/elect.ts",
        find: `  const claim = shardDocument(shard, next, known);
`,
        replace: `  const joint = shardDocument(shard, next, known);
  const claim = { ...shard, status: joint.status, term: joint.term, leader: undefined };
`,
      },
      {
        file: "src/coordination/elect.ts",
        find: "{ ref, stored: storedShard(claim), history, awaited, answers }",
        replace: "{ ref, stored: storedShard(joint), history, awaited, answers }",
      },
      {
        file: "src/coordination/elect.ts",
        find: `  const named = shardDocument(claim, { ...storedShard(claim), members, formerMembers }, { ...known, minted });
  if (!(await cluster.store.updateShard(ref, claim, named))) return { kind: "overtaken" };
`,
        replace: `  const named = shardDocument(joint, { ...storedShard(joint), members, formerMembers }, { ...known, minted });
  UNSTORED.set(named, claim);
`,
      },
      {
        file: "src/coordination/elect.ts",
        find: "updateShard(of.ref, named, led)",
        replace: "updateShard(of.ref, UNSTORED.get(named)!, led)",
      },
      {
        file: "src/coordination/elect.ts",
        find: "interface Vote {",
        replace: `const UNSTORED = new Map<ShardMetadata, ShardMetadata>();

interface Vote {`,
      },
    ],
    mix: "swaps",
  },
  {
    name: "new ensemble's majority alone",
    rule: "§2 both majorities",
    story: "an election during a change needs no majority of the old ensemble: two halves acknowledge",
    edits: [
      {
        file: "src/protocol/election.ts",
        find: "(formerMembers.length === 0 || among(formerMembers) >= majority(formerMembers.length))",
        replace: "formerMembers.length >= 0",
      },
    ],
    mix: "swaps",
    scenario: "an election in the middle of a change",
  },
  {
    name: "union majority",
    rule: "§2 both majorities",
    story:
      "an election during a change takes a majority of all its servers together: it need not meet either ensemble's",
    edits: [
      {
        file: "src/protocol/election.ts",
        find: `    among(members) >= majority(members.length) &&
    (formerMembers.length === 0 || among(formerMembers) >= majority(formerMembers.length))`,
        replace: `    among(slotsToFence(election.stored)) >= majority(slotsToFence(election.stored).length) &&
    formerMembers.length >= 0`,
      },
    ],
    mix: "swaps",
    scenario: "an election while a lost member is filled anew",
  },
  {
    name: "best head of the new ensemble only",
    rule: "§2 best head over both",
    story: "the only live copy of an acknowledged entry sits with a former member, where nobody looks",
    edits: [
      {
        file: "src/protocol/election.ts",
        find: "const best = bestOf(votes);",
        replace: "const best = bestOf(votes.filter((vote) => vote.member));",
      },
    ],
    mix: "swaps",
    scenario: "the best head sits with the member that goes",
  },
  {
    name: "change dropped, not turned round",
    rule: "§2 turning round",
    story: "a change that comes to nothing is taken back without the joint rule",
    edits: [
      {
        file: "src/protocol/ensemble-change.ts",
        find: "members: stored.formerMembers, formerMembers: stored.members };",
        replace: "members: stored.formerMembers, formerMembers: [] };",
      },
    ],
    mix: "swaps",
    scenario: "the best head sits with the member that goes",
  },
  {
    name: "half-done swap forgotten",
    rule: "§2 in doubt until the result",
    story: "whoever reads a change in doubt from the store goes on with the new ensemble alone",
    edits: [
      {
        file: "src/coordination/stored-shard.ts",
        find: "const formerMembers = (shard.formerEnsemble ?? []).map(slotOf);",
        replace: "const formerMembers = (shard.formerEnsemble ?? []).slice(0, 0).map(slotOf);",
      },
    ],
    mix: "swaps",
  },
  {
    name: "observer counted",
    rule: "§2 acks over the members",
    story: "acks of a copy that is being filled count for commits",
    edits: [
      {
        file: "src/protocol/commit.ts",
        find: 'if (promise !== leadership.term || !leadership.followers.has(follower)) return "ignored";',
        replace: 'if (promise !== leadership.term) return "ignored";',
      },
    ],
    mix: "swaps",
  },
  {
    name: "removed copy deleted too early",
    rule: "§2 deletion waits",
    story: "the removed copy goes as soon as the result is stored, before the members hold what it alone may hold",
    edits: [
      {
        file: "src/protocol/ensemble-change.ts",
        find: "return serves && members.every(acked) ? pendingDeletes : [];",
        replace: "return serves || members.every(acked) ? pendingDeletes : [];",
      },
    ],
    mix: "swaps",
    scenario: "a new member is away when a change ends",
  },
  // --- §9 metadata --------------------------------------------------------------------------------------------------
  {
    name: "term asked for before it is stored",
    rule: "§9 term first",
    story: "NewTerm goes out while the compare-and-swap of its term is under way",
    edits: [
      {
        file: "src/coordination/elect.ts",
        find: 'if (!(await cluster.store.updateShard(ref, shard, claim))) return { kind: "overtaken" };',
        replace: "void cluster.store.updateShard(ref, shard, claim);",
      },
    ],
  },
  {
    name: "result stored before BecomeLeader",
    rule: "§9 assignments after the result",
    story: "the leader is stored, and clients are told, before it leads",
    edits: [
      {
        file: "src/coordination/elect.ts",
        find: "const named = shardDocument(claim, { ...storedShard(claim), members, formerMembers }, { ...known, minted });",
        replace:
          "const named = shardDocument(claim, { ...storedShard(claim), members, formerMembers, leader: verdict.candidates[0] }, { ...known, minted });",
      },
    ],
  },
  {
    name: "assignments before the result is stored",
    rule: "§9 assignments after the result",
    story: "clients are told of a leader that is not stored",
    edits: [
      {
        file: "src/coordination/publish.ts",
        find: 'leader: metadata.leader === undefined ? "" :',
        replace: 'leader: metadata.leader === undefined ? (metadata.ensemble[0]?.public ?? "") :',
      },
    ],
  },
  {
    name: "pending deletion struck off unasked",
    rule: "§9 deletions",
    story: "a removed copy leaves the store although its server has not answered that it is gone",
    edits: [
      {
        file: "src/coordination/deletes.ts",
        find: "if (trouble === undefined) {",
        replace: 'if (trouble !== "never") {',
      },
    ],
    mix: "swaps",
    scenario: "a removed copy's server is away",
  },
  {
    name: "store rolled back not noticed",
    rule: "§9 promises above the store",
    story:
      "the store comes back as an older one, and elections go on until they pass the promises that it has forgotten",
    edits: [
      {
        file: "src/protocol/election.ts",
        find: 'if (answer.kind !== "promised" || answer.promise <= termInStore) continue;',
        replace: 'if (answer.kind !== "promised" || answer.promise <= termInStore || true) continue;',
      },
    ],
    scenario: "the store comes back as an older one",
  },
  {
    name: "change stored over another coordinator's",
    rule: "§9 each acts on its own CAS",
    story: "after a conflict a coordinator stores its document over what another one has stored meanwhile",
    edits: [
      {
        file: "src/coordination/status-store.ts",
        find: "return stands ? withShard(status, ref, next) : undefined;",
        replace: "return stands || expected.term <= next.term ? withShard(status, ref, next) : undefined;",
      },
    ],
    mix: "rivals",
  },
];
