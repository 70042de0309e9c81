/** Planted bugs in terms: who leads one (safety.md §3), how replicas are fenced (§4), what commits and when (§5). */
import type { Mutant } from "./mutants.ts";

export const TERM_MUTANTS: readonly Mutant[] = [
  // --- §3 one leadership a term -------------------------------------------------------------------------------------
  {
    name: "BecomeLeader twice",
    rule: "§3 led once",
    story: "BecomeLeader that comes once more after a crash is obeyed: two leaderships of one term",
    edits: [
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
    mix: "crashes",
    scenario: "BecomeLeader comes once more after a crash",
  },
  {
    name: "lead mark not persisted",
    rule: "§3 durable mark",
    story: "the mark that a term has been led dies with the process",
    edits: [
      {
        file: "test/sim/memory-log-replicas.ts",
        find: "await this.#change(replica, led(replica, term));",
        replace: "replica.record = led(replica, term);",
      },
    ],
    mix: "crashes",
    scenario: "BecomeLeader comes once more after a crash",
  },
  {
    name: "BecomeLeader names neither id nor head",
    rule: "§3 id and head",
    story: "a disk is lost between NewTerm and BecomeLeader, and the empty copy made since leads",
    edits: [
      {
        file: "src/protocol/leading.ts",
        find: `  if (other !== undefined) return other;
  if (replicaId !== undefined && !replica.introduced) return notIntroduced(replica);
  if (replica.led`,
        replace: "  if (replica.led",
      },
      {
        file: "src/protocol/leading.ts",
        find: "if (expectedHead !== undefined && compareHeads(expectedHead, replica.head) !== 0) {",
        replace: "if (false as boolean) {",
      },
      {
        file: "src/protocol/leading.ts",
        find: "if (members !== undefined && !lists(members, replica.id)) {",
        replace: "if (false as boolean) {",
      },
      {
        file: "src/protocol/leading.ts",
        find: "const better = followers.find(({ head }) => compareHeads(head, replica.head) > 0);",
        replace: "const better = followers.find(({ head }) => compareHeads(head, replica.head) > Infinity);",
      },
    ],
    scenario: "a disk is lost between NewTerm and BecomeLeader",
  },
  {
    name: "lost CAS reply taken for success",
    rule: "§3 own positive reply",
    story: "an election that is read back from the store as it was meant is taken for one's own: two in one term",
    edits: [
      {
        file: "src/coordination/status-store.ts",
        find: 'if (answer.outcome === "conflict") return "conflict";',
        replace: `if (answer.outcome === "conflict") {
        const read = await this.#store.get();
        if (![...changes].every(([key, text]) => read.entries.get(key) === text)) return "conflict";
        this.#version = read.version;
        this.#take(changes, next);
        return "stored";
      }`,
      },
    ],
    mix: "rivals",
    scenario: "two coordinators claim the same term",
  },
  {
    name: "leader takes another leader's entries",
    rule: "§3 a leader refuses",
    story: "a leader of a term takes a Replicate stream of that term, and its entries with it",
    edits: [
      {
        file: "src/protocol/replica.ts",
        find: `    AddFollower: addFollower,
    Truncate: refusedByLeader,
    OpenReplicate: refusedByLeader,
    Append: refusedByLeader,
    SendSnapshot: refusedByLeader,
    DeleteShard: deleteShard,
    FreezeShard: freeze,
    RemoveObserver: removeObserver,
    GetStatus: shows("LEADER"),
  },
  // It serves reads;`,
        replace: `    AddFollower: addFollower,
    Truncate: refusedByLeader,
    OpenReplicate: openReplicate,
    Append: append,
    SendSnapshot: refusedByLeader,
    DeleteShard: deleteShard,
    FreezeShard: freeze,
    RemoveObserver: removeObserver,
    GetStatus: shows("LEADER"),
  },
  // It serves reads;`,
      },
    ],
    scenario: "a leader is sent entries of its own term",
  },
  // --- §4 fencing ---------------------------------------------------------------------------------------------------
  {
    name: "skip a fence",
    rule: "§4 terms are checked",
    story: "a replica that has promised a later term takes entries of an earlier leader",
    edits: [
      {
        file: "src/protocol/following.ts",
        find: "if (term !== replica.promise && !(term === NO_TERM && replicaId === undefined)) return wrongTerm(replica, term);",
        replace: "if (term > replica.promise) return wrongTerm(replica, term);",
      },
      {
        file: "src/protocol/following.ts",
        find: `  if (!replica.streaming) return refuse(replica, "RESOURCE_CONFLICT", "the stream has ended");
  if (term !== replica.promise && term !== NO_TERM) return wrongTerm(replica, term);`,
        replace: '  if (!replica.streaming) return refuse(replica, "RESOURCE_CONFLICT", "the stream has ended");',
      },
      {
        file: "src/protocol/commit.ts",
        find: 'if (promise !== leadership.term || !leadership.followers.has(follower)) return "ignored";',
        replace: 'if (!leadership.followers.has(follower)) return "ignored";',
      },
    ],
    mix: "partitions",
  },
  {
    name: "head read before the queued append",
    rule: "§4 the writer reads the head",
    story: "NewTerm answers the head from before the appends that wait in the log's writer",
    edits: [
      {
        file: "src/replication/replica.ts",
        find: "core.become({ ...next, head, applied: core.kv.applied.offset });",
        replace:
          "core.become({ ...next, head: next.id === before.id ? before.head : head, applied: core.kv.applied.offset });",
      },
    ],
    scenario: "an append waits in the log while NewTerm comes",
  },
  {
    name: "writer keeps appends of an earlier term",
    rule: "§4 the writer drops",
    story: "an append that was accepted under an earlier term becomes durable behind the promise, and is acked",
    edits: [
      {
        file: "test/sim/memory-log.ts",
        find: 'if (acceptedUnder !== replica.record.promise) return "RESOURCE_UNAVAILABLE";',
        replace: "",
      },
    ],
    scenario: "an append waits in the log while NewTerm comes",
  },
  {
    name: "promise not persisted",
    rule: "§4 promise synced first",
    story: "NewTerm is answered before the promise is on the disk",
    edits: [
      {
        file: "test/sim/memory-log-replicas.ts",
        find: "await this.#change(replica, promised(replica, term));",
        replace: "replica.record = promised(replica, term);\n    this.#show(replica);",
      },
    ],
  },
  {
    name: "NewTerm leaves the leadership running",
    rule: "§4 NewTerm ends what runs",
    story: "a deposed leader's cursors, sessions and streams go on behind the promise of a later term",
    edits: [
      {
        file: "src/replication/replica.ts",
        find: `  requireSameOrder(core, before, request);
  core.stopActivities(new Refusal("RESOURCE_UNAVAILABLE", \`term \${term} has begun\`));
`,
        replace: "  requireSameOrder(core, before, request);\n",
      },
    ],
  },
  // --- §5 committing and serving ------------------------------------------------------------------------------------
  {
    name: "election by longest log",
    rule: "§5 best head",
    story: "heads are compared by offset before term: a long tail that was never committed wins",
    edits: [
      {
        file: "src/protocol/replica-state.ts",
        find: "return a.term - b.term || a.offset - b.offset;",
        replace: "return a.offset - b.offset || a.term - b.term;",
      },
    ],
    mix: "partitions",
  },
  {
    name: "own-term entry before a follower is attached",
    rule: "§5 own-term entry",
    story: "a server that reaches the coordinator and no peer makes itself the sole best head, for ever",
    edits: [
      {
        file: "src/protocol/commit.ts",
        find: "return !leadership.ownTermEntry && leadership.attached.size >= leadership.acksNeeded;",
        replace: "return !leadership.ownTermEntry;",
      },
    ],
    scenario: "a leader reaches the coordinator and no peer",
  },
  {
    name: "prior-term commit",
    rule: "§5 own-term commits",
    story: "entries of earlier terms are committed by counting (Raft's figure 8)",
    edits: [
      {
        file: "src/protocol/quorum.ts",
        find: "if (candidate >= quorum.firstOwnOffset && candidate > quorum.committed)",
        replace: "if (candidate > quorum.committed)",
      },
    ],
  },
  {
    name: "commit told before the own-term entry",
    rule: "§5 own-term commits",
    story: "followers are told to apply what the leader found in its log, before its own entry is on a majority",
    edits: [
      {
        file: "src/replication/cursor.ts",
        find: `    this.#commitTold = commitToTell(leadership);
    this.#roundTold`,
        replace: `    this.#commitTold = Math.max(commitToTell(leadership), leadership.quorum.firstOwnOffset - 1);
    this.#roundTold`,
      },
    ],
    mix: "partitions",
  },
  {
    name: "commit passes the leader's own head",
    rule: "§5 own durable head",
    story: "the leader counts its own copy before it is synced",
    edits: [
      {
        file: "src/protocol/quorum.ts",
        find: "let candidate = quorum.durable;",
        replace: "let candidate = quorum.sent;",
      },
    ],
  },
  {
    name: "ack before fsync",
    rule: "§5 acks are durable",
    story: "a follower acks what it has handed to its log",
    edits: [
      {
        file: "src/replication/append-path.ts",
        find: "const offset = Math.min(this.#durable.offset, verified);",
        replace: "const offset = verified;",
      },
    ],
  },
  {
    name: "read answered before apply",
    rule: "§5 serving",
    story: "a new leader serves before its own-term entry is applied: its state lacks what was committed before it",
    edits: [
      {
        file: "src/replication/leader.ts",
        find: `    this.#progress();
    return this.#started.promise;`,
        replace: `    this.#unavailable = undefined;
    this.#started.resolve();
    this.#progress();
    return this.#started.promise;`,
      },
      {
        file: "src/replication/leader.ts",
        find: "this.#writePath.paused = this.#unavailable ??",
        replace: "this.#writePath.paused = this.#unavailable ?? (this.#takingOver ? undefined : notServing()) ??",
      },
    ],
    mix: "partitions",
  },
];
