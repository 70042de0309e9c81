import { expect, test } from "bun:test";
import type { GetStatusResponse } from "../model/peer-messages.ts";
import { isReplica } from "./replica-calls.ts";

function status(replicaId: bigint | undefined, ended: string): GetStatusResponse {
  return { term: 1, status: "FOLLOWER", headOffset: 0, commitOffset: 0, replicaId, ended } as GetStatusResponse;
}

test("a replica is the listed one by its id alone: why the one before it has ended may be told too", () => {
  expect(isReplica(status(7n, ""), 7n)).toBe(true);
  expect(isReplica(status(7n, "the one before: its checksum was wrong"), 7n)).toBe(true);
  expect(isReplica(status(0n, "its checksum is wrong"), 7n)).toBe(false);
  expect(isReplica(status(8n, ""), 7n)).toBe(false);
  expect(isReplica(status(undefined, ""), 7n)).toBe(true);
});
