/**
 * The internal services of a data server, OxiaCoordination and OxiaLogReplication: bytes -> calls of its methods -> bytes.
 *
 * Every call but the handshake says which cluster it belongs to, and is refused by a server of another one: a server that
 * was moved, or an address that was given away, must not take part in the wrong cluster (protocol.md §5.4).
 *
 * Source: protocol.md §5; errors.md §3.
 */
import { create, type DescMessage, type DescMethod, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { ShardAssignmentsSchema } from "../gen/io/oxia/proto/v1/client_pb.ts";
import {
  AddFollowerResponseSchema,
  BecomeLeaderResponseSchema,
  CoordinationShardAssignmentsResponseSchema,
  DeleteShardResponseSchema,
  FreezeShardResponseSchema,
  GetInfoResponseSchema,
  OxiaCoordination,
  OxiaLogReplication,
  RemoveObserverResponseSchema,
  SnapshotChunkSchema,
  SnapshotResponseSchema,
} from "../gen/replication/replication_pb.ts";
import type { Bytes } from "../lib/bytes.ts";
import { Inbox } from "../lib/inbox.ts";
import { PEER_MESSAGES_UNREAD_MAX } from "../model/limits.ts";
import {
  type AddFollowerRequest,
  type BecomeLeaderRequest,
  type DeleteShardRequest,
  FEATURES,
  type FreezeShardRequest,
  type FreezeShardResponse,
  type GetStatusRequest,
  type GetStatusResponse,
  type HandshakeRequest,
  type HandshakeResponse,
  type NewTermRequest,
  type NewTermResponse,
  type RemoveObserverRequest,
  type ShardAssignments,
  type ShardTerm,
  type SnapshotResponse,
  type TruncateRequest,
  type TruncateResponse,
} from "../model/peer-messages.ts";
import { Refusal, Unreachable } from "../model/refusal.ts";
import type { AppendReceiver, SnapshotReceiver } from "../ports.ts";
import { decodeAppend, encodeAck } from "../wire/append.ts";
import { Code, StatusError } from "./code.ts";
import {
  addFollowerRequest,
  assignments,
  becomeLeaderRequest,
  deleteShardRequest,
  freezeShardRequest,
  handshakeRequest,
  newTermRequest,
  protoGetStatusResponse,
  protoHandshakeResponse,
  protoNewTermResponse,
  removeObserverRequest,
} from "./coordination-codec.ts";
import type { BidiControls, BidiHandler, Call, Method, ServedMethod } from "./method.ts";
import { protoFeatures, toNumber } from "./peer-fields.ts";
import { protoTruncateResponse, snapshotChunk, truncateRequest } from "./replication-codec.ts";
import { EntryTimer, type Timings } from "./timings.ts";
import { typedUnary } from "./typed.ts";

/** A data server as coordinators and leaders see it. */
export interface InternalServer {
  /** The cluster that this server belongs to; undefined while it belongs to none. */
  readonly instance: string | undefined;
  handshake(request: HandshakeRequest): Promise<HandshakeResponse>;
  newTerm(request: NewTermRequest): Promise<NewTermResponse>;
  becomeLeader(request: BecomeLeaderRequest): Promise<void>;
  addFollower(request: AddFollowerRequest): Promise<void>;
  getStatus(request: GetStatusRequest): Promise<GetStatusResponse>;
  freezeShard(request: FreezeShardRequest): Promise<FreezeShardResponse>;
  removeObserver(request: RemoveObserverRequest): Promise<void>;
  deleteShard(request: DeleteShardRequest): Promise<void>;
  truncate(request: TruncateRequest): Promise<TruncateResponse>;
  replicate(shard: ShardTerm, stream: AppendReceiver): Promise<void>;
  sendSnapshot(shard: ShardTerm, chunks: SnapshotReceiver): Promise<SnapshotResponse>;
  takeAssignments(assignments: ShardAssignments): void;
}

export interface InternalOptions {
  /** Whether clients may call this server only by the authorities that the coordinator names; default true. */
  readonly authorityValidation?: boolean;
  /** Told when a coordinator begins to send assignments (1), and when it has ended (-1). */
  readonly onCoordinator?: (change: 1 | -1) => void;
  /** Default: nothing is timed. */
  readonly timings?: Timings;
}

/** The methods of both services. */
export function internalMethods(server: InternalServer, options: InternalOptions = {}): ServedMethod[] {
  const { authorityValidation = true, onCoordinator = () => {} } = options;
  const c = OxiaCoordination.method;
  const r = OxiaLogReplication.method;
  const unary = <I extends DescMessage, O extends DescMessage>(
    method: DescMethod & { readonly input: I; readonly output: O },
    answer: (request: MessageShape<I>) => Promise<MessageShape<O>>,
  ) =>
    served(
      method,
      typedUnary(method.input, method.output, (request, call) => {
        requireInstance(server, call);
        return answer(request);
      }),
    );
  return [
    served(
      c.handshake,
      typedUnary(c.handshake.input, c.handshake.output, async (request) =>
        protoHandshakeResponse(await server.handshake(handshakeRequest(request))),
      ),
    ),
    unary(c.getInfo, async () => create(GetInfoResponseSchema, { featuresSupported: protoFeatures(FEATURES) })),
    unary(c.newTerm, async (request) => protoNewTermResponse(await server.newTerm(newTermRequest(request)))),
    unary(c.becomeLeader, async (request) => {
      await server.becomeLeader(becomeLeaderRequest(request));
      return create(BecomeLeaderResponseSchema);
    }),
    unary(c.addFollower, async (request) => {
      await server.addFollower(addFollowerRequest(request));
      return create(AddFollowerResponseSchema);
    }),
    unary(c.getStatus, async ({ shard }) =>
      protoGetStatusResponse(await server.getStatus({ shard: toNumber(shard, "shard") })),
    ),
    unary(c.freezeShard, async (request) => {
      const { headOffset } = await server.freezeShard(freezeShardRequest(request));
      return create(FreezeShardResponseSchema, { headOffset: BigInt(headOffset) });
    }),
    unary(c.removeObserver, async (request) => {
      await server.removeObserver(removeObserverRequest(request));
      return create(RemoveObserverResponseSchema);
    }),
    unary(c.deleteShard, async (request) => {
      await server.deleteShard(deleteShardRequest(request));
      return create(DeleteShardResponseSchema);
    }),
    unary(r.truncate, async (request) => protoTruncateResponse(await server.truncate(truncateRequest(request)))),
    served(c.pushShardAssignments, upload(server, takeAssignments({ authorityValidation, onCoordinator }))),
    served(r.replicate, upload(server, replicate(options.timings))),
    served(r.sendSnapshot, upload(server, sendSnapshot)),
  ];
}

function served(method: DescMethod, handler: Method): ServedMethod {
  return { paths: [`/${method.parent.typeName}/${method.name}`], binary: method, json: method, method: handler };
}

/** Throws when the call is of another cluster, or says none. */
export function requireInstance({ instance }: Pick<InternalServer, "instance">, call: Call): void {
  if (instance === undefined) throw new Refusal("NOT_INITIALIZED", "this server belongs to no cluster yet");
  const given = call.header("instance-id");
  if (given.length === 0) throw new StatusError(Code.UNAUTHENTICATED, "oxia: instance id not identified");
  if (given.length > 1) {
    const text = 'oxia: instance id metadata "instance-id" must be provided only once';
    throw new Refusal("INVALID_ARGUMENT", text);
  }
  if (given[0] === "") throw new Refusal("INVALID_ARGUMENT", "oxia: instance id must not be empty");
  if (given[0] !== instance) {
    throw new Refusal("PERMISSION_DENIED", `oxia: unexpected instance id ${JSON.stringify(given[0])}`);
  }
}

// --- streams --------------------------------------------------------------------------------------------------

/** A flow that reads a stream of bytes and may answer on it; the call ends when it does. */
type UploadFlow = (
  server: InternalServer,
  upload: {
    readonly call: Call;
    readonly next: () => Promise<Bytes | undefined>;
    readonly send: (bytes: Bytes) => void;
  },
) => Promise<void>;

function upload(server: InternalServer, flow: UploadFlow): Method {
  return {
    kind: "bidi",
    unpaired: true,
    open: (call, controls) => {
      requireInstance(server, call);
      return new Upload(server, flow, call, controls);
    },
  };
}

class Upload implements BidiHandler {
  readonly #inbox: Inbox<Bytes>;

  constructor(server: InternalServer, flow: UploadFlow, call: Call, controls: BidiControls) {
    this.#inbox = new Inbox<Bytes>(PEER_MESSAGES_UNREAD_MAX, { pause: () => {}, resume: () => controls.resume() });
    call.onCancel(() => this.#inbox.close(new Unreachable("the stream was given up")));
    const next = () => this.#inbox.next();
    flow(server, { call, next, send: (bytes) => void controls.send(bytes) }).then(
      () => controls.end(),
      // What a flow makes of a stream that its peer has given up is nobody's fault, and nobody hears of it.
      (error) => (call.cancelled && error instanceof Unreachable ? controls.end() : controls.fail(error)),
    );
  }

  message(message: Bytes): boolean {
    this.#inbox.push(message);
    return !this.#inbox.paused;
  }

  end(): void {
    this.#inbox.end();
  }
}

function replicate(timings: Timings | undefined): UploadFlow {
  return (server, { call, next, send }) => {
    const timer = new EntryTimer(timings);
    return server.replicate(shardOf(call), {
      next: async () => {
        const bytes = await next();
        if (bytes === undefined) return undefined;
        const append = decodeAppend(bytes);
        timer.came(append.entry?.offset);
        return append;
      },
      send: (ack) => {
        timer.acked(ack.offset);
        send(encodeAck(ack));
      },
    });
  };
}

const sendSnapshot: UploadFlow = async (server, { call, next, send }) => {
  const { ackOffset } = await server.sendSnapshot(shardOf(call), {
    next: async () => {
      const bytes = await next();
      return bytes === undefined ? undefined : snapshotChunk(decode(SnapshotChunkSchema, bytes));
    },
  });
  send(toBinary(SnapshotResponseSchema, create(SnapshotResponseSchema, { ackOffset: BigInt(ackOffset) })));
};

function takeAssignments({
  authorityValidation,
  onCoordinator,
}: Required<Pick<InternalOptions, "authorityValidation" | "onCoordinator">>): UploadFlow {
  return async (server, { next, send }) => {
    onCoordinator(1);
    try {
      for (let bytes = await next(); bytes !== undefined; bytes = await next()) {
        const set = assignments(decode(ShardAssignmentsSchema, bytes));
        // a set with neither namespaces nor authorities counts for none, so it is left as it is
        server.takeAssignments(
          authorityValidation || set.namespaces.size === 0 ? set : { ...set, allowedAuthorities: [] },
        );
      }
    } finally {
      onCoordinator(-1);
    }
    send(toBinary(CoordinationShardAssignmentsResponseSchema, create(CoordinationShardAssignmentsResponseSchema)));
  };
}

/** What the headers of a stream say it is about. Throws MISSING_METADATA, INVALID_ARGUMENT, UNIMPLEMENTED for a split. */
function shardOf(call: Call): ShardTerm {
  if (call.header("split-hash-range-min").length > 0 || call.header("split-hash-range-max").length > 0) {
    throw new Refusal("UNIMPLEMENTED", "replicating a part of a shard is not supported");
  }
  const namespace = requireSingle(call, "namespace");
  if (namespace === "") throw new Refusal("INVALID_ARGUMENT", "namespace must not be empty");
  const shard = integer("shard-id", requireSingle(call, "shard-id"));
  const [term] = call.header("term");
  return { namespace, shard, term: term === undefined ? -1 : integer("term", term) };
}

function requireSingle(call: Call, name: string): string {
  const values = call.header(name);
  if (values.length === 1) return values[0]!;
  const text = `Request must include '${name}' metadata field`;
  throw new Refusal("MISSING_METADATA", values.length === 0 ? text : `${text} only once`);
}

function integer(name: string, text: string): number {
  const value = Number(text);
  if (/^-?\d+$/.test(text) && Number.isSafeInteger(value) && value >= -1) return value;
  throw new Refusal("MISSING_METADATA", `'${name}' metadata field: expected integer, got ${JSON.stringify(text)}`);
}

function decode<Schema extends DescMessage>(schema: Schema, bytes: Bytes): MessageShape<Schema> {
  try {
    return fromBinary(schema, bytes);
  } catch (cause) {
    throw new Refusal("INVALID_ARGUMENT", `malformed ${schema.typeName}`, { cause });
  }
}
