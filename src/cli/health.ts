/** `varia health`: whether a server serves, as gRPC health says: for probes and scripts. Oxia's flags. */
import { create } from "@bufbuild/protobuf";
import { type Command, Option } from "commander";
import {
  HealthCheckRequestSchema,
  HealthCheckResponse_ServingStatus,
  Health as HealthService,
} from "../gen/grpc/health/v1/health_pb.ts";
import { callOnce } from "./admin-connection.ts";
import { durationFlag, integerFlag } from "./client-connection.ts";
import { examples } from "./examples.ts";
import { EXIT, ExitError } from "./exit.ts";
import { hostPort } from "./run-server.ts";

interface HealthFlags {
  readonly host: string;
  readonly port: number;
  readonly service: string;
  readonly timeout: number;
}

export function addHealthCommand(program: Command): void {
  program
    .command("health")
    .description("Ask a server whether it serves; exit code 1 unless it does.")
    .addOption(new Option("--host <host>", "where it runs").default("", "this machine"))
    .addOption(
      new Option("--port <port>", "its internal or public port").default(6649).argParser(integerFlag(1, 65_535)),
    )
    .addOption(
      new Option("--service <name>", "oxia-readiness: whether a data server is ready").default("", "the process"),
    )
    .addOption(new Option("--timeout <duration>", "time for the answer").default(10_000, "10s").argParser(durationFlag))
    .addHelpText(
      "after",
      examples(
        "varia health                                   the data server on this machine",
        "varia health --port 6651                       the coordinator",
        "varia health --host h1 --service oxia-readiness --timeout 2s",
      ),
    )
    .action(async (flags: HealthFlags) => askHealth(flags));
}

async function askHealth({ host, port, service, timeout }: HealthFlags): Promise<void> {
  const address = hostPort(host === "" ? "localhost" : host, port);
  const request = create(HealthCheckRequestSchema, { service });
  const answer = callOnce(address, HealthService.method.check, request, { timeoutMs: timeout });
  const { status } = await answer.catch((cause: Error) => {
    throw new ExitError(EXIT.failure, cause.message, { cause });
  });
  const names = Object.entries(HealthCheckResponse_ServingStatus);
  const name = names.find(([, number]) => number === status)?.[0] ?? String(status);
  console.log(name);
  if (status !== HealthCheckResponse_ServingStatus.SERVING) process.exitCode = EXIT.failure;
}
