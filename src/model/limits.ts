/**
 * Every bound, with its unit and its reason. A queue, batch, retry, page or message that has a bound has it from here.
 */

const KiB = 1024;
const MiB = 1024 * KiB;

// --- messages -------------------------------------------------------------------------------------------------

/** Bytes of one public request message, default of `--max-message-size`. Oxia accepts 256 MiB; that is the flag's ceiling. */
export const MESSAGE_BYTES_DEFAULT = 64 * MiB;
export const MESSAGE_BYTES_MAX = 256 * MiB;
/** Bytes of a serialised log entry beyond the message that it carries: tags, lengths, term, offset, timestamp. */
export const ENTRY_OVERHEAD_BYTES = 64;
/**
 * Bytes of values or keys after which a reply of a stream is sent. Official clients accept 4 MB at most, the reference
 * sends at 2 MiB; a reader that stalls holds about one reply, so that a smaller one bounds what many of them hold.
 */
export const REPLY_BYTES_SOFT_MAX = 256 * KiB;
/** Records in one RangeScan reply, as the reference sends them. */
export const RANGE_SCAN_RECORDS_MAX = 1000;
/** Bytes of request headers on one call. */
export const HEADER_BYTES_MAX = 16 * KiB;

// --- queues ---------------------------------------------------------------------------------------------------

/** Requests in flight on one WriteStream before it is paused, as in the reference. */
export const STREAM_WRITES_IN_FLIGHT_MAX = 1024;
/** Proposals of one shard that wait for the log; past it a unary call is refused and a stream pauses. */
export const SHARD_WRITES_QUEUED_MAX = 16_384;
/** The shards of a node apply entries for so long together before the event loop goes on; one entry is not divided. */
export const APPLY_TURN_MS_MAX = 5;
/** Bytes of requests in flight on the node, default; never less than one message. */
export const REQUEST_BYTES_IN_FLIGHT_DEFAULT = 64 * MiB;

// --- connections ----------------------------------------------------------------------------------------------

export const CONNECTIONS_MAX = 10_000;
/** Streams open at once on one connection. */
export const STREAMS_PER_CONNECTION_MAX = 1000;
/** Time for the first bytes and the handshake of a connection. */
export const HANDSHAKE_MS_MAX = 10_000;
/** Pings closer together than this are counted as abuse (Oxia's keepalive enforcement). */
export const KEEPALIVE_MIN_INTERVAL_MS = 5_000;
/** Pings in a row that came too soon before the connection is closed; gRPC's servers allow as many. */
export const PING_STRIKES_MAX = 2;
/** Pings within one such interval, even while replies go out: ten thousand a second is what a loopback's round trips allow. */
export const PINGS_PER_INTERVAL_MAX = 50_000;
/**
 * Streams that a client may reset: at once, and per second from then on. Bun's defaults (1,000 and 33) end the
 * connection of a client that cancels a hundred calls a second; a reset flood is some tens of thousands.
 */
export const STREAM_RESETS_BURST = 5_000;
export const STREAM_RESETS_PER_S = 1_000;
/**
 * Streams refused over the life of a connection, for being more at once than allowed. Bun's default of 100 ends the
 * connection of a client that opens many calls before it has read the SETTINGS.
 */
export const STREAMS_REJECTED_MAX = 100_000;
/**
 * MiB that one connection may hold in Bun's HTTP/2 layer: its default of 10 fails parallel large replies. What counts
 * is CONNECTION_UNSENT_BYTES_MAX, which is checked before a reply is made, not after.
 */
