/**
 * The servers' answers, read without reflection. wire.test.ts compares them with the generated code.
 *
 * Source: protocol.md §2.4.
 */
import { type Bytes, EMPTY_BYTES, text } from "../lib/bytes.ts";
import { type Int64, Reader } from "../wire/reader.ts";
import { type WireKey, wireKey } from "./keys.ts";
import { GetResult, type Version } from "./records.ts";

/** Status of one operation. */
export const Status = { ok: 0, keyNotFound: 1, unexpectedVersionId: 2, sessionDoesNotExist: 3 } as const;

export interface PutAnswer {
  readonly status: number;
  /** With status ok. */
  readonly version: Version | undefined;
  /** The key that the server made of a sequence; undefined for other puts. */
  readonly key: WireKey | undefined;
}

export interface WriteAnswer {
  readonly puts: PutAnswer[];
  /** Statuses. */
  readonly deletes: number[];
  readonly deleteRanges: number[];
}

export interface GetAnswer {
  readonly status: number;
  /** With status ok: for the key that was asked for where the server names none. */
  readonly record: GetResult | undefined;
}

/** Reads a WriteResponse. Throws INVALID_ARGUMENT (Refusal) when it is none. */
export function decodeWriteAnswer(message: Bytes): WriteAnswer {
  const reader = new Reader(message);
  const answer: WriteAnswer = { puts: [], deletes: [], deleteRanges: [] };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 0x0a) answer.puts.push(decodePutAnswer(reader));
    else if (tag === 0x12) answer.deletes.push(decodeStatus(reader));
    else if (tag === 0x1a) answer.deleteRanges.push(decodeStatus(reader));
    else reader.skip(tag);
  }
  return answer;
}

function decodePutAnswer(reader: Reader): PutAnswer {
  const end = reader.messageEnd();
  const outerEnd = reader.end;
  reader.end = end;
  let status = 0;
  let version: Version | undefined;
  let key: WireKey | undefined;
  while (reader.pos < end) {
    const tag = reader.tag();
    if (tag === 0x08) status = reader.uint32();
    else if (tag === 0x12) version = decodeVersion(reader);
    else if (tag === 0x1a) key = wireKey(reader.view());
    else reader.skip(tag);
  }
  reader.end = outerEnd;
  return { status, version, key };
}

function decodeStatus(reader: Reader): number {
  const end = reader.messageEnd();
  const outerEnd = reader.end;
  reader.end = end;
  let status = 0;
  while (reader.pos < end) {
    const tag = reader.tag();
    if (tag === 0x08) status = reader.uint32();
    else reader.skip(tag);
  }
  reader.end = outerEnd;
  return status;
}

function decodeVersion(reader: Reader): Version {
  const end = reader.messageEnd();
  const outerEnd = reader.end;
  reader.end = end;
  let versionId: Int64 = 0;
  let modificationsCount: Int64 = 0;
  let createdTimestamp = 0;
  let modifiedTimestamp = 0;
  let sessionId: Int64 | undefined;
  let clientIdentity: string | undefined;
  while (reader.pos < end) {
    const tag = reader.tag();
    switch (tag) {
      case 0x08:
        versionId = reader.int64();
        break;
      case 0x10:
        modificationsCount = reader.int64();
        break;
      case 0x19:
        createdTimestamp = Number(reader.fixed64());
        break;
      case 0x21:
        modifiedTimestamp = Number(reader.fixed64());
        break;
      case 0x28:
        sessionId = reader.int64();
        break;
      case 0x32:
        clientIdentity = text(reader.view());
        break;
      default:
        reader.skip(tag);
    }
  }
  reader.end = outerEnd;
  return { versionId, modificationsCount, createdTimestamp, modifiedTimestamp, sessionId, clientIdentity };
}

/** Reads keys and values out of one message. Nothing that it returns keeps the message alive. */
export class RecordDecoder {
  readonly #reader: Reader;
  readonly #bytes: Bytes;
  readonly #buffer: Buffer;

  constructor(message: Bytes) {
    this.#reader = new Reader(message);
    this.#bytes = message;
    this.#buffer = Buffer.from(message.buffer, message.byteOffset, message.length);
  }

  /**
   * The gets of a ReadResponse. `asked(i)` is the key of the i-th: the server repeats it only where it may be another.
   * Throws INVALID_ARGUMENT (Refusal) when the message is none.
   */
  gets(asked: (index: number) => WireKey): GetAnswer[] {
    const answers: GetAnswer[] = [];
    this.#entries(() => answers.push(this.#get(asked, answers.length)));
    return answers;
  }

  /** The records of a RangeScanResponse that have a key and a version: an index may name records that are gone. */
  records(): GetResult[] {
    const records: GetResult[] = [];
    this.#entries(() => {
      const { record } = this.#get(undefined, 0);
      if (record !== undefined) records.push(record);
    });
    return records;
  }

  /** The keys of a ListResponse. */
  keys(): WireKey[] {
    const keys: WireKey[] = [];
    this.#entries(() => keys.push(this.#key()));
    return keys;
  }

  /** All three messages have their entries in field 1. */
  #entries(entry: () => void): void {
    const reader = this.#reader;
    while (reader.more()) {
      const tag = reader.tag();
      if (tag === 0x0a) entry();
      else reader.skip(tag);
    }
  }

  #get(asked: ((index: number) => WireKey) | undefined, index: number): GetAnswer {
    const reader = this.#reader;
    const end = reader.messageEnd();
    const outerEnd = reader.end;
    reader.end = end;
    let status = 0;
    let version: Version | undefined;
    let value = EMPTY_BYTES;
    let key: WireKey | undefined;
    let secondaryKey: WireKey | undefined;
    while (reader.pos < end) {
      const tag = reader.tag();
      switch (tag) {
        case 0x08:
          status = reader.uint32();
          break;
        case 0x12:
          version = decodeVersion(reader);
          break;
        case 0x1a:
          value = this.#value();
          break;
        case 0x22:
          key = this.#key();
          break;
        case 0x2a:
          secondaryKey = this.#key();
          break;
        default:
          reader.skip(tag);
      }
    }
    reader.end = outerEnd;
    key ??= asked?.(index);
    if (status !== Status.ok || version === undefined || key === undefined) return { status, record: undefined };
    return { status, record: new GetResult(key, value, version, secondaryKey) };
  }

  #value(): Bytes {
    const reader = this.#reader;
    const end = reader.messageEnd();
    const value = this.#bytes.slice(reader.pos, end);
    reader.pos = end;
    return value;
  }

  #key(): WireKey {
    const reader = this.#reader;
    const start = reader.pos;
    const end = reader.messageEnd();
    const from = reader.pos;
    reader.pos = end;
    const bytes = this.#bytes;
    for (let i = from; i < end; i++) if (bytes[i]! >= 0x80) return bytes.slice(from, end);
    return start === end ? "" : this.#buffer.toString("latin1", from, end);
  }
}
