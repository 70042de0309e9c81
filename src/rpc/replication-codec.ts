/**
 * What a leader says to followers beside Append and Ack (wire/append.ts): generated messages <-> the plain ones of
 * model/peer-messages.ts. A field of ours that is absent stays `undefined`: a reference peer has sent it.
 *
 * Source: protocol.md §5.3, §5.5.
 */
import { create } from "@bufbuild/protobuf";
import {
  type SnapshotChunk as ProtoSnapshotChunk,
  type TruncateRequest as ProtoTruncateRequest,
  type TruncateResponse as ProtoTruncateResponse,
  SnapshotChunkSchema,
  TruncateRequestSchema,
  TruncateResponseSchema,
} from "../gen/replication/replication_pb.ts";
import { EMPTY_HEAD } from "../model/ids.ts";
import type { SnapshotChunk, TruncateRequest, TruncateResponse } from "../model/peer-messages.ts";
import {
  entryId,
  ifBigint,
  ifNumber,
  present,
  protoEntryId,
  protoShardTerm,
  shardTerm,
  toNumber,
} from "./peer-fields.ts";

export function truncateRequest(message: ProtoTruncateRequest): TruncateRequest {
  const { expectedHead, expectedCrc = EMPTY_HEAD.crc } = message;
  return {
    ...shardTerm(message),
    keep: entryId(message.headEntryId),
    expectedHead: expectedHead === undefined ? undefined : { ...entryId(expectedHead), crc: expectedCrc },
    replicaId: message.replicaId,
  };
}

export function protoTruncateRequest(request: TruncateRequest) {
  return create(
    TruncateRequestSchema,
    present({
      ...protoShardTerm(request),
      headEntryId: protoEntryId(request.keep),
      expectedHead: request.expectedHead && protoEntryId(request.expectedHead),
      expectedCrc: request.expectedHead?.crc,
      replicaId: request.replicaId,
    }),
  );
}

export function truncateResponse(message: ProtoTruncateResponse): TruncateResponse {
  return {
    head: entryId(message.headEntryId),
    entryTerm: ifNumber(message.entryTerm, "entry_term"),
    headCrc: message.headCrc,
  };
}

export function protoTruncateResponse({ head, entryTerm, headCrc }: TruncateResponse) {
  return create(
    TruncateResponseSchema,
    present({ headEntryId: protoEntryId(head), entryTerm: ifBigint(entryTerm), headCrc }),
  );
}

export function snapshotChunk(message: ProtoSnapshotChunk): SnapshotChunk {
  const { lastTerm, lastOffset, chainCrc, term, name, content, chunkIndex, chunkCount, replicaId, stateHash } = message;
  const complete = lastTerm !== undefined && lastOffset !== undefined && chainCrc !== undefined;
  const last = complete
    ? { term: toNumber(lastTerm, "last_term"), offset: toNumber(lastOffset, "last_offset"), crc: chainCrc }
    : undefined;
  return {
    term: toNumber(term, "term"),
    name,
    content,
    chunkIndex,
    chunkCount,
    last,
    replicaId,
    rowCount: ifNumber(message.rowCount, "row_count"),
    stateHash,
  };
}

export function protoSnapshotChunk(chunk: SnapshotChunk) {
  const { term, name, content, chunkIndex, chunkCount, last, replicaId, rowCount, stateHash } = chunk;
  return create(
    SnapshotChunkSchema,
    present({
      term: BigInt(term),
      name,
      content,
      chunkIndex,
      chunkCount,
      lastTerm: ifBigint(last?.term),
      lastOffset: ifBigint(last?.offset),
      chainCrc: last?.crc,
      replicaId,
      rowCount: ifBigint(rowCount),
      stateHash,
    }),
  );
}
