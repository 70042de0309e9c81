import { expect, test } from "bun:test";
import fc from "fast-check";
import { refusal } from "../../test/harness/fake-transport.ts";
import { retryDelayMs } from "./backoff.ts";
import { isRetryable, plainStatus, statusFromHttp, statusFromReset, statusFromTrailers } from "./call-status.ts";
import { GrpcCode } from "./grpc-code.ts";

test("reason and leader hint come out of the details", () => {
  const status = refusal(GrpcCode.aborted, "NODE_IS_NOT_LEADER", { shard: "7", leader: "host:6648" });
  expect(status.reason).toBe("NODE_IS_NOT_LEADER");
  expect(status.hint).toEqual({ shard: 7, leader: "host:6648" });
});

test("a hint without a leader, or for no shard, is none", () => {
  expect(refusal(GrpcCode.aborted, "NODE_IS_NOT_LEADER", { shard: "7", leader: "" }).hint).toBeUndefined();
  expect(refusal(GrpcCode.aborted, "NODE_IS_NOT_LEADER", { leader: "host:1" }).hint).toBeUndefined();
  expect(refusal(GrpcCode.aborted, "NODE_IS_NOT_LEADER", { shard: "-1", leader: "host:1" }).hint).toBeUndefined();
});

test("details that cannot be read are as good as none", () => {
  fc.assert(
    fc.property(fc.base64String(), (details) => {
      const status = statusFromTrailers({
        "grpc-status": "14",
        "grpc-message": "x",
        "grpc-status-details-bin": details,
      });
      expect([status?.code, status?.message]).toEqual([14, "x"]);
    }),
  );
});

test("messages are percent-decoded, and left as they are when they cannot be", () => {
  expect(statusFromTrailers({ "grpc-status": "2", "grpc-message": "caf%C3%A9" })?.message).toBe("café");
  expect(statusFromTrailers({ "grpc-status": "2", "grpc-message": "100%" })?.message).toBe("100%");
});

test("no grpc-status is no status, and one that is no number is UNKNOWN", () => {
  expect(statusFromTrailers({})).toBeUndefined();
  expect(statusFromTrailers({ "grpc-status": "many" })?.code).toBe(GrpcCode.unknown);
});

test("reasons decide about a retry, then codes", () => {
  for (const reason of [
    "ABORTED",
    "NODE_IS_NOT_MEMBER",
    "NODE_IS_NOT_LEADER",
    "NOT_INITIALIZED",
    "RESOURCE_UNAVAILABLE",
  ]) {
    expect(isRetryable(refusal(GrpcCode.internal, reason))).toBe(true);
  }
  // the shard is looked up again
  expect(isRetryable(refusal(GrpcCode.notFound, "SHARD_NOT_FOUND"))).toBe(true);
  for (const reason of ["NAMESPACE_NOT_FOUND", "INVALID_TERM", "RESOURCE_CONFLICT", "SESSION_NOT_FOUND"]) {
    expect(isRetryable(refusal(GrpcCode.unavailable, reason))).toBe(false);
  }
  // UNKNOWN says nothing
  expect(isRetryable(refusal(GrpcCode.aborted, "UNKNOWN"))).toBe(true);
  const retried = Array.from({ length: 17 }, (_, code) => code).filter((code) => isRetryable(plainStatus(code, "")));
  expect(retried).toEqual([GrpcCode.ok, GrpcCode.cancelled, GrpcCode.aborted, GrpcCode.unavailable]);
});

test("what is no gRPC still has a code", () => {
  expect(statusFromHttp(503).code).toBe(GrpcCode.unavailable);
  expect(statusFromHttp(404).code).toBe(GrpcCode.unimplemented);
  expect(statusFromReset(7).code).toBe(GrpcCode.unavailable);
  expect(statusFromReset(11).code).toBe(GrpcCode.resourceExhausted);
  expect(statusFromReset(2).code).toBe(GrpcCode.internal);
});

test("waits double up to their bound, with jitter down to a half", () => {
  const waits = [1, 2, 3, 5, 6, 1000].map((attempt) => retryDelayMs(attempt, () => 1));
  expect(waits).toEqual([20, 40, 80, 320, 500, 500]);
  expect(retryDelayMs(1, () => 0)).toBe(10);
});
