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
/** Bytes of values or keys after which a reply of a stream is sent: official clients accept 4 MB at most. */
export const REPLY_BYTES_SOFT_MAX = 2 * MiB;
/** Records in one RangeScan reply, as the reference sends them. */
export const RANGE_SCAN_RECORDS_MAX = 1000;
/** Bytes of request headers on one call. */
export const HEADER_BYTES_MAX = 16 * KiB;

// --- queues ---------------------------------------------------------------------------------------------------

/** Requests in flight on one WriteStream before it is paused, as in the reference. */
export const STREAM_WRITES_IN_FLIGHT_MAX = 1024;
/** Proposals of one shard that wait for the log; past it a unary call is refused and a stream pauses. */
export const SHARD_WRITES_QUEUED_MAX = 16_384;
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

// --- storage --------------------------------------------------------------------------------------------------

/** Bytes after which a log segment is rolled (a quarter of the retention does it too). */
export const LOG_SEGMENT_BYTES_MAX = 256 * MiB;
/** Bytes of entries in one group commit: bounds the time that one fsync covers. */
export const LOG_COMMIT_BYTES_MAX = 8 * MiB;
/** The watermark is synced after this many commits or this long, whichever is first, and before NewTerm and BecomeLeader are answered. */
export const WATERMARK_LAG_COMMITS_MAX = 64;
export const WATERMARK_LAG_MS_MAX = 50;
/** Bytes of entries that one read of the log returns. */
export const LOG_READ_BYTES_MAX = 4 * MiB;
/** Bytes of in-memory tables over all shards, default; half of it may wait for its flush. */
export const TABLE_BYTES_DEFAULT = 128 * MiB;
/** Bytes of the record cache over all shards, default of `--db-cache-size-mb`. */
export const CACHE_BYTES_DEFAULT = 100 * MiB;
/** Bytes of SQLite page caches over all shards, default. */
export const SQLITE_CACHE_BYTES_DEFAULT = 64 * MiB;
/** Bytes that KVs may hold for the scan on opening to happen before the shard serves. */
export const SCAN_BEFORE_SERVING_BYTES_MAX = 1024 * MiB;
/** A range read that pins its snapshot for longer is cut (ABORTED): the client goes on after the last key. */
export const SNAPSHOT_PIN_MS_MAX = 60_000;
/** KV files held open at once; past it the least recently used is closed. */
export const KEY_VALUE_FILES_OPEN_MAX = 256;

// --- client ---------------------------------------------------------------------------------------------------

/** Defaults of the official Go client, matched so that both load a server alike. */
export const CLIENT_BATCH_LINGER_MS = 5;
export const CLIENT_BATCH_REQUESTS_MAX = 1000;
export const CLIENT_BATCH_BYTES_MAX = 128 * KiB;
export const CLIENT_REQUEST_TIMEOUT_MS = 30_000;

// --- metrics --------------------------------------------------------------------------------------------------

/** Oxia's latency buckets, in milliseconds, so that its dashboards keep working. */
export const LATENCY_BUCKETS_MS: readonly number[] = [
  0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000,
];