export const HTTP2_SESSION_MIB_MAX = 1_024;
/** Bytes of replies of one stream that wait for a slow reader before its handler is told to wait. */
export const STREAM_UNSENT_BYTES_MAX = 1 * MiB;
/** Bytes of replies of one connection that wait for a slow reader before its further calls wait too. */
export const CONNECTION_UNSENT_BYTES_MAX = 16 * MiB;
/** Replies of one stream that are gathered within a turn of the event loop are written at this size at the latest. */
export const STREAM_WRITE_BYTES = 64 * KiB;
/** Streams that wait for room in the budget of request bytes: each holds up to 128 KiB below. Past it they are refused. */
export const BUDGET_WAITERS_MAX = 512;
/** A request message has this time to arrive whole, and a second more for each REQUEST_BYTES_PER_S_MIN of its length. */
export const REQUEST_MS_MAX = 30_000;
export const REQUEST_BYTES_PER_S_MIN = 64 * KiB;
/** TCP keepalive probes start after this much silence: finds peers that vanished without a word. */
export const TCP_KEEPALIVE_MS = 30_000;
/** An HTTP/1.1 connection without a request is closed after this long; its headers, and its whole request, have as long. */
export const HTTP1_IDLE_MS = 60_000;
export const HTTP1_REQUEST_MS_MAX = 300_000;
/** Names in one answer of the health service's List, as gRPC's own servers bound it. */
export const HEALTH_NAMES_LISTED_MAX = 100;
/** Characters of an error's message that a peer is told: clients accept 8 KiB of trailers, and one may take nine bytes. */
export const STATUS_MESSAGE_CHARS_MAX = 512;

// --- storage --------------------------------------------------------------------------------------------------

/** Bytes after which a log segment is rolled (a quarter of the retention does it too). */
export const LOG_SEGMENT_BYTES_MAX = 256 * MiB;
/** Bytes of entries in one group commit, unless a single entry is larger: what one fsync covers, and the checkpoint behind it, stays a matter of milliseconds. */
export const LOG_COMMIT_BYTES_MAX = 1 * MiB;
/** Bytes of entries on their way to the log's writer; past it an append is refused, unless it is the only one. */
export const LOG_QUEUED_BYTES_MAX = 256 * MiB;
/** Pages in the -wal of the open segment after which it is checkpointed: one such checkpoint takes some 5 ms. */
export const LOG_CHECKPOINT_PAGES = 128;
/** Bytes that the -wal of a segment is cut to after a checkpoint. */
export const LOG_WAL_BYTES_KEPT = 4 * MiB;
/** A mark in a segment's index stands for so many entries at most, with so many rows of other shards between two of them. */
export const LOG_INDEX_ENTRIES_PER_MARK_MAX = 1024;
export const LOG_INDEX_FOREIGN_ROWS_MAX = 64;
/** Bytes kept back on the log's disk for terms and control entries, so that elections go on when it is full. */
export const LOG_BALLAST_BYTES = 8 * MiB;
/** Longest time between two looks at whether a segment can be rolled or trimmed, or the ballast laid down again. */
export const LOG_UPKEEP_MS_MAX = 1_000;
/** Bytes of the watermark beyond which it is written anew; on top comes twice what it then holds. */
export const WATERMARK_FILE_BYTES_MAX = 1 * MiB;
/** The watermark is synced after this many commits or this long, whichever is first, and before NewTerm and BecomeLeader are answered. */
export const WATERMARK_LAG_COMMITS_MAX = 64;
export const WATERMARK_LAG_MS_MAX = 50;
/** Bytes of entries that one read of the log returns. */
export const LOG_READ_BYTES_MAX = 4 * MiB;
/** Entries that one read returns: commits wait while it runs, some 5 ms. */
export const LOG_READ_ENTRIES_MAX = 4096;
/** Budget of tables, caches and requests in flight, default of `--memory`; the shares below are those of this default. */
export const MEMORY_BYTES_DEFAULT = 512 * MiB;
/** Bytes of in-memory tables over all shards, default; half of it may wait for its flush. */
export const TABLE_BYTES_DEFAULT = 128 * MiB;
/** A shard's table is flushed at this size, whatever the budget: its addresses end at twice as much. */
export const SHARD_TABLE_BYTES_MAX = 512 * MiB;
/** Bytes of the record cache over all shards, default of `--db-cache-size-mb`: a record takes a third of what it costs to hold its page. */
export const CACHE_BYTES_DEFAULT = 148 * MiB;
/** Bytes of SQLite page caches over all shards, default. */
export const SQLITE_CACHE_BYTES_DEFAULT = 16 * MiB;
/** Bytes that KVs may hold for the scan on opening to happen before the shard serves. */
export const SCAN_BEFORE_SERVING_BYTES_MAX = 1024 * MiB;
/** A range read that pins its snapshot for longer is cut (ABORTED): the client goes on after the last key. */
export const SNAPSHOT_PIN_MS_MAX = 60_000;
/** Content of one message of a SendSnapshot stream. */
export const SNAPSHOT_CHUNK_BYTES_MAX = 1 * MiB;
/** A state that is sent is pinned no longer than SNAPSHOT_PIN_MS_MAX and a second for each so many bytes; slower receivers are cut off. */
export const STATE_BYTES_PER_S_MIN = 1 * MiB;
/** Bytes of one part of a state that is sent: a block of one record with the largest key and value, whose key stands in it three times. */
export const STATE_ITEM_BYTES_MAX = 4 * MESSAGE_BYTES_MAX;
/** States that a node sends at once, each with a connection that pins its file; further ones wait for their turn. */
export const STATES_SENT_MAX = 16;
/** States that a node receives at once, some 3 MiB of memory each; further ones are refused. */
export const STATES_RECEIVED_MAX = 64;
/** Bytes of a page of a KV file, and of one block of records unless a single record is larger: a page holds a block and its bound. */
export const KEY_VALUE_PAGE_BYTES = 8192;
export const KEY_VALUE_BLOCK_BYTES_MAX = 8000;
/** KV files held open at once; past it the least recently used is closed. */
export const KEY_VALUE_FILES_OPEN_MAX = 256;

