/** What all commands that talk to a server as clients share: its flags, the connection, and how errors end a command. */
import { type Command, InvalidArgumentError as InvalidFlag, Option } from "commander";
import type { VariaClient } from "../client/client.ts";
import { connect } from "../client/connect.ts";
import {
  InvalidArgumentError,
  NamespaceNotFoundError,
  RequestTimeoutError,
  ServerError,
  UnexpectedVersionIdError,
} from "../client/errors.ts";
import { GrpcCode } from "../client/grpc-code.ts";
import type { ClientOptions } from "../client/options.ts";
import { parseDurationMs } from "../lib/units.ts";
import { authToken, type TokenFlags, tokenAdvice } from "./auth-token.ts";
import { EXIT, ExitError } from "./exit.ts";

export interface ConnectionFlags extends TokenFlags {
  readonly serviceAddress: string;
  readonly namespace: string;
  readonly requestTimeout: number;
}

/** Adds Oxia's flags for reaching a server. */
export function addConnectionFlags(command: Command): Command {
  return (
    command
      .addOption(
        new Option("-a, --service-address <host:port>", "any server of the cluster")
          .default("localhost:6648")
          .env("VARIA_SERVICE_ADDRESS"),
      )
      .addOption(new Option("-n, --namespace <name>", "namespace").default("default").env("VARIA_NAMESPACE"))
      .addOption(
        new Option("--request-timeout <duration>", "time for one request, retries included")
          .default(30_000, "30s")
          .argParser(durationFlag),
      )
      .addOption(
        new Option(
          "--auth-token <token>",
          "bearer token (a file or the environment keeps it out of process lists)",
        ).env("VARIA_AUTH_TOKEN"),
      )
      .option("--auth-token-file <path>", "file that holds the bearer token")
      // Oxia's clients take these; ours write no log that they could change
      .addOption(new Option("-l, --log-level <level>").hideHelp())
      .addOption(new Option("-j, --log-json").hideHelp())
  );
}

export function durationFlag(text: string): number {
  const ms = parseDurationMs(text);
  if (ms === undefined) throw new InvalidFlag("A duration is a number with a unit, such as 500ms, 30s, 1m30s.");
  return ms;
}

export function integerFlag(min: number, max = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === "" || !Number.isInteger(value) || value < min || value > max) {
      throw new InvalidFlag(`Expected a whole number from ${min} to ${max}.`);
    }
    return value;
  };
}

export function numberFlag(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === "" || !(value >= min && value <= max)) {
      throw new InvalidFlag(`Expected a number from ${min}${max === Number.POSITIVE_INFINITY ? "" : ` to ${max}`}.`);
    }
    return value;
  };
}

/** Connects, runs, closes, and turns the client's errors into exit codes. */
export async function withClient<T>(
  flags: ConnectionFlags,
  options: ClientOptions,
  run: (client: VariaClient) => Promise<T>,
): Promise<T> {
  const token = authToken(flags);
  try {
    const client = await connect({
      serviceAddress: flags.serviceAddress,
      namespace: flags.namespace,
      requestTimeoutMs: Math.max(1, flags.requestTimeout),
      ...(token === undefined ? {} : { authToken: token }),
      ...options,
    });
    try {
      return await run(client);
    } finally {
      await client.close();
    }
  } catch (error) {
    throw exitErrorOf(error, flags);
  }
}

/** `flags`: what the connection was made with. */
export function exitErrorOf(
  error: unknown,
  { serviceAddress, authToken: token, authTokenFile }: Pick<ConnectionFlags, "serviceAddress" | keyof TokenFlags>,
): unknown {
  const end = (code: (typeof EXIT)[keyof typeof EXIT], message: string) =>
    new ExitError(code, message, { cause: error });
  if (error instanceof UnexpectedVersionIdError) return end(EXIT.versionConflict, error.message);
  if (error instanceof NamespaceNotFoundError) return end(EXIT.notFound, error.message);
  if (error instanceof InvalidArgumentError) return end(EXIT.usage, error.message);
  if (error instanceof RequestTimeoutError) return end(EXIT.unavailable, withAdvice(error.message, serviceAddress));
  if (!(error instanceof ServerError)) return error;
  switch (error.grpcCode) {
    case GrpcCode.unavailable:
    case GrpcCode.deadlineExceeded:
      return end(EXIT.unavailable, withAdvice(error.message, serviceAddress));
    case GrpcCode.unauthenticated:
      return end(EXIT.notAllowed, tokenAdvice((token ?? authTokenFile ?? "") !== "") ?? error.message);
    case GrpcCode.permissionDenied:
      return end(EXIT.notAllowed, error.message);
    default:
      return end(EXIT.failure, error.message);
  }
}

function withAdvice(message: string, serviceAddress: string): string {
  if (!message.includes("ECONNREFUSED") && !message.includes("ENOTFOUND")) return message;
  return `${message}\nNothing answers at ${serviceAddress}: start a server with "varia standalone", or name another with -a.`;
}
