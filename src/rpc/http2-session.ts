/**
 * What node:http2 is told about the connections of a listener, and what it is talked out of.
 */
import type { ServerHttp2Session, ServerOptions } from "node:http2";
import {
  HTTP2_SESSION_MIB_MAX,
  STREAM_RESETS_BURST,
  STREAM_RESETS_PER_S,
  STREAMS_REJECTED_MAX,
} from "../model/limits.ts";

/** Options of a server; the bounds are chosen in model/limits.ts, and not Bun's. */
export function http2Options(limits: {
  readonly streamsPerConnectionMax: number;
  readonly headerBytesMax: number;
}): ServerOptions {
  const options = {
    settings: {
      maxConcurrentStreams: limits.streamsPerConnectionMax,
      maxHeaderListSize: limits.headerBytesMax,
      enableConnectProtocol: false,
    },
    maxSessionMemory: HTTP2_SESSION_MIB_MAX,
    maxSessionRejectedStreams: STREAMS_REJECTED_MAX,
    streamResetBurst: STREAM_RESETS_BURST,
    streamResetRate: STREAM_RESETS_PER_S,
    // our own response headers are well formed: a tenth of an empty call went into checking them for doubles
    strictSingleValueFields: false,
  };
  return options;
}

/**
 * Has a session write its socket once a turn of the event loop. Bun does so at the end of every stream: a system call
 * for each call, a third of what an empty one costs. The handle behind a session is Bun's own affair: where it is not
 * as expected, all is left as it is, and only slower.
 */
export function gatherWrites(session: ServerHttp2Session): void {
  const native = (session as { [NATIVE]?: { flush?: () => unknown } })[NATIVE];
  const flush = native?.flush?.bind(native);
  if (native === undefined || flush === undefined) return;
  let due = false;
  const flushNow = () => {
    due = false;
    flush();
  };
  native.flush = () => {
    if (!due) setImmediate(flushNow);
    due = true;
  };
}

const NATIVE = Symbol.for("::bunhttp2native::");