/** A KV file's -wal is cut back to this after a checkpoint. */
export const KEY_VALUE_WAL_BYTES_MAX = 64 * MiB;
/** A shard that has applied nothing for so long, and holds at least so much in memory, is flushed. */
export const IDLE_FLUSH_MS = 1_000;
export const IDLE_FLUSH_BYTES_MIN = 1 * MiB;
/** A flush syncs what it has written each time that it is so much: the log's commits wait for the same disk. */
export const FLUSH_SYNC_BYTES = 4 * MiB;
/** Longest wait before a flush that found no space is tried again. */
export const FLUSH_RETRY_MS = 1000;
/** The state of every shard is flushed at least this often, so that no log segment is kept for it alone. */
export const FLUSH_INTERVAL_MS = 60_000;
/** Range reads at once on the node, each with a connection of its own. */
export const SNAPSHOT_READERS_MAX = 128;
/** When that many are at work, one whose client has read nothing for this long is cut, so that others get their turn. */
export const SNAPSHOT_IDLE_MS_MAX = 500;

// --- leading --------------------------------------------------------------------------------------------------

/** Bytes of entries that a leader keeps for followers that have not been sent them, one shard's and over all of the node; who is further behind reads the log. */
export const TAIL_BYTES_PER_SHARD_MAX = 4 * MiB;
export const TAIL_BYTES_PER_NODE_MAX = 64 * MiB;
/** Entries, and bytes of them, sent to one follower and not acked; beyond, it is sent nothing more, but one entry at least. */
export const CURSOR_ENTRIES_IN_FLIGHT_MAX = 16_384;
export const CURSOR_BYTES_IN_FLIGHT_MAX = 8 * MiB;
/** Reads of the log for followers that are behind, at once on the node: each holds LOG_READ_BYTES_MAX until it is sent. */
export const CATCH_UP_READS_MAX = 16;
/** A follower that takes nothing of what was read for it for so long gives its place to another. */
export const CATCH_UP_STALL_MS_MAX = 1_000;
/** A commit offset that no entry and no round takes along is told after this long: each message costs an answer. */
export const COMMIT_TOLD_MS_MAX = 20;
/**
 * Wait before a follower is tried again: the first, the factor, the longest. The longest is not the reference's minute: a
 * follower refuses until it has noticed that the stream before is broken, and a shard is whole again soon after that. A
 * leader that was left alone takes writes again no later than this after the others' return.
 */
export const CURSOR_RETRY_MS_MIN = 100;
export const CURSOR_RETRY_FACTOR = 1.5;
export const CURSOR_RETRY_MS_MAX = 1_000;
/** Truncations that one attempt to agree with a follower asks for: each goes at least one term back, and few terms are ever in doubt. */
export const TRUNCATIONS_PER_ATTEMPT_MAX = 64;
/** While the own log has no space for entries that followers may hold already, it is asked again this often. */
export const LOG_FULL_RETRY_MS = 200;
/** An idle leader sends a read round this often (safety.md §8). */
export const ROUND_INTERVAL_MS = 1_000;
/** A leader without a confirmed round for so long ends all its client streams (safety.md §8). */
export const LEADER_SILENCE_MS_MAX = 3_000;
/** Linearizable reads of one shard that wait for a round, and how long one may wait: past either it is refused. */
export const READS_WAITING_MAX = 65_536;
export const READ_WAIT_MS_MAX = 10_000;

