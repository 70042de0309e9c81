/** Planted bugs in what safety.md §11 says of reference peers, and in what keeps clusters apart. */
import type { Mutant } from "./mutants.ts";

const RULE = "§11 reference peers";

export const STRANGER_MUTANTS: readonly Mutant[] = [
  {
    name: "reference leader's entries are not compared",
    rule: RULE,
    story: "a follower takes a reference leader's entries behind whatever it holds",
    edits: [
      {
        file: "src/protocol/following.ts",
        find: "previousEntryCrc === crc) return undefined;",
        replace: "offset >= 0) return undefined;",
      },
    ],
    scenario: "a reference leader leaves a foreign tail",
  },
  {
    name: "contradicted tail is never cut",
    rule: RULE,
    story: "a tail that a reference leader's truncation has left keeps its follower away for ever",
    edits: [
      {
        file: "src/protocol/following.ts",
        find: "if (contradicted && !mayCut(replica, request, held))",
        replace: "if (contradicted)",
      },
    ],
    scenario: "a reference leader leaves a foreign tail",
  },
  {
    name: "applied entry is cut at a reference leader's word",
    rule: RULE,
    story: "what was applied gives way to a reference leader that does not have it",
    edits: [
      { file: "src/protocol/following.ts", find: "offset > Math.max(applied, verified)", replace: "offset > -1" },
    ],
    scenario: "a reference leader has not what was applied",
  },
  {
    name: "status of another term confirms",
    rule: RULE,
    story: "a deposed leader takes its followers' status in the next term for a round's answer",
    edits: [
      {
        file: "src/protocol/commit.ts",
        find: "if (term !== leadership.term || !leadership.followers.has(follower))",
        replace: "if (!leadership.followers.has(follower))",
      },
    ],
    scenario: "a deposed leader of reference followers is asked for a value",
  },
  {
    name: "late status confirms a later round",
    rule: RULE,
    story: "a status that was asked before a read came answers it",
    edits: [
      {
        file: "src/replication/cursor.ts",
        find: "takeStatus(leadership, id, { term, round });",
        replace: "takeStatus(leadership, id, { term, round: leadership.roundSent });",
      },
    ],
    scenario: "a reference follower's status comes late",
  },
  {
    name: "reference follower's status is not asked",
    rule: RULE,
    story: "reads of a shard with reference followers wait for an echo that never comes",
    edits: [
      {
        file: "src/replication/cursor.ts",
        find: "if (!hasId(this.target.address)) void this.#askStatus();",
        replace: "",
      },
    ],
    scenario: "a deposed leader of reference followers is asked for a value",
  },
  {
    name: "reference Truncate's answer is trusted",
    rule: RULE,
    story: "the term that a reference server answers a truncation with is taken for its entry's",
    edits: [
      {
        file: "src/replication/agree.ts",
        find: "if (entryTerm === undefined || headCrc === undefined) return askHead(context, follower);\n  return { term: entryTerm, offset: answer.head.offset, crc: headCrc };",
        replace: "return { term: entryTerm ?? keep.term, offset: answer.head.offset, crc: headCrc };",
      },
    ],
    scenario: "a reference follower has a foreign tail",
  },
  {
    name: "damaged replica votes for a reference coordinator",
    rule: RULE,
    story: "a replica that has ended answers a reference coordinator's first NewTerm as an honest empty one",
    edits: [
      {
        file: "src/protocol/fencing.ts",
        find: 'if (replicaId === undefined && replica.ended !== "" && replica.refusedTerm !== request.term) {',
        replace: "if (replica.promise > Number.MAX_SAFE_INTEGER) {",
      },
    ],
    scenario: "a reference coordinator has a damaged member",
  },
  {
    name: "empty reference server votes",
    rule: RULE,
    story: "a reference server that lost its disk makes the majority before all others have answered",
    edits: [
      {
        file: "src/protocol/election.ts",
        find: "return unknown ?",
        replace: "return unknown && head.offset > NO_OFFSET ?",
      },
    ],
    scenario: "a reference server has lost its disk while another is silent",
  },
  {
    name: "own-term entry of an unknown kind",
    rule: RULE,
    story: "a reference follower is sent a control entry that it does not know, and applies no more",
    edits: [
      {
        file: "src/wire/log-entry.ts",
        find: "writer.field(0x12, EMPTY_BYTES); // record_checksum",
        replace: "writer.field(0x7a, EMPTY_BYTES);",
      },
    ],
    scenario: "a reference follower has a foreign tail",
  },
  {
    name: "commit is not told alone",
    rule: RULE,
    story: "a follower at head never hears that its last entry is committed",
    edits: [
      {
        file: "src/replication/cursor.ts",
        find: "else if (this.#commitTold < commitToTell(leadership)) this.#tellCommitSoon();",
        replace: "",
      },
    ],
    scenario: "a reference follower at head hears of the commit",
  },
  {
    name: "node of another cluster is taken",
    rule: "§1 instance id",
    story:
      "the coordinator goes on with a server that says it belongs to another cluster, and that server takes its calls",
    edits: [
      {
        file: "src/coordination/server-link.ts",
        find: 'if (status === "MISMATCH") {',
        replace: 'if (status === "BOUND" && stamp < 0) {',
      },
      {
        file: "test/sim/data-server-machine.ts",
        find: "peerService(toStrangers(server),",
        replace: "peerService(server,",
      },
    ],
  },
];
