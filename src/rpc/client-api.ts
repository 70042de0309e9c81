/**
 * The Oxia client API: decodes requests, finds the shard's leader, hands over, encodes answers. Hot calls are decoded
 * by wire/; the shard's write path and database/read.ts do the work.
 *
 * Checks come in this order (semantics.md §6): shard present, authority well formed, leader here.
 *
 * Source: protocol.md §2; errors.md §2.
 */
import {
  answerGet,
  fillIndexList,
  fillIndexScan,
  fillList,
  fillRangeScan,
  getReadsInOrder,
  type IndexRead,
  rangeOf,
  withBookkeeping,
} from "../database/read.ts";
import { indexRange } from "../database/secondary-index.ts";
import { validateRead, validateWrite } from "../database/validate.ts";
import type { Bytes } from "../lib/bytes.ts";
import { REPLY_BYTES_SOFT_MAX, STREAM_WRITES_IN_FLIGHT_MAX } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import type { Cursor, KeyValueSnapshot } from "../ports.ts";
import type { Leader } from "../replication/leader.ts";
import type { Shards } from "../replication/shards.ts";
import type { Int64 } from "../wire/reader.ts";
import { decodeRangeRead, decodeRead, decodeWrite, type RangeRead, type Read } from "../wire/requests.ts";
import { Writer } from "../wire/writer.ts";
import { type Assignments, requireAuthority } from "./assignments-api.ts";
import type { BidiControls, BidiHandler, Call, Sink } from "./method.ts";

/** What the client API serves from, and the streams that it holds open. */
export class ClientApi {
  readonly shards: Shards;
  readonly assignments: Assignments;
  readonly writeStreams = new Set<WriteStream>();
  #closing: Refusal | undefined;

  constructor(shards: Shards, assignments: Assignments) {
    this.shards = shards;
    this.assignments = assignments;
  }

  /** Takes no more writes: streams end with `reason`, those that write once what they took is answered. */
  close(reason: Refusal): void {
    this.#closing = reason;
    this.assignments.close(reason);
    for (const shard of this.shards.leaders()) shard.endFeeds(reason);
    for (const stream of [...this.writeStreams]) stream.close(reason);
  }

  /** Throws once `close` was called. */
  requireOpen(): void {
    if (this.#closing !== undefined) throw this.#closing;
  }
}

/** Gets answered in one go before the event loop gets its turn. */
const GETS_PER_TURN = 1000;
/** Bytes that a reply writer starts with. */
const REPLY_BYTES_INITIAL = 4096;
/** … and one that answers a single get: an array of this size costs no allocation of its own. */
const REPLY_BYTES_OF_ONE = 512;

/** The leader of the shard that a call names. */
function leaderFor(api: ClientApi, shard: Int64 | undefined, call: Call): Leader {
  if (shard !== undefined) requireAuthority(call, api.shards);
  return api.shards.leader(shard);
}

// --- writes ---------------------------------------------------------------------------------------------------

export function write(api: ClientApi, request: Bytes, call: Call): Promise<Bytes> {
  api.requireOpen();
  const decoded = decodeWrite(request);
  const shard = leaderFor(api, decoded.shard, call);
  validateWrite(decoded);
  return shard.write(decoded, request);
}

export function openWriteStream(api: ClientApi, call: Call, controls: BidiControls): BidiHandler {
  requireSingle(call, "namespace");
  const shardId = requireSingle(call, "shard-id");
  if (!/^[+-]?\d+$/.test(shardId)) {
    throw new Refusal(
      "MISSING_METADATA",
      `Request must include 'shard-id' metadata field: expected integer, got "${shardId}"`,
    );
  }
  api.requireOpen();
  const leader = leaderFor(api, Number(shardId), call);
  const stream = new WriteStream(leader, controls, () => {
    takeBack();
    api.writeStreams.delete(stream);
  });
  const takeBack = leader.onInterrupt((reason) => stream.interrupt(reason));
  api.writeStreams.add(stream);
  call.onCancel(() => stream.forget());
  return stream;
}

function requireSingle(call: Call, name: string): string {
  const values = call.header(name);
  if (values.length === 0) throw new Refusal("MISSING_METADATA", `Request must include '${name}' metadata field`);
  if (values.length > 1) {
    throw new Refusal("MISSING_METADATA", `Request must include '${name}' metadata field only once`);
  }
  return values[0]!;
}

/**
 * One WriteStream: requests go to the shard as they come, responses leave in request order, which is the order in
 * which the shard resolves them. Past STREAM_WRITES_IN_FLIGHT_MAX, or while the client does not read its responses,
 * no requests are taken. The first failing request ends the stream, after the responses before it.
 */
class WriteStream implements BidiHandler {
  readonly #shard: Leader;
  readonly #controls: BidiControls;
  #inFlight = 0;
  #choked = false;
  #paused = false;
  #ended = false;
  #over = false;
  #failure: unknown;
  #requests = 0;
  /** The first request that failed: answers are matched by their order, so none behind it may be sent. */
  #failedAt = Number.POSITIVE_INFINITY;
  readonly #finished: () => void;

