/** What all commands that talk to a coordinator share: its flags, one call, and how errors end a command. */
import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Command, Option } from "commander";
import type { CallStatus } from "../client/call-status.ts";
import { GrpcCode } from "../client/grpc-code.ts";
import { Http2Transport } from "../client/http2-transport.ts";
import { Inbox } from "../lib/inbox.ts";
import { Unreachable } from "../model/refusal.ts";
import { systemClock } from "../ops/clock.ts";
import { NOTE_HEADER } from "../rpc/audit.ts";
import { callPeer, framed, type PeerMethod } from "../rpc/peer-call.ts";
import { authToken, type TokenFlags, tokenAdvice } from "./auth-token.ts";
import { durationFlag } from "./client-connection.ts";
import { EXIT, type ExitCode, ExitError } from "./exit.ts";
import { OUTPUT_FORMS_OF_NAMED, type OutputForm } from "./output.ts";

/** Messages of a stream that are not read yet: more wait where they come from. */
const STREAM_UNREAD_MAX = 64;

export interface AdminFlags extends TokenFlags {
  readonly adminAddress: string;
  readonly output: Exclude<OutputForm, "oxia">;
  readonly requestTimeout: number;
  readonly dryRun?: boolean;
  readonly note?: string;
}

/** Adds the flags for reaching a coordinator, and for the form of what is printed. */
export function addAdminFlags(command: Command): Command {
  return command
    .addOption(
      new Option("--admin-address <host:port>", "the coordinator's admin port")
        .default("localhost:6651")
        .env("VARIA_ADMIN_ADDRESS"),
    )
    .addOption(new Option("-o, --output <form>", "how it is printed").choices(OUTPUT_FORMS_OF_NAMED).default("table"))
    .addOption(
      new Option("--request-timeout <duration>", "time for one request").default(30_000, "30s").argParser(durationFlag),
    )
    .addOption(
      new Option("--auth-token <token>", "bearer token (a file or the environment keeps it out of process lists)").env(
        "VARIA_AUTH_TOKEN",
      ),
    )
    .option("--auth-token-file <path>", "file that holds the bearer token");
}

/** For commands that change something. */
export function addDryRun(command: Command): Command {
  return command.option("--dry-run", "say what would be changed, and change nothing");
}

/** Whether nothing is to be changed: then says what would be. */
export function isDryRun({ dryRun = false }: AdminFlags, ...lines: readonly string[]): boolean {
  if (dryRun) console.error([...lines, "Nothing was changed."].join("\n"));
  return dryRun;
}

/** One call of the coordinator. Rejects with an ExitError. `timeoutMs`: in place of the flag's. */
export async function callAdmin<I extends DescMessage, O extends DescMessage>(
  flags: AdminFlags,
  method: PeerMethod<I, O>,
  request: MessageInitShape<I>,
  timeoutMs = flags.requestTimeout,
): Promise<MessageShape<O>> {
  const options = { timeoutMs, headers: headersOf(flags), advice: adviceFor(flags) };
  return callOnce(flags.adminAddress, method, create(method.input, request), options);
}

/** The messages that answer one call of the coordinator, until `signal` is aborted. Rejects with an ExitError. */
export async function* streamAdmin<I extends DescMessage, O extends DescMessage>(
  flags: AdminFlags,
  method: PeerMethod<I, O>,
  request: MessageInitShape<I>,
  signal: AbortSignal,
): AsyncGenerator<MessageShape<O>, void, undefined> {
  const transport = new Http2Transport();
  const headers = headersOf(flags);
  const inbox = new Inbox<MessageShape<O>>(STREAM_UNREAD_MAX, {
    pause: () => call.pause(),
    resume: () => call.resume(),
  });
  const errorOf = (status: CallStatus) =>
    exitErrorOf(status, { advice: adviceFor(flags), hasToken: headers.authorization !== undefined });
  const call = transport.open(
    {
      ...{ address: flags.adminAddress, path: `/${method.parent.typeName}/${method.name}`, headers },
      message: framed(toBinary(method.input, create(method.input, request))),
    },
    {
      message: (bytes) => inbox.push(fromBinary(method.output, bytes)),
      drained: () => {},
      ended: (status) => inbox.end(status.code === GrpcCode.ok ? undefined : errorOf(status)),
    },
  );
  signal.addEventListener("abort", () => inbox.end(undefined), { once: true });
  try {
    for (let message = await inbox.next(); message !== undefined; message = await inbox.next()) yield message;
  } finally {
    transport.close();
  }
}

function headersOf(flags: AdminFlags): Record<string, string> {
  const token = authToken(flags);
  return {
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    ...(flags.note === undefined ? {} : { [NOTE_HEADER]: encodeURIComponent(flags.note) }),
  };
}

function adviceFor({ adminAddress }: AdminFlags): string {
  return `Nothing answers at ${adminAddress}: name the coordinator with --admin-address.`;
}

export interface OnceOptions {
  readonly timeoutMs: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Said when nobody is there. */
  readonly advice?: string;
}

/** One call on a connection of its own. Rejects with an ExitError. */
export async function callOnce<I extends DescMessage, O extends DescMessage>(
  address: string,
  method: PeerMethod<I, O>,
  request: MessageShape<I>,
  { timeoutMs, headers = {}, advice = "" }: OnceOptions,
): Promise<MessageShape<O>> {
  const transport = new Http2Transport();
  const ports = { transport, clock: systemClock, instanceId: () => undefined };
  const errorOf = (_: string, status: CallStatus) =>
    exitErrorOf(status, { advice, hasToken: headers.authorization !== undefined });
  const call = { server: address, limits: { timeoutMs: Math.max(1, timeoutMs) }, headers, errorOf };
  try {
    return await callPeer(ports, method, call, request);
  } catch (error) {
    if (!(error instanceof Unreachable)) throw error;
    throw new ExitError(EXIT.unavailable, error.message, { cause: error });
  } finally {
    transport.close();
  }
}

function exitErrorOf(
  { code, message }: CallStatus,
  { advice, hasToken }: { readonly advice: string; readonly hasToken: boolean },
): ExitError {
  const exit = EXITS.get(code) ?? EXIT.failure;
  if (code === GrpcCode.unauthenticated) return new ExitError(exit, tokenAdvice(hasToken) ?? message);
  const isAbsent = message.includes("ECONNREFUSED") || message.includes("ENOTFOUND");
  return new ExitError(exit, isAbsent && advice !== "" ? `${message}\n${advice}` : message);
}

const EXITS: ReadonlyMap<number, ExitCode> = new Map<number, ExitCode>([
  [GrpcCode.invalidArgument, EXIT.usage],
  [GrpcCode.notFound, EXIT.notFound],
  [GrpcCode.unavailable, EXIT.unavailable],
  [GrpcCode.deadlineExceeded, EXIT.unavailable],
  [GrpcCode.unauthenticated, EXIT.notAllowed],
  [GrpcCode.permissionDenied, EXIT.notAllowed],
]);
