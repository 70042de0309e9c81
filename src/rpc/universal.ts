/**
 * Requests of node:http and node:http2 as Connect's handlers take them, and their responses back.
 *
 * A body is metered: its chunks count against the node's budget of request bytes while Connect gathers them.
 * `content-length` is left out, since Connect would set aside as much memory as it declares.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from "node:http2";
import { Readable, type Writable } from "node:stream";
import { ConnectError, createContextKey, createContextValues } from "@connectrpc/connect";
import type { UniversalServerRequest, UniversalServerResponse } from "@connectrpc/connect/protocol";
import type { RequestBudget } from "./budget.ts";
import { Code, StatusError } from "./code.ts";

/** What Connect's own context does not have. */
export interface Origin {
  readonly peer: string;
  readonly authority: string | undefined;
  /** Header names and values in turn, as they came. */
  readonly headers: readonly string[];
  readonly body: BodyMeter;
}

export const originKey = createContextKey<Origin | undefined>(undefined);

/** Memory that a chunk takes beside its bytes. */
const CHUNK_OVERHEAD_BYTES = 256;
const TOO_MANY_BYTES = "too many bytes of requests in flight";

/** Counts what one request holds: chunks of its body on their way to Connect, and messages with its handler. */
export class BodyMeter {
  readonly #budget: RequestBudget;
  #chunks = 0;
  #last = 0;

  constructor(budget: RequestBudget) {
    this.#budget = budget;
  }

  /** A chunk came in. Throws RESOURCE_EXHAUSTED when the node holds too many bytes of requests. */
  chunk(bytes: number): void {
    const charge = bytes + CHUNK_OVERHEAD_BYTES;
    if (!this.#budget.take(charge)) throw new ConnectError(TOO_MANY_BYTES, Code.RESOURCE_EXHAUSTED);
    this.#chunks += charge;
    this.#last = charge;
  }

  /** A message of `bytes` goes to its handler: of the body, at most the last chunk is left. Throws RESOURCE_EXHAUSTED. */
  hold(bytes: number): void {
    this.#release(this.#chunks - this.#last);
    if (!this.#budget.take(bytes)) throw new StatusError(Code.RESOURCE_EXHAUSTED, TOO_MANY_BYTES);
  }

  /** A message of `bytes` is answered, or its call has ended. */
  unhold(bytes: number): void {
    this.#budget.give(bytes);
  }

  /** No more of the body is wanted. */
  done(): void {
    this.#release(this.#chunks);
  }

  #release(bytes: number): void {
    if (bytes <= 0) return;
    this.#chunks -= bytes;
    this.#budget.give(bytes);
  }
}

export function fromHttp1(request: IncomingMessage, response: ServerResponse, body: BodyMeter): UniversalServerRequest {
  const abort = new AbortController();
  response.once("close", () => abort.abort());
  const { host } = request.headers;
  const origin = {
    peer: request.socket.remoteAddress ?? "",
    authority: host,
    headers: lowerNames(request.rawHeaders),
    body,
  };
  return universal(request.httpVersion, request.method ?? "", request.url ?? "/", request, abort.signal, origin);
}

export function fromHttp2(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  raw: readonly string[],
  peer: string,
  body: BodyMeter,
): UniversalServerRequest {
  const abort = new AbortController();
  stream.once("close", () => abort.abort());
  const authority = (headers[":authority"] as string | undefined) ?? headers.host;
  const origin = { peer, authority, headers: raw, body };
  return universal("2.0", String(headers[":method"]), String(headers[":path"]), stream, abort.signal, origin);
}

/** A request as the HTTP port of a server takes it. */
export function fromFetch(request: Request, peer: string, body: BodyMeter): UniversalServerRequest {
  const headers = [...request.headers].flat();
  const origin = { peer, authority: request.headers.get("host") ?? undefined, headers, body };
  const source = request.body === null ? Readable.from([]) : Readable.fromWeb(request.body as never);
  return universal("1.1", request.method, new URL(request.url).pathname, source, request.signal, origin);
}

function universal(
  httpVersion: string,
  method: string,
  path: string,
  source: Readable,
  signal: AbortSignal,
  origin: Origin,
): UniversalServerRequest {
  const header = new Headers();
  for (let i = 0; i < origin.headers.length; i += 2) {
    const name = origin.headers[i]!;
    if (!name.startsWith(":") && name !== "content-length") header.append(name, origin.headers[i + 1]!);
  }
  return {
    httpVersion,
    method,
    // the authority is the client's word and need not parse; handlers find it in the origin
    url: `http://localhost${path.startsWith("/") ? path : "/"}`,
    header,
    body: metered(source, origin.body),
    signal,
    contextValues: createContextValues().set(originKey, origin),
  };
}

async function* metered(source: Readable, meter: BodyMeter): AsyncIterable<Uint8Array> {
  // the stream outlives its body: the response goes out on it
  for await (const chunk of source.iterator({ destroyOnReturn: false })) {
    meter.chunk(chunk.length);
    yield chunk;
  }
}

function lowerNames(headers: readonly string[]): string[] {
  return headers.map((text, i) => (i % 2 === 0 ? text.toLowerCase() : text));
}

/** Writes a response at the pace of its reader. Ends quietly when the peer has gone; rejects when the body fails. */
export async function respondHttp1(from: UniversalServerResponse, request: IncomingMessage, to: ServerResponse) {
  const head = () => {
    if (!to.headersSent) to.writeHead(from.status, plain(from.header));
  };
  await pipe(from, to, head);
  request.resume(); // what is left of the body, if it was not read
}

/** See respondHttp1. */
export async function respondHttp2(from: UniversalServerResponse, to: ServerHttp2Stream) {
  const head = () => {
    if (!to.headersSent) to.respond({ ...plain(from.header), ":status": from.status });
  };
  to.once("finish", () => {
    if (!to.readableEnded && !to.closed && !to.destroyed) to.close(constants.NGHTTP2_NO_ERROR);
  });
  await pipe(from, to, head);
}

async function pipe(from: UniversalServerResponse, to: Writable, head: () => void): Promise<void> {
  const gone = new Promise<void>((resolve) => to.once("close", resolve));
  const alive = () => !to.destroyed && !to.closed;
  for await (const chunk of from.body ?? []) {
    if (!alive()) return;
    head(); // after the first chunk is there: handlers set headers up to then
    if (!to.write(chunk)) await Promise.race([gone, new Promise<void>((resolve) => to.once("drain", resolve))]);
  }
  if (!alive()) return;
  head();
  to.end();
}

function plain(headers: Headers | undefined): Record<string, string> {
  const result: Record<string, string> = {};
  headers?.forEach((value, name) => {
    result[name] = value;
  });
  return result;
}
