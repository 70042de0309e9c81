import { describe, expect, test } from "bun:test";
import { fromBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { ErrorInfoSchema } from "../gen/google/rpc/error_details_pb.ts";
import { StatusSchema } from "../gen/google/rpc/status_pb.ts";
import { AssertionError } from "../lib/assert.ts";
import { STATUS_MESSAGE_CHARS_MAX } from "../model/limits.ts";
import { type Reason, Refusal } from "../model/refusal.ts";
import type { Logger } from "../ports.ts";
import { CODE_NAMES, Code, StatusError } from "./code.ts";
import { grpcTrailers, percentEncode, REASONS, statusOf } from "./status.ts";

const logged: string[] = [];
const note = (_fields: unknown, message: string) => void logged.push(message);
const logger: Logger = { debug: note, info: note, warn: note, error: note };
const trailersOf = (error: unknown) => grpcTrailers(statusOf(error, "/a.B/C", logger));

function details(trailers: Record<string, string>) {
  const bytes = Buffer.from(trailers["grpc-status-details-bin"]!, "base64");
  const status = fromBinary(StatusSchema, bytes);
  return { status, info: fromBinary(ErrorInfoSchema, status.details[0]!.value) };
}

describe("a typed refusal", () => {
  /** Code and text by reason, as the reference has them. */
  const typed: Partial<Record<Reason, [string, string]>> = {
    ABORTED: ["ABORTED", "oxia: operation was aborted"],
    INVALID_SESSION_TIMEOUT: ["INVALID_ARGUMENT", "oxia: invalid session timeout"],
    SESSION_NOT_FOUND: ["NOT_FOUND", "oxia: session not found"],
    NAMESPACE_NOT_FOUND: ["NOT_FOUND", "oxia: namespace not found"],
    SHARD_NOT_FOUND: ["NOT_FOUND", "oxia: shard not found"],
    INVALID_TERM: ["FAILED_PRECONDITION", "oxia: invalid term"],
    INVALID_STATUS: ["FAILED_PRECONDITION", "oxia: invalid status"],
    NOTIFICATIONS_NOT_ENABLED: ["FAILED_PRECONDITION", "oxia: notifications not enabled on namespace"],
    NODE_IS_NOT_MEMBER: ["ABORTED", "oxia: node is not a member"],
    NODE_IS_NOT_LEADER: ["ABORTED", "oxia: node is not leader"],
    NOT_INITIALIZED: ["UNAVAILABLE", "oxia: server not initialized yet"],
    RESOURCE_CONFLICT: ["FAILED_PRECONDITION", "oxia: resource conflict"],
    RESOURCE_UNAVAILABLE: ["UNAVAILABLE", "oxia: resource unavailable"],
    UNKNOWN: ["ABORTED", "oxia: unknown"],
  };
  for (const [reason, [code, message]] of Object.entries(typed)) {
    test(`${reason} is ${code} with ErrorInfo of that reason`, () => {
      const trailers = trailersOf(new Refusal(reason as Reason, ""));
      expect(CODE_NAMES[Number(trailers["grpc-status"])]).toBe(code);
      expect(trailers["grpc-message"]).toBe(message);
      const { status, info } = details(trailers);
      expect([status.code, status.message]).toEqual([Number(trailers["grpc-status"]), message]);
      expect(status.details.map((any) => any.typeUrl)).toEqual(["type.googleapis.com/google.rpc.ErrorInfo"]);
      expect([info.reason, info.domain, info.metadata]).toEqual([reason, "oxia.io", {}]);
    });
  }

  test("puts its own message before the text of its reason, once", () => {
    const messages = ["timeoutMs=5", "timeoutMs=5: oxia: invalid session timeout"];
    for (const message of messages) {
      expect(trailersOf(new Refusal("INVALID_SESSION_TIMEOUT", message))["grpc-message"]).toBe(messages[1]!);
    }
  });

  test("carries the leader hint as metadata, shard in decimal", () => {
    const hint = { shard: 12, leader: "host:1" };
    expect(details(trailersOf(new Refusal("NODE_IS_NOT_LEADER", "", { hint }))).info.metadata).toEqual({
      shard: "12",
      leader: "host:1",
    });
  });

  test("is retryable exactly when the Go client retries it", () => {
    const retried = Object.entries(REASONS).filter(([, row]) => row.retryable && row.text !== undefined);
    expect(retried.map(([reason]) => reason).sort()).toEqual([
      "ABORTED",
      "NODE_IS_NOT_LEADER",
      "NODE_IS_NOT_MEMBER",
      "NOT_INITIALIZED",
      "RESOURCE_UNAVAILABLE",
    ]);
  });
});

test("a plain refusal is a code and its message", () => {
  const plain: Partial<Record<Reason, string>> = {
    INVALID_ARGUMENT: "INVALID_ARGUMENT",
    NOT_FOUND: "NOT_FOUND",
    ALREADY_EXISTS: "ALREADY_EXISTS",
    CONCURRENT_CHANGE: "ABORTED",
    STORE_FAILED: "INTERNAL",
    PERMISSION_DENIED: "PERMISSION_DENIED",
    RESOURCE_EXHAUSTED: "RESOURCE_EXHAUSTED",
    DATA_LOSS: "DATA_LOSS",
    UNIMPLEMENTED: "UNIMPLEMENTED",
    FAILED_PRECONDITION: "FAILED_PRECONDITION",
    MISSING_METADATA: "UNKNOWN",
  };
  for (const [reason, code] of Object.entries(plain)) {
    const trailers = trailersOf(new Refusal(reason as Reason, "why"));
    expect(trailers).toEqual({ "grpc-status": String(CODE_NAMES.indexOf(code)), "grpc-message": "why" });
  }
});

test("an error of the serving layer has its code, message and further trailers", () => {
  const trailers = trailersOf(new StatusError(Code.UNIMPLEMENTED, "no", { "grpc-accept-encoding": "identity" }));
  expect(trailers).toEqual({ "grpc-status": "12", "grpc-message": "no", "grpc-accept-encoding": "identity" });
});

test("anything else is INTERNAL with a constant text, logged once", () => {
  for (const fault of [new Error("secret"), new AssertionError("secret", []), "secret", undefined, null]) {
    logged.length = 0;
    expect(trailersOf(fault)).toEqual({ "grpc-status": "13", "grpc-message": "internal error" });
    expect(logged).toEqual(["a call failed by a fault of this server"]);
  }
});

describe("grpc-message", () => {
  test("is printable ASCII, and decodes to the text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", maxLength: 100 }), (text) => {
        const encoded = percentEncode(text);
        expect(encoded).toMatch(/^[\x20-\x7e]*$/);
        expect(decodeURIComponent(encoded)).toBe(text);
      }),
    );
  });

  test("is cut when it is long, so that trailers stay within what clients accept", () => {
    const encoded = percentEncode("€".repeat(100_000));
    expect(decodeURIComponent(encoded)).toBe("€".repeat(STATUS_MESSAGE_CHARS_MAX));
    expect(encoded.length).toBeLessThan(8 * 1024);
  });

  test("of text that is not Unicode is replacement characters", () => {
    expect(decodeURIComponent(percentEncode("a\ud800b"))).toBe("a\ufffdb");
  });
});
