/**
 * gRPC server reflection, v1 and v1alpha, from the generated descriptors: tools such as grpcurl ask it what is served.
 * The two versions have the same messages on the wire, so one handler over those of v1 serves both.
 *
 * Source: gRPC, doc/server-reflection.md.
 */
import {
  create,
  type DescExtension,
  type DescFile,
  type DescMessage,
  type DescService,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import {
  ServerReflectionRequestSchema,
  ServerReflectionResponseSchema,
  ServerReflection as ServerReflectionV1,
} from "../gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as ServerReflectionV1Alpha } from "../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { Code, StatusError } from "./code.ts";
import type { ServedMethod } from "./method.ts";
import { typedBidi } from "./typed.ts";

type Request = MessageShape<typeof ServerReflectionRequestSchema>;
type Answer = NonNullable<MessageInitShape<typeof ServerReflectionResponseSchema>["messageResponse"]>;

/** The methods of both versions, which describe `services` and themselves. */
export function reflectionMethods(services: readonly DescService[]): ServedMethod[] {
  const schema = new Schema([...services, ServerReflectionV1, ServerReflectionV1Alpha]);
  const method = typedBidi(ServerReflectionRequestSchema, ServerReflectionResponseSchema, (_call, controls) => {
    const sent = new Set<DescFile>();
    let choked = false;
    return {
      message(request) {
        const messageResponse = answer(schema, request, sent);
        const response = { validHost: request.host, originalRequest: request, messageResponse };
        choked = !controls.send(create(ServerReflectionResponseSchema, response));
        if (choked) controls.drained().then(controls.resume, () => {});
        return !choked;
      },
      end: () => controls.end(),
    };
  });
  return [ServerReflectionV1, ServerReflectionV1Alpha].map((service) => ({
    paths: [`/${service.typeName}/${service.method.serverReflectionInfo.name}`],
    binary: service.method.serverReflectionInfo,
    json: service.method.serverReflectionInfo,
    method,
  }));
}

/** Answers one question; what has no answer is an error response, not the end of the stream. */
function answer(schema: Schema, { messageRequest }: Request, sent: Set<DescFile>): Answer {
  try {
    switch (messageRequest.case) {
      case "listServices":
        return { case: "listServicesResponse", value: { service: schema.serviceNames.map((name) => ({ name })) } };
      case "fileByFilename":
        return files(schema.file(messageRequest.value), sent);
      case "fileContainingSymbol":
        return files(schema.fileOfSymbol(messageRequest.value), sent);
      case "fileContainingExtension": {
        const { containingType, extensionNumber } = messageRequest.value;
        const found = schema.extensions(containingType).find(({ number }) => number === extensionNumber);
        return files(found?.file, sent);
      }
      case "allExtensionNumbersOfType": {
        const baseTypeName = messageRequest.value;
        const extensionNumber = schema.extensions(baseTypeName).map(({ number }) => number);
        return { case: "allExtensionNumbersResponse", value: { baseTypeName, extensionNumber } };
      }
      default:
        throw new StatusError(Code.INVALID_ARGUMENT, "unknown question");
    }
  } catch (error) {
    if (!(error instanceof StatusError)) throw error;
    return { case: "errorResponse", value: { errorCode: error.code, errorMessage: error.message } };
  }
}

/** `file` and what it imports, without those that the stream has seen. */
function files(file: DescFile | undefined, sent: Set<DescFile>): Answer {
  if (file === undefined) throw new StatusError(Code.NOT_FOUND, "not found");
  const fileDescriptorProto: Uint8Array[] = [];
  const add = (next: DescFile) => {
    if (sent.has(next) && next !== file) return;
    sent.add(next);
    fileDescriptorProto.push(toBinary(FileDescriptorProtoSchema, next.proto));
    for (const dependency of next.dependencies) add(dependency);
  };
  add(file);
  return { case: "fileDescriptorResponse", value: { fileDescriptorProto } };
}

/** What the services are declared with: their files, and all that those import. */
class Schema {
  readonly serviceNames: readonly string[];
  readonly #files = new Map<string, DescFile>();
  readonly #symbols = new Map<string, DescFile>();
  /** By the name of the message that they extend. */
  readonly #extensions = new Map<string, DescExtension[]>();

  constructor(services: readonly DescService[]) {
    this.serviceNames = [...new Set(services.map(({ typeName }) => typeName))].sort();
    for (const { file } of services) this.#addFile(file);
  }

  file(name: string): DescFile | undefined {
    return this.#files.get(name);
  }

  /** The file that declares a service, method, message, field, enum, enum value or extension. */
  fileOfSymbol(name: string): DescFile | undefined {
    return this.#symbols.get(name.startsWith(".") ? name.slice(1) : name);
  }

  /** Refuses what is no known message with NOT_FOUND. */
  extensions(message: string): readonly DescExtension[] {
    if (!this.#symbols.has(message)) throw new StatusError(Code.NOT_FOUND, "not found");
    return this.#extensions.get(message) ?? [];
  }

  #addFile(file: DescFile): void {
    const name = file.proto.name;
    if (this.#files.has(name)) return;
    this.#files.set(name, file);
    for (const dependency of file.dependencies) this.#addFile(dependency);
    for (const service of file.services) {
      this.#symbols.set(service.typeName, file);
      for (const method of service.methods) this.#symbols.set(`${service.typeName}.${method.name}`, file);
    }
    this.#addTypes(file, file);
  }

  #addTypes(scope: DescFile | DescMessage, file: DescFile): void {
    for (const message of scope.kind === "file" ? scope.messages : scope.nestedMessages) {
      this.#symbols.set(message.typeName, file);
      for (const field of message.fields) this.#symbols.set(`${message.typeName}.${field.name}`, file);
      this.#addTypes(message, file);
    }
    for (const enumeration of scope.kind === "file" ? scope.enums : scope.nestedEnums) {
      this.#symbols.set(enumeration.typeName, file);
      const around = enumeration.typeName.slice(0, -enumeration.name.length); // values live beside their enum
      for (const value of enumeration.values) this.#symbols.set(`${around}${value.name}`, file);
    }
    for (const extension of scope.kind === "file" ? scope.extensions : scope.nestedExtensions) {
      this.#symbols.set(extension.typeName, file);
      const { typeName } = extension.extendee;
      this.#extensions.set(typeName, [...(this.#extensions.get(typeName) ?? []), extension]);
    }
  }
}