  constructor(shard: Leader, controls: BidiControls, finished: () => void) {
    this.#shard = shard;
    this.#controls = controls;
    this.#finished = finished;
  }

  /** Takes no more requests and ends with `reason` after the responses that are due. */
  close(reason: Refusal): void {
    this.#ended = true;
    this.#failure ??= reason;
    this.#finish();
  }

  /** Ends at once with `reason`: what is in flight has an unknown outcome. */
  interrupt(reason: Refusal): void {
    if (this.#over) return;
    this.#failure ??= reason;
    this.#fail();
  }

  /** The call is gone. */
  forget(): void {
    if (this.#over) return;
    this.#over = true;
    this.#finished();
  }

  message(request: Bytes): boolean {
    if (this.#ended) return false;
    const nth = this.#requests++;
    this.#inFlight++;
    try {
      const decoded = decodeWrite(request);
      validateWrite(decoded);
      this.#shard.write(decoded, request).then(
        (response) => this.#answered(nth, response),
        (error) => this.#failed(nth, error),
      );
    } catch (error) {
      this.#failed(nth, error);
      return false;
    }
    this.#paused = this.#inFlight >= STREAM_WRITES_IN_FLIGHT_MAX || this.#choked;
    return !this.#paused;
  }

  end(): void {
    this.#ended = true;
    this.#finish();
  }

  #answered(nth: number, response: Bytes): void {
    this.#inFlight--;
    if (this.#over) return;
    if (nth < this.#failedAt && !this.#controls.send(response) && !this.#choked) {
      this.#choked = true;
      this.#controls.drained().then(this.#unchoke, () => {});
    }
    this.#goOn();
  }

  #failed(nth: number, error: unknown): void {
    this.#inFlight--;
    if (this.#over) return;
    this.#ended = true;
    if (nth < this.#failedAt) {
      this.#failedAt = nth;
      this.#failure = error;
    }
    this.#finish();
  }

  readonly #unchoke = (): void => {
    this.#choked = false;
    this.#goOn();
  };

  #goOn(): void {
    if (this.#ended) this.#finish();
    else if (this.#paused && !this.#choked && this.#inFlight <= STREAM_WRITES_IN_FLIGHT_MAX / 2) {
      this.#paused = false;
      this.#controls.resume();
    }
  }

  #finish(): void {
    if (this.#inFlight > 0 || this.#over) return;
    if (this.#failure !== undefined) this.#fail();
    else {
      this.forget();
      this.#controls.end();
    }
  }

  #fail(): void {
    this.#ended = true;
    this.forget();
    this.#controls.fail(this.#failure);
  }
}

// --- reads ----------------------------------------------------------------------------------------------------

/** Answered at once where the leader need not be confirmed. */
export function read(api: ClientApi, request: Bytes, call: Call, sink: Sink): Promise<void> | undefined {
  const decoded = decodeRead(request);
  const shard = leaderFor(api, decoded.shard, call);
  validateRead(decoded);
  const confirmed = shard.confirmRead();
  if (confirmed === undefined) return answerRead(shard, decoded, call, sink);
  return confirmed.then(() => answerRead(shard, decoded, call, sink));
}

/** What fits into one reply and needs no order is answered in one go. */
function answerRead(shard: Leader, decoded: Read, call: Call, sink: Sink): Promise<void> | undefined {
  const { gets } = decoded;
  shard.counters.gets += gets.length;
  if (gets.some(getReadsInOrder)) return readOn(shard, decoded, 0, call, sink);
  if (gets.length === 0) return undefined;
  const reply = new Writer(gets.length === 1 ? REPLY_BYTES_OF_ONE : REPLY_BYTES_INITIAL);
  const next = answerGets(shard, decoded, 0, reply);
  const isFlowing = sink.send(reply.finish());
  if (next === gets.length) return undefined;
  return isFlowing
    ? readOn(shard, decoded, next, call, sink)
    : sink.drained().then(() => readOn(shard, decoded, next, call, sink));
}

/** Answers the gets from `next` on, reply by reply, at the pace of the reader. */
async function readOn(shard: Leader, decoded: Read, next: number, call: Call, sink: Sink): Promise<void> {
  if (next > 0) await nextTurn(shard, call);
  if (decoded.gets.some(getReadsInOrder)) await shard.readable().ordered();
  for (let at = next; at < decoded.gets.length; ) {
    if (at > next) await nextTurn(shard, call);
    const reply = new Writer(REPLY_BYTES_INITIAL);
    at = answerGets(shard, decoded, at, reply);
    if (!sink.send(reply.finish())) await sink.drained();
  }
}

/** Answers gets from `first` on until the reply or this turn is full. Returns the index after the last one answered. */
function answerGets(shard: Leader, { gets }: Read, first: number, reply: Writer): number {
  const state = { kv: shard.readable(), order: shard.order, bookkeeping: () => shard.bookkeeping() };
  let valueBytes = 0;
  let next = first;
  while (next < gets.length && next - first < GETS_PER_TURN && valueBytes < REPLY_BYTES_SOFT_MAX) {
    valueBytes += answerGet(state, gets[next++]!, reply);
  }
  return next;
}

export function list(api: ClientApi, request: Bytes, call: Call, sink: Sink): Promise<void> {
  const decoded = decodeRangeRead(request);
  const shard = leaderFor(api, decoded.shard, call);
  shard.counters.lists++;
  return rangeRead(shard, decoded, call, sink, { plain: fillList, index: fillIndexList });
}

export function rangeScan(api: ClientApi, request: Bytes, call: Call, sink: Sink): Promise<void> {
  const decoded = decodeRangeRead(request);
  const shard = leaderFor(api, decoded.shard, call);
  shard.counters.rangeScans++;
  return rangeRead(shard, decoded, call, sink, { plain: fillRangeScan, index: fillIndexScan });
}

/** How one reply of a range read is filled; false when the range is at its end. */
interface Fill {
  readonly plain: (cursor: Cursor, reply: Writer) => boolean;
  readonly index: (read: IndexRead, cursor: Cursor, reply: Writer) => boolean;
}

/** Sends a range as of one applied offset, reply by reply, at the pace of the reader. */
async function rangeRead(shard: Leader, decoded: RangeRead, call: Call, sink: Sink, fill: Fill): Promise<void> {
  const confirmed = shard.confirmRead();
  if (confirmed !== undefined) await confirmed;
  const snapshot = await shard.readable().snapshot();
  try {
    const fillReply = fillFrom(shard, snapshot, decoded, fill);
    let capacity = REPLY_BYTES_INITIAL;
    for (let more = true; more && !call.cancelled; ) {
      const reply = new Writer(capacity);
      more = fillReply(reply);
      // the next reply is about as large as this one: it need not grow step by step
      capacity = Math.max(capacity, reply.length + REPLY_BYTES_INITIAL);
      if (reply.length > 0 && !sink.send(reply.finish())) await sink.drained();
      if (more) await nextTurn(shard, call);
    }
  } finally {
    snapshot.release();
  }
}

/** Over the index that the request names, or over the records themselves. */
function fillFrom(
  shard: Leader,
  snapshot: KeyValueSnapshot,
  decoded: RangeRead,
  fill: Fill,
): (reply: Writer) => boolean {
  const { secondaryIndexName: name, startInclusive, endExclusive } = decoded;
  if (name !== undefined) {
    const { order } = shard;
    const cursor = snapshot.cursor(indexRange(order, { name, startInclusive, endExclusive }));
    return (reply) => fill.index({ order, name, snapshot }, cursor, reply);
  }
  const range = rangeOf(decoded);
  const stored = snapshot.cursor(range);
  const cursor = decoded.includeInternalKeys
    ? withBookkeeping(stored, shard.bookkeeping(), range, shard.order)
    : stored;
  return (reply) => fill.plain(cursor, reply);
}

/** Lets other requests have their turn between two replies of a long one. */
function nextTurn(shard: Leader, call: Call): Promise<void> {
  if (call.cancelled) return Promise.reject(new Refusal("ABORTED", "oxia: operation was aborted"));
  return shard.nextTurn();
}
