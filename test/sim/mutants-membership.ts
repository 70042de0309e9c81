/** Planted bugs in who counts (safety.md §1), how ensembles change (§2), and what the coordinators' store is for (§9). */
import type { Mutant } from "./mutants.ts";

export const MEMBERSHIP_MUTANTS: readonly Mutant[] = [
  // --- §1 who counts ------------------------------------------------------------------------------------------------
  {
    name: "wiped replica votes",
    rule: "§1 votes belong to ids",
    story: "a server that has lost its disk answers like an honest empty member and is counted",
    edits: [
      {
        file: "src/protocol/election.ts",
        find: 'if (answer.ended !== "") return answer.ended;',
        replace: "",
      },
      {
        file: "src/protocol/election.ts",
        find: 'return replicaId === slot.replicaId ? "" :',
        replace: 'return replicaId === slot.replicaId || true ? "" :',
      },
    ],
    mix: "disks",
    scenario: "a server that lost its disk answers like an honest empty member",
  },
  {
    name: "deleted replica re-armed",
    rule: "§1 an id ends for ever",
    story: "NewTerm with the id of a replica that was deleted or lost brings it to life again, empty",
    edits: [
      {
        file: "src/protocol/fencing.ts",
        find: "if (replicaId !== undefined && replicaId !== NO_REPLICA) {",
        replace: "if (false as boolean) {",
      },
      {
        file: "src/protocol/fencing.ts",
        find: "return accept(mint(empty, request), {",
        replace: "return accept(mint(empty, { ...request, freshId: replicaId || request.freshId }), {",
      },
    ],
    mix: "disks",
  },
  {
    name: "late DeleteShard takes a newer copy",
    rule: "§1 calls name their id",
    story: "DeleteShard that comes once more, or late, deletes the copy that was made since",
    edits: [
      {
        file: "src/protocol/fencing.ts",
        find: `  if (other !== undefined) return other;
  const next = endReplica({`,
        replace: "  const next = endReplica({",
      },
      {
        file: "src/protocol/fencing.ts",
        find: `  if (request.term < replica.promise) {
    return refuse(replica, "INVALID_TERM", \`term \${request.term} is below the promise \${replica.promise}\`);
  }
  if (replica.id === NO_REPLICA) return accept(replica, {`,
        replace: "  if (replica.id === NO_REPLICA) return accept(replica, {",
      },
    ],
    mix: "swaps",
    scenario: "DeleteShard comes once more, behind a new copy",
  },
  {
    name: "another id is fenced as if it were the one",
    rule: "§1 NewTerm names its id",
    story: "a replica answers NewTerm of another id without saying that the one asked for has ended",
    edits: [
      {
        file: "src/protocol/fencing.ts",
        find: 'const ended = counts ? "" :',
        replace: 'const ended = counts || true ? "" :',
      },
    ],
    mix: "disks",
  },
  {
    name: "ids stored with the result",
    rule: "§1 first ids",
    story: "an empty slot's id is not stored before BecomeLeader: it is filled twice, by the lost copy and the new one",
    edits: [
      {
        file: "src/coordination/elect.ts",
        find: `  if (!(await cluster.store.updateShard(ref, claim, named))) return { kind: "overtaken" };
  const leader`,
        replace: `  UNSTORED.set(named, claim);
  const leader`,
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
  },
  {
    name: "members filled by an unlisted id",
    rule: "§1 first ids",
    story:
      "a server whose slot is empty is attached to the leader under the id that it answers, which is stored nowhere",
    edits: [
      {
        file: "src/coordination/attach.ts",
        find: 'if (!young) return { kind: "slot can be filled" };',
        replace: "if (!young) return undefined;",
      },
      {
        file: "src/coordination/attach.ts",
        find: "      head = answer.head;",
        replace: "      head = answer.head;\n      slot.replicaId ||= answer.replicaId ?? EMPTY_SLOT;",
      },
      {
        file: "src/protocol/leading.ts",
        find: "if (byId && !listed) {",
        replace: "if (byId && !listed && false) {",
      },
    ],
  },
  {
    name: "counted_term ignored",
    rule: "§1 rolled back? (a)",
    story: "a disk that is older than the last election in which its id was counted votes",
    edits: [
      {
        file: "src/protocol/fencing.ts",
        find: "replica.promise < request.countedTerm",
        replace: "replica.promise < -1",
      },
    ],
    scenario: "a disk older than its counted term",
  },
  {
    name: "acked_offset ignored",
    rule: "§1 rolled back? (b)",
    story: "a disk that is older than what its id has acked to this leader goes on acking",
    edits: [
      {
        file: "src/protocol/following.ts",
        find: "if (replicaId !== undefined && ackedOffset > replica.head.offset) {",
        replace: "if (ackedOffset > Number.MAX_SAFE_INTEGER) {",
      },
    ],
    scenario: "a disk older than what it has acked",
  },
  {
    name: "stamp not checked",
    rule: "§1 rolled back? (c)",
    story: "a disk that is older than its last confirmed stamp counts",
    edits: [
      {
        file: "src/protocol/fencing.ts",
        find: "rolledBack: held < confirmedStamp",
        replace: "rolledBack: held > confirmedStamp && held < confirmedStamp",
      },
    ],
    mix: "disks",
  },
  {
    name: "Replicate accepted before the stamp is checked",
    rule: "§1 rolled back? (c)",
    story: "after a process start a replica acks to a leader that was there before, on whatever disk",
    edits: [
      {
        file: "src/protocol/following.ts",
        find: "if (replicaId !== undefined && !replica.introduced) return notIntroduced(replica);",
        replace: "",
      },
    ],
    scenario: "a stream before the greeting",
  },
  {
    name: "ended replica is not refilled",
    rule: "§1 ended means",
    story: "a member whose id has ended is attached again and again, and never replaced",
    edits: [
      {
        file: "src/coordination/attach.ts",
        find: 'return (ended ?? "") === "" ? undefined :',
        replace: 'return (ended ?? "") !== "never" ? undefined :',
      },
    ],
    mix: "disks",
  },
  {
    name: "replication factor 1 starts in its old term",
    rule: "§1 standalone",
    story: "a server alone leads the term again that it led before it was started anew",
    edits: [
      {
        file: "src/replication/lead-alone.ts",
        find: "const term = (found?.state.promise ?? NO_TERM) + 1;",
        replace: "const term = Math.max(found?.state.promise ?? NO_TERM, 0);",
      },
      {
        file: "src/protocol/leading.ts",
        find: "if (replica.led >= term) return",
        replace: "if (replica.led > term) return",
      },
      {
        file: "src/protocol/leading.ts",
        find: "if (replica.streaming || replica.head.term >= term) {",
        replace: "if (replica.streaming) {",
      },
      {
        file: "src/storage/replica-changes.ts",
        find: "if (record.led >= term) {",
        replace: "if (record.led > term) {",
      },
    ],
    scenario: "a server alone starts again",
  },
  {
    name: "young replica of an adopted shard votes",
    rule: "§1 adopting",
    story: "in a shard that was taken over from Oxia an empty copy, minted since, passes for the member that was there",
    edits: [
      {
        file: "src/protocol/election.ts",
        find: "const young = stored.adoptedTerm !== undefined && mintedTerm > stored.adoptedTerm;",
        replace: "const young = stored.adoptedTerm !== undefined && mintedTerm > Number.MAX_SAFE_INTEGER;",
      },
    ],
    scenario: "a member of an adopted shard has lost its disk",
  },
  {
    name: "accepted loss keeps the old ids",
    rule: "§1 accept-loss",
    story: "after a loss was accepted the chosen replica keeps its id, and those that were given up may still count",
    edits: [
      {
        file: "src/protocol/fencing.ts",
        find: "if (request.adopt) return adopt(introduced, request);",
        replace: "",
      },
    ],
    scenario: "a loss is accepted",
  },
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