// --- following ------------------------------------------------------------------------------------------------

/** Entries, and bytes of them, that a follower has handed to the log and not heard back of, before it reads no more from its leader. */
export const FOLLOWER_APPENDING_ENTRIES_MAX = 4_096;
export const FOLLOWER_APPENDING_BYTES_MAX = 4 * MiB;
/** Bytes of entries that a follower keeps until they are applied; those past it are read back from the log. */
export const FOLLOWER_KEPT_BYTES_MAX = 4 * MiB;
/** Bytes of either kind over all followers of the node: past it each has one entry under way, and keeps none. */
export const FOLLOWERS_BYTES_MAX = 64 * MiB;
/** Beyond its value, what an entry costs in memory while it is under way or kept. */
export const ENTRY_MEMORY_OVERHEAD_BYTES = 128;
/** Calls on one replica that wait for the one before them, which takes a sync or two; past it they are refused. */
export const REPLICA_CALLS_WAITING_MAX = 64;

// --- metadata -------------------------------------------------------------------------------------------------

/** Bytes of keys and texts in a metadata store: some 30,000 shards at half a KiB each, and a file that is still written in one go. */
export const METADATA_BYTES_MAX = 16 * MiB;
/** Versions that a file store reserves at once, so that none is used twice when another program rewrites the file. */
export const METADATA_VERSIONS_RESERVED = 65_536;
/** Times that a file is opened for its lock only to find that it was replaced meanwhile, which takes a change at that very moment. */
export const METADATA_LOCK_TRIES_MAX = 100;

// --- sessions, notifications, sequences -------------------------------------------------------------------------

/** A session's timeout, both inclusive, as in the reference. */
export const SESSION_TIMEOUT_MS_MIN = 2_000;
export const SESSION_TIMEOUT_MS_MAX = 300_000;
/** Sessions of one shard: some 100 bytes of memory each, above their stored record. */
export const SESSIONS_PER_SHARD_MAX = 4_000_000;
/** A session's end is looked for this often: it comes late by so much at most, and the log's commit. */
export const SESSION_TICK_MS = 200;
/** Sessions that one log entry ends, as in the reference. */
export const SESSION_ENDS_PER_ENTRY_MAX = 128;
/** When the log refuses sessions' ends they are tried again after this long. */
export const SESSION_END_RETRY_MS = 1_000;
/** Sessions that apply remembers to exist. */
export const SESSIONS_REMEMBERED_MAX = 4_096;
/** Prefixes whose highest sequence key apply remembers. */
export const SEQUENCES_REMEMBERED_MAX = 4_096;
/**
 * Bytes of internal keys that one write may make: index entries, of which each holds the record's key, shadows, sequence
 * keys. A message of some kilobytes could otherwise fill the memory when it is applied, and again at each replay.
 */
export const WRITE_DERIVED_BYTES_MAX = 64 * MiB;
/** Batches, and bytes of them, that one read of stored notifications gives, as in the reference; at least one. */
export const NOTIFICATION_BATCHES_PER_READ_MAX = 100;
export const NOTIFICATION_BYTES_PER_READ_MAX = 1 * MiB;
/** Batches, and bytes of them, kept encoded for all subscribers of a shard that stand at the same place; at least one. */
export const NOTIFICATION_BATCHES_ENCODED_MAX = 256;
export const NOTIFICATION_BYTES_ENCODED_MAX = 4 * MiB;
/** How long notifications are kept, default of `--notifications-retention-time`, and how often older ones are removed: a tenth of it, within these. */
export const NOTIFICATION_RETENTION_MS_DEFAULT = 3_600_000;
export const NOTIFICATION_TRIM_MS_MIN = 500;
export const NOTIFICATION_TRIM_MS_MAX = 300_000;
/** Batches removed in one transaction. */
export const NOTIFICATION_BATCHES_PER_TRIM_MAX = 4_096;

// --- assignments ----------------------------------------------------------------------------------------------

