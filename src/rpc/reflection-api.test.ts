import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { listenForTest, type TestListener } from "../../test/harness/rpc-server.ts";
import { Health } from "../gen/grpc/health/v1/health_pb.ts";
import { type ServerReflectionRequest, ServerReflection as V1 } from "../gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as V1Alpha } from "../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { OxiaClient } from "../gen/io/oxia/proto/v1/client_pb.ts";
import { OxiaClient as LegacyOxiaClient } from "../gen/io/streamnative/oxia/proto/client_pb.ts";
import { Code } from "./code.ts";
import { reflectionMethods } from "./reflection-api.ts";

let listener: TestListener;
beforeEach(async () => {
  listener = await listenForTest(reflectionMethods([OxiaClient, LegacyOxiaClient, Health]));
});
afterEach(() => listener.close({ graceMs: 0 }));

type Question = ServerReflectionRequest["messageRequest"];

/** Asks all questions on one stream. */
async function ask(questions: Question[], service: typeof V1 | typeof V1Alpha = V1) {
  const client = createClient(service as typeof V1, createGrpcTransport({ baseUrl: `http://${listener.address}` }));
  async function* requests() {
    for (const messageRequest of questions) yield { host: "h", messageRequest };
  }
  const answers = [];
  for await (const response of client.serverReflectionInfo(requests())) answers.push(response);
  return answers;
}

async function filesFor(question: Question): Promise<string[]> {
  const [answer] = await ask([question]);
  if (answer?.messageResponse.case !== "fileDescriptorResponse") return [];
  return answer.messageResponse.value.fileDescriptorProto.map(
    (bytes) => fromBinary(FileDescriptorProtoSchema, bytes).name,
  );
}

const CLIENT_FILE = "io/oxia/proto/v1/client.proto";

describe("reflection", () => {
  for (const service of [V1, V1Alpha]) {
    test(`${service.typeName} lists both names of the client service`, async () => {
      const [answer] = await ask([{ case: "listServices", value: "" }], service);
      const { messageResponse } = answer!;
      const names = messageResponse.case === "listServicesResponse" ? messageResponse.value.service : [];
      expect(names.map(({ name }) => name)).toEqual([
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "io.oxia.proto.v1.OxiaClient",
        "io.streamnative.oxia.proto.OxiaClient",
      ]);
    });
  }

  test("finds the file of a service, method, message, nested message, field, enum and enum value", async () => {
    const symbols = {
      "io.oxia.proto.v1.OxiaClient": CLIENT_FILE,
      "io.oxia.proto.v1.OxiaClient.Write": CLIENT_FILE,
      "io.oxia.proto.v1.PutRequest": CLIENT_FILE,
      "io.oxia.proto.v1.PutRequest.key": CLIENT_FILE,
      "io.oxia.proto.v1.Status": CLIENT_FILE,
      "io.oxia.proto.v1.OK": CLIENT_FILE,
      "grpc.health.v1.HealthCheckResponse.ServingStatus": "grpc/health/v1/health.proto",
      "grpc.health.v1.HealthCheckResponse.SERVING": "grpc/health/v1/health.proto",
    };
    for (const [value, file] of Object.entries(symbols)) {
      expect(await filesFor({ case: "fileContainingSymbol", value })).toEqual([file]);
    }
  });

  test("sends the files that a file imports with it", async () => {
    const legacy = await filesFor({ case: "fileContainingSymbol", value: LegacyOxiaClient.typeName });
    expect(legacy).toEqual(["io/streamnative/oxia/proto/client.proto", CLIENT_FILE]);
    expect(await filesFor({ case: "fileByFilename", value: CLIENT_FILE })).toEqual([CLIENT_FILE]);
  });

  test("does not send an imported file twice on one stream", async () => {
    const question: Question = { case: "fileContainingSymbol", value: LegacyOxiaClient.typeName };
    const counts = (await ask([question, question])).map(({ messageResponse }) =>
      messageResponse.case === "fileDescriptorResponse" ? messageResponse.value.fileDescriptorProto.length : -1,
    );
    expect(counts).toEqual([2, 1]);
  });

  test("publishes keys as strings", async () => {
    const [answer] = await ask([{ case: "fileByFilename", value: CLIENT_FILE }]);
    const { messageResponse } = answer!;
    if (messageResponse.case !== "fileDescriptorResponse") throw new Error(messageResponse.case);
    const file = fromBinary(FileDescriptorProtoSchema, messageResponse.value.fileDescriptorProto[0]!);
    const key = file.messageType.find(({ name }) => name === "PutRequest")!.field.find(({ name }) => name === "key")!;
    expect(key.type).toBe(9); // TYPE_STRING
  });

  test("answers what it does not know with NOT_FOUND or INVALID_ARGUMENT, and goes on", async () => {
    const answers = await ask([
      { case: "fileContainingSymbol", value: "no.Such" },
      { case: "fileByFilename", value: "no.proto" },
      { case: "allExtensionNumbersOfType", value: "no.Such" },
      { case: "fileContainingExtension", value: { containingType: "no.Such", extensionNumber: 1 } as never },
      { case: undefined },
      { case: "allExtensionNumbersOfType", value: "io.oxia.proto.v1.PutRequest" },
    ]);
    const codes = answers.map(({ messageResponse }) =>
      messageResponse.case === "errorResponse" ? messageResponse.value.errorCode : messageResponse.case,
    );
    const notFound = [Code.NOT_FOUND, Code.NOT_FOUND, Code.NOT_FOUND, Code.NOT_FOUND];
    expect<unknown[]>(codes).toEqual([...notFound, Code.INVALID_ARGUMENT, "allExtensionNumbersResponse"]);
    expect(answers.every(({ validHost, originalRequest }) => validHost === "h" && originalRequest?.host === "h")).toBe(
      true,
    );
  });
});
