/** Planted bugs in logs and snapshots (safety.md §6), what disks keep (§7), reads, sessions and what clients see (§8). */
import type { Mutant } from "./mutants.ts";

export const DATA_MUTANTS: readonly Mutant[] = [
  // --- §6 appending, truncating, installing -------------------------------------------------------------------------
  {
    name: "truncate by offset only",
    rule: "§6 term and chain",
    story: "leader and follower agree where both have an entry, whatever it is: a foreign tail stays under new entries",
    edits: [
      {
        file: "src/protocol/catch-up.ts",
        find: "if (own?.term === follower.term && (follower.crc ?? own.crc) === own.crc) {",
        replace: "if (own !== undefined) {",
      },
      {
        file: "src/protocol/following.ts",
        find: "if (sameHead(previous, heldBefore)) return undefined;",
        replace: "if (previous.offset === heldBefore.offset) return undefined;",
      },
    ],
    mix: "partitions",
  },
  {
    name: "held offset acked unread",
    rule: "§6 held entries",
    story: "an entry that the follower has something else in the place of is acked as held",
    edits: [
      {
        file: "src/protocol/catch-up.ts",
        find: 'return { way: "truncate", keep: { term, offset } };',
        replace: 'return { way: "attach", after: offset + 0 * term };',
      },
      {
        file: "src/replication/agree.ts",
        find: 'if (step.way === "attach") return own ?? EMPTY_HEAD;',
        replace: 'if (step.way === "attach") return (await ownEntry(context, step.after)) ?? EMPTY_HEAD;',
      },
      {
        file: "src/protocol/following.ts",
        find: "const contradicted = held !== undefined && !sameHead(entry, held);",
        replace: "const contradicted = held !== undefined && held.offset !== entry.offset;",
      },
    ],
    mix: "partitions",
  },
  {
    name: "applied beyond verified",
    rule: "§6 applied is verified",
    story:
      "a follower applies what its log happens to hold up to the commit offset, and not what this leader has compared",
    edits: [
      {
        file: "src/protocol/following.ts",
        find: "return Math.max(replica.applied, Math.min(commitOffset, replica.verified));",
        replace: "return Math.max(replica.applied, Math.min(commitOffset, replica.head.offset));",
      },
      {
        file: "src/protocol/catch-up.ts",
        find: 'return { way: "truncate", keep: { term, offset } };',
        replace: 'return { way: "attach", after: offset + 0 * term };',
      },
      {
        file: "src/replication/agree.ts",
        find: 'if (step.way === "attach") return own ?? EMPTY_HEAD;',
        replace: 'if (step.way === "attach") return (await ownEntry(context, step.after)) ?? EMPTY_HEAD;',
      },
    ],
    mix: "partitions",
  },
  {
    name: "late Truncate",
    rule: "§6 Truncate until the first append",
    story: "a Truncate that comes once more cuts entries that were acked since",
    edits: [
      {
        file: "src/protocol/following.ts",
        find: "if (replica.head.term >= term) return truncateTooLate(replica);",
        replace: "",
      },
      {
        file: "src/protocol/following.ts",
        find: "if (expectedHead !== undefined && !sameHead(expectedHead, replica.head)) {",
        replace: "if (false as boolean) {",
      },
      {
        file: "src/protocol/following.ts",
        find: "if (keep.offset < replica.applied) {",
        replace: "if (keep.offset < -1) {",
      },
      {
        file: "src/protocol/replica.ts",
        find: "return notThisReplica(replica, request.replicaId) ?? truncateTooLate(replica);",
        replace: "return truncate(replica, request);",
      },
    ],
    scenario: "Truncate comes once more",
  },
  {
    name: "snapshot below applied accepted",
    rule: "§6 snapshots",
    story: "a snapshot that comes late takes the place of a state and of acked entries that are newer",
    edits: [
      {
        file: "src/protocol/following.ts",
        find: "if (last.offset < Math.max(replica.applied, acked)) {",
        replace: "if (last.offset < Math.min(-1, acked)) {",
      },
    ],
    scenario: "a snapshot comes once more",
  },
  {
    name: "snapshot without its log",
    rule: "§6 snapshots switch atomically",
    story: "the received state is switched to, and the log does not begin behind it",
    edits: [
      {
        file: "src/replication/follow.ts",
        find: "  await core.ports.log.install(core.shard, incoming.offered.term, last);\n",
        replace: "",
      },
    ],
  },
  // --- §7 what the disk keeps ---------------------------------------------------------------------------------------
  {
    name: "watermark without the promise",
    rule: "§7 the watermark",
    story:
      "the second file does not have a promise when NewTerm is answered: when the first one loses it nobody notices",
    edits: [
      {
        file: "test/sim/memory-log-replicas.ts",
        find: '    await this.syncWatermark([replica]);\n    this.#show(replica);\n    this.trace("promised"',
        replace: '    this.#show(replica);\n    this.trace("promised"',
      },
    ],
    mix: "disks",
    scenario: "a promise is dropped without an entry",
  },
  {
    name: "log below its watermark not noticed",
    rule: "§7 damaged",
    story: "a log that has lost entries which were durable votes with what is left",
    edits: [
      {
        file: "test/sim/memory-log-files.ts",
        find: "const isBelow = replica.head.offset < head.offset;",
        replace: "const isBelow = replica.head.offset < -1;",
      },
    ],
    scenario: "a log has lost its end",
  },
  {
    name: "damage in the open segment ends one shard only",
    rule: "§7 what it ends",
    story: "a bad row in the open segment is skipped instead of ending the ids of the node",
    edits: [
      {
        file: "test/sim/memory-log-files.ts",
        find: "if (isBad && (isOpen || !this.#isDead(row))) bad.push(nth);",
        replace: "if (isBad && !isOpen && !this.#isDead(row)) bad.push(nth);\n      if (isBad && isOpen) break;",
      },
    ],
    mix: "disks",
  },
  {
    name: "KV ahead of log not noticed",
    rule: "§7 damaged",
    story: "a log that is older than the state beside it goes on as if nothing were missing",
    edits: [
      {
        file: "src/replication/replica-data.ts",
        find: "if (offset > log.head) {",
        replace: "if (offset > Number.MAX_SAFE_INTEGER) {",
      },
    ],
    scenario: "a log older than its state",
  },
  {
    name: "slow follower is sent all there is",
    rule: "§5 bounded memory",
    story: "with a bound of four entries on their way, a follower that acks none is sent more",
    edits: [
      {
        file: "src/model/limits.ts",
        find: "export const CURSOR_ENTRIES_IN_FLIGHT_MAX = 16_384;",
        replace: "export const CURSOR_ENTRIES_IN_FLIGHT_MAX = 4;",
      },
      {
        file: "src/replication/cursor.ts",
        find: "count < CURSOR_ENTRIES_IN_FLIGHT_MAX &&",
        replace: "",
      },
    ],
  },
  {
    name: "greeting forgotten",
    rule: "§1 rolled back? (c)",
    story: "a call that ends behind the greeting puts back that nobody was heard, and every stream is refused",
    edits: [
      {
        file: "src/replication/replica-core.ts",
        find: "this.#state = next.introduced || !this.#state.introduced ? next : { ...next, introduced: true };",
        replace: "this.#state = next;",
      },
    ],
    scenario: "a follower is greeted while it takes a snapshot",
  },
  {
    name: "lost checkpoint not noticed",
    rule: "§7 damaged",
    story: "a state behind a checkpoint that it has had is filled from a log that may let those entries go",
    edits: [
      {
        file: "src/replication/replica-data.ts",
        find: "Math.max(base.offset, released)",
        replace: "base.offset",
      },
    ],
    scenario: "a state has lost its checkpoint",
  },
  {
    name: "start vouches for what is not synced",
    rule: "§7 sync at start",
    story: "after a failed fsync the page cache holds entries that the disk does not, and NewTerm answers them",
    edits: [
      {
        file: "test/sim/memory-log-files.ts",
        find: "    await this.#disk.rewrite(name);\n    await this.#disk.sync(name);\n    return segment;",
        replace: "    return segment;",
      },
    ],
    mix: "crashes",
  },
  {
    name: "log trimmed past the checkpoint",
    rule: "§7 trimming",
    story: "the log is trimmed up to what is applied in memory: after a power cut the state needs what is gone",
    edits: [
      {
        file: "test/sim/disk-key-value.ts",
        find: "    this.#unflushedCommits++;\n",
        replace: "    this.#unflushedCommits++;\n    this.#options.released?.(this.applied.offset);\n",
      },
    ],
    mix: "crashes",
  },
  {
    name: "log trimmed whoever needs it",
    rule: "§7 trimming",
    story: "old segments are removed whether the state has what they hold or not",
    edits: [
      {
        file: "test/sim/memory-log.ts",
        find: "if (replica.damage !== undefined || last.offset > replica.record.released) return false;",
        replace: "if (replica.damage !== undefined) return false;",
      },
    ],
    mix: "crashes",
  },
  // --- §8 reads, sessions, what clients see -------------------------------------------------------------------------
  {
    name: "reads without a round",
    rule: "§8 rounds",
    story: "a deposed leader answers with an old value",
    edits: [
      {
        file: "src/replication/leader.ts",
        find: "return this.#tail === undefined ? undefined : this.#rounds.confirm();",
        replace: "return undefined;",
      },
    ],
    mix: "partitions",
    scenario: "a deposed leader is asked for a value",
  },
  {
    name: "read joins a round already sent",
    rule: "§8 rounds",
    story: "a read is confirmed by an answer that was on its way when it arrived",
    edits: [
      {
        file: "src/protocol/commit.ts",
        find: "round: leadership.roundSent + 1,",
        replace: "round: leadership.roundSent,",
      },
    ],
    mix: "partitions",
  },
  {
    name: "round confirmed by one answer",
    rule: "§8 rounds",
    story: "one follower's echo confirms a round, with five members too",
    edits: [
      {
        file: "src/protocol/commit.ts",
        find: "return [...echoed.values()].sort((a, b) => b - a)[acksNeeded - 1] ?? 0;",
        replace: "return [...echoed.values()].sort((a, b) => b - a)[0] ?? 0;",
      },
    ],
    scenario: "a leader that one of five follows is asked for a value",
  },
  {
    name: "deposed leader answers KeepAlive",
    rule: "§8 heartbeats",
    story: "a heartbeat is confirmed by a leader whose successor expires the session",
    edits: [
      {
        file: "src/replication/session-calls.ts",
        find: "const confirmed = this.#host.confirm();\n    if (confirmed",
        replace: "const confirmed = undefined;\n    if (confirmed",
      },
    ],
    mix: "partitions",
    scenario: "a deposed leader is sent a heartbeat",
  },
  {
    name: "heartbeat does not wait behind the end",
    rule: "§8 heartbeats",
    story: "a heartbeat is answered for a session whose end is on its way to the log",
    edits: [
      {
        file: "src/replication/sessions.ts",
        find: "if (slot === undefined || this.#ending.has(id)) return false;",
        replace: "if (slot === undefined) return false;",
      },
      {
        file: "src/replication/session-calls.ts",
        find: "if (ending === undefined) break;",
        replace: "if (ending === undefined || true) break;",
      },
    ],
    scenario: "a heartbeat meets the end of its session",
  },
  {
    name: "session expired early by a new leader",
    rule: "§8 sessions' clocks",
    story: "a new leader gives sessions a part of their timeout",
    edits: [
      {
        file: "src/replication/session-calls.ts",
        find: "this.#sessions.add(id, sessionTimeoutMs(rowValue(cursor.row)));",
        replace: "this.#sessions.add(id, sessionTimeoutMs(rowValue(cursor.row)) / 8);",
      },
    ],
  },
  {
    name: "sessions outlive a change of leaders",
    rule: "§8 sessions' clocks",
    story: "a new leader takes over no sessions: their ephemerals stay for ever",
    edits: [
      {
        file: "src/replication/session-calls.ts",
        find: "if (id !== undefined) this.#sessions.add(id,",
        replace: "if (id !== undefined && id < 0) this.#sessions.add(id,",
      },
    ],
  },
  {
    name: "version reused",
    rule: "§8 versions",
    story: "a new leader counts versions from the last entry that it has applied itself",
    edits: [
      {
        file: "src/database/apply.ts",
        find: "const next = put.overrideVersionId === undefined ? counter + 1 : counter;",
        replace: "const next = put.overrideVersionId === undefined && before === undefined ? counter + 1 : counter;",
      },
    ],
  },
  {
    name: "notification skipped over a control gap",
    rule: "§8 notifications",
    story:
      "a subscriber takes the gap that a control entry leaves for a batch that it has seen, and misses the one behind",
    edits: [
      {
        file: "src/replication/feeds.ts",
        find: "return this.#kv.notifications(after).map((",
        replace: `const next = this.#kv.notifications(after);
    const isGap = after >= 0 && next[0] !== undefined && next[0].offset > after + 1;
    return next.slice(isGap ? 1 : 0).map((`,
      },
    ],
  },
  {
    name: "sequence key reused after a leader change",
    rule: "§8 sequences",
    story: "a leader goes on from the sequence keys that it remembers from when it led before",
    edits: [
      {
        file: "src/database/sequence.ts",
        find: "    const { prefix, key, counters } = next;\n",
        replace: "    const { prefix, key, counters } = next;\n    if (this.#recall(prefix) !== undefined) return;\n",
      },
    ],
  },
];