/** A client's first message waits so long for every shard of its namespace to have a leader: an election takes less. */
export const ASSIGNMENTS_HELD_MS_MAX = 1_000;
/** Encoded sets kept for clients that ask alike: one for each pair of namespace and authority. */
export const ASSIGNMENTS_ENCODED_MAX = 64;

// --- client ---------------------------------------------------------------------------------------------------

/** Defaults of the official Go client, matched so that both load a server alike. */
export const CLIENT_BATCH_LINGER_MS = 5;
export const CLIENT_BATCH_REQUESTS_MAX = 1000;
export const CLIENT_BATCH_BYTES_MAX = 128 * KiB;
export const CLIENT_REQUEST_TIMEOUT_MS = 30_000;
/** Write requests in flight on one stream: far below where servers pause it, enough to cover a slow fsync. */
export const CLIENT_WRITES_IN_FLIGHT_MAX = 128;
/** Read calls in flight to one shard. */
export const CLIENT_READS_IN_FLIGHT_MAX = 32;
/** Operations and bytes of one client that wait for answers; past either it refuses more. */
export const CLIENT_OPERATIONS_PENDING_MAX = 1_000_000;
export const CLIENT_BYTES_PENDING_MAX = 256 * MiB;
/** Wait before the first retry, and the longest; it doubles in between. */
export const CLIENT_RETRY_MS_MIN = 20;
export const CLIENT_RETRY_MS_MAX = 500;
/** After a change of leader the old one has this long to answer what it was sent, before that goes to the new one. */
export const CLIENT_OLD_LEADER_MS_MAX = 250;
/** Failed attempts after which a server's word for who leads is not followed without a pause any more. */
export const CLIENT_HINTS_AT_ONCE_MAX = 2;
/** Bytes that a server may send ahead on one call: covers a page of a range read, and bounds what comes after a pause. */
export const CLIENT_STREAM_WINDOW_BYTES = 1 * MiB;
/** Received bytes after which a connection's window is given back: a frame for each message would be a write for each. */
export const CLIENT_CONNECTION_RETURN_BYTES = 16 * MiB;
/** Bytes of one header block of an answer. */
export const CLIENT_HEADER_BYTES_MAX = 64 * KiB;
/** A connection has this long to come about. */
export const CLIENT_CONNECT_MS_MAX = 10_000;
/** Pings of an open connection, and the time that a pong may take, as in the official clients. */
export const CLIENT_KEEPALIVE_INTERVAL_MS = 10_000;
export const CLIENT_KEEPALIVE_TIMEOUT_MS = 3_000;
/** Bytes of one answer: Java's client accepts as much. */
export const CLIENT_MESSAGE_BYTES_MAX = 256 * MiB;
/** Messages of one shard that a range read holds decoded before it stops the server. */
export const CLIENT_RANGE_PAGES_MAX = 2;
/** Milliseconds that a session lives without a heartbeat: the default of the official Go client, and what servers allow. */
export const CLIENT_SESSION_TIMEOUT_MS = 15_000;
export const CLIENT_SESSION_TIMEOUT_MS_MIN = 2_000;
export const CLIENT_SESSION_TIMEOUT_MS_MAX = 300_000;
/** Heartbeats go out every tenth of the session's timeout, no more often than this unless the timeout is short itself. */
export const CLIENT_HEARTBEAT_MS_MIN = 2_000;
/** Closing a client waits so long for its sessions' ends; those that are not confirmed run out by themselves. */
export const CLIENT_CLOSE_SESSIONS_MS_MAX = 3_000;
/**
 * Bytes of notifications that a reader has not taken before the servers are held back. On top comes what each shard's
 * server had room to send already: CLIENT_STREAM_WINDOW_BYTES.
 */
