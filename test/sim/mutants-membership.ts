/** Planted bugs in who counts: replica ids, disks that are lost or set back (safety.md §1). */
import type { Mutant } from "./mutants.ts";

export const MEMBERSHIP_MUTANTS: readonly Mutant[] = [
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
];