export const CLIENT_NOTIFICATIONS_BYTES_MAX = 4 * MiB;
/** Deltas of one sequence put, and index entries of one record: far above any use, far below a request's bound. */
export const CLIENT_SEQUENCE_DELTAS_MAX = 64;
export const CLIENT_INDEX_ENTRIES_MAX = 1024;
/** Records that a cache keeps, default. */
export const CLIENT_CACHE_ENTRIES_DEFAULT = 10_000;
/** Who waits for a lock looks again after this long without a notification: a notification can be missed, a lock must not. */
export const CLIENT_LOCK_RECHECK_MS = 10_000;
/** A command that ran under a lock which is lost has this long to end before it is killed. */
export const LOCKED_COMMAND_GRACE_MS = 5_000;
/** Lines that the shell's history keeps. */
export const SHELL_HISTORY_LINES_MAX = 1_000;
/** Keys that one completion looks at on each level of the path, and levels below what was typed. */
export const SHELL_COMPLETION_KEYS_MAX = 100;
export const SHELL_COMPLETION_DEPTH_MAX = 8;

// --- metrics --------------------------------------------------------------------------------------------------

/** Oxia's latency buckets, in milliseconds, so that its dashboards keep working. */
export const LATENCY_BUCKETS_MS: readonly number[] = [
  0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000,
];

// --- shards ---------------------------------------------------------------------------------------------------

/** Shards of one namespace: each costs files and, when open, descriptors (architecture.md: 1,000 shards). */
export const SHARDS_PER_NAMESPACE_MAX = 4096;
/** Time for requests in flight to be answered when the server is told to stop. */
export const SHUTDOWN_GRACE_MS = 20_000;

// --- internal calls -------------------------------------------------------------------------------------------

/** A call to another server's internal port is given up after this long, unless its caller says otherwise. */
export const PEER_CALL_MS_MAX = 10_000;
/** Messages of a stream between servers that wait for the flow that reads them, before the other side is held back. */
export const PEER_MESSAGES_UNREAD_MAX = 256;

/** A data server that is told to stop waits so long at most for the coordinator to have others lead what it leads, looking this often; clients have so long then to hear of it. */
export const LEADERS_LEFT_MS_MAX = 5_000;
export const LEADERS_LEFT_LOOK_MS = 20;
export const LEADERS_LEFT_HEARD_MS = 300;

// --- coordination ---------------------------------------------------------------------------------------------

/** A data server is asked whether it serves this often, and each time given so long to answer; as many silences in a row make it unavailable. Together: a frozen one is found within 3 s. */
export const HEALTH_INTERVAL_MS = 500;
export const HEALTH_CALL_MS_MAX = 600;
export const HEALTH_FAILURES_MAX = 3;
/** A server that says that it does not serve, and answers, is about to stop: longer than it takes that to hand over what it leads. One that stays so is not available. */
export const SERVER_LEAVING_MS_MAX = 2 * LEADERS_LEFT_MS_MAX;
/** Pause after a failed question: a process that is gone refuses each at once, and is found after two such pauses. */
export const HEALTH_RETRY_MS = 10;
/** A server that cannot be reached, or belongs to another cluster, is tried again after this long. */
export const SERVER_RETRY_MS = 250;
export const SERVER_MISMATCH_RETRY_MS = 10_000;
/** A coordinator that starts gives its servers so long to answer before the first elections: an id that is not answered costs another one. */
export const SERVERS_SETTLE_MS_MAX = 2_000;
/** A new stamp goes to every server this often; numbers are reserved so many at once. */
export const STAMP_INTERVAL_MS = 60_000;
export const STAMPS_RESERVED_AT_ONCE = 1_000;
/** Answers to calls of the coordinator: those that read a replica's state, those that wait for its disk, those that delete. */
export const STATUS_CALL_MS_MAX = 1_000;
export const FENCE_CALL_MS_MAX = 3_000;
export const DELETE_CALL_MS_MAX = 30_000;
/** Once an election could be decided, stragglers have this long: a member that answers is not left behind. */
export const ELECTION_GRACE_MS = 100;
/** BecomeLeader takes as long as a follower of the majority needs to catch up. Each one in a row that came to nothing gives the next twice the time. */
export const BECOME_LEADER_MS_MIN = 5_000;
export const BECOME_LEADER_MS_MAX = 600_000;
/** Elections that ask for votes at once. */
export const ELECTIONS_AT_ONCE_MAX = 64;
/** Wait before the next term of a shard whose election has failed; it grows by half each time. Not as far as the reference's minute: a shard is led again within 30 s after whatever was in the way is gone. */
export const ELECTION_RETRY_MS_MIN = 100;
export const ELECTION_RETRY_MS_MAX = 15_000;
/** A change of an ensemble that has failed so many terms in a row is turned round: one of its two ensembles may be dead for good. */
export const ELECTIONS_BEFORE_TURNING_ROUND = 3;
/** Wait before a member that is missing is attached, a removed copy deleted, a step of a swap repeated; it grows by half each time. */
export const SHARD_STEP_RETRY_MS_MIN = 1_000;
export const SHARD_STEP_RETRY_MS_MAX = 10_000;
/** How often a steady shard's replicas are asked whether they are what is stored of them. */
export const SHARD_VERIFY_MS = 10_000;
/** … and no more often than one shard in so many milliseconds, over all shards: 10 a second. */
export const SHARD_VERIFY_PAUSE_MS = 100;
/** GetStatus of a leader that fails so often in a row, while its server is there, costs it its leadership. */
export const LEADER_SILENCES_MAX = 3;
/** A copy that is listed as being filled, while no swap wants it, is deleted after this long: another coordinator may be at it. */
export const OBSERVER_ORPHANED_MS = 60_000;
/** Longest time for which a shard is frozen by one request. */
export const SHARD_FREEZE_MS_MAX = 3_600_000;
/** How often a replica that catches up is asked how far it is; and, while its shard is frozen, those that have to settle. */
export const SWAP_POLL_MS = 500;
export const SWAP_SETTLE_POLL_MS = 20;
/** How often the coordinator looks whether a server is to be emptied, and how far that is. */
export const REBALANCE_LOOK_MS = 1_000;
/** Replicas that are moved at once, to empty a server or for evenness: each may be a snapshot that is sent. */
export const REPLICA_MOVES_AT_ONCE_MAX = 4;
/** A move that was given up is tried again after this long where a server has to be emptied. */
export const DRAIN_RETRY_MS = 10_000;
/** Leaders are moved for evenness only when no server has come or gone for so long: a rolling restart is not to be chased. */
export const SERVERS_STABLE_MS = 300_000;
/** A leader that gives its place up holds writes back so long at most, and does so only for an heir that is no further behind. */
export const HAND_OVER_MS_MAX = 1_000;
export const HAND_OVER_LAG_ENTRIES_MAX = 1_000;
/** Replicas that are asked at once what they are, of servers that cannot be asked for many in one call. */
export const STATUS_CALLS_AT_ONCE_MAX = 64;
/** Changes of the cluster's status that one compare-and-swap stores. */
export const STATUS_CHANGES_PER_SWAP_MAX = 256;
/** Wait before a change that met another coordinator's is tried again; it doubles each time. */
export const STATUS_CONFLICT_RETRY_MS_MIN = 5;
export const STATUS_CONFLICT_RETRY_MS_MAX = 1_000;
/** Assignments are sent no more often than this: each is a full set. */
export const ASSIGNMENTS_INTERVAL_MS_MIN = 20;
export const ASSIGNMENTS_INTERVAL_MS_A_SHARD = 0.2;
/** The set is sent again after this long: another coordinator, or a stream that was late, may have told an older one last. */
export const ASSIGNMENTS_REPEAT_MS = 10_000;
/** … and after this long on a new stream: what the one before still carried arrives within it, as a rule. */
export const ASSIGNMENTS_REPEAT_FIRST_MS = 1_000;
/** The store is read this often by a coordinator that has no other reason to: what it tells shall not stay behind what another one stores. */
export const STATUS_REFRESH_MS = 10_000;
/** What a message between servers may have beside an entry as large as a client's message may be. */
export const INTERNAL_MESSAGE_EXTRA_BYTES = 64 * 1024;
/** A connection to another server that is silent for the sum of the last two is taken for broken: within 3 s (safety.md). */
export const PEER_CONNECTION_TIMES = { connectMs: 1_000, pingIntervalMs: 1_000, pongMs: 1_500 } as const;
/** The file with the cluster's configuration is looked at this often. */
export const CLUSTER_CONFIG_POLL_MS = 1_000;
/** … and is not read when it is longer. */
export const CLUSTER_CONFIG_BYTES_MAX = 4 * MiB;
/** A metadata store that did not answer is opened again after this long. */
export const METADATA_REOPEN_MS = 500;
/** A thread that opens a database for longer has been ended within it: opening takes a millisecond. */
export const DATABASE_OPEN_MS_MAX = 10_000;
