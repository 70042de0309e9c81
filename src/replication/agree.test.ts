import { expect, test } from "bun:test";
import type { Head } from "../model/ids.ts";
import { TRUNCATIONS_PER_ATTEMPT_MAX } from "../model/limits.ts";
import type { GetStatusResponse, PeerHead, TruncateRequest } from "../model/peer-messages.ts";
import type { Followers } from "../ports.ts";
import { type AgreeContext, agree } from "./agree.ts";
import type { OwnLog } from "./own-log.ts";

const TERM = 9;
const address = { namespace: "ns", shard: 3, term: TERM, server: "f1", replicaId: 1n };

/** A leader's log of three terms with ten entries each, whose chain is 100 + offset; and a follower that a test scripts. */
function contextWith(followers: Partial<Followers>): AgreeContext {
  const own = (offset: number): Head | undefined =>
    offset < 30 ? { term: 1 + Math.floor(offset / 10), offset, crc: 100 + offset } : undefined;
  const shape = {
    base: { term: -1, offset: -1, crc: 0 },
    termEnds: [9, 19, 29].map((offset) => ({ term: own(offset)!.term, offset })),
  };
  const log: OwnLog = {
    at: async (_, offset) => own(offset),
    read: async () => [],
    shape: async () => shape,
  };
  const options = { notificationsEnabled: true, keySorting: "natural", readConsistency: "linearizable" } as const;
  return {
    log,
    followers: followers as Followers,
    tail: undefined,
    options,
    shard: 3,
    signal: new AbortController().signal,
  };
}

function status(fields: Partial<GetStatusResponse>): GetStatusResponse {
  const head = { headOffset: 5, headTerm: 1, headCrc: 105 };
  return { term: TERM, promise: TERM, replicaId: 1n, ...head, ...fields } as GetStatusResponse;
}

const reasonOf = (asked: Promise<unknown>) => asked.then(String, ({ reason }) => reason);

test("logs agree where the follower's head is the leader's entry, without a call", async () => {
  const told: PeerHead = { term: 2, offset: 12, crc: 112 };
  expect(await agree(contextWith({}), address, told)).toEqual({ term: 2, offset: 12, crc: 112 });
  expect(await agree(contextWith({}), address, { term: -1, offset: -1, crc: 0 })).toEqual({
    term: -1,
    offset: -1,
    crc: 0,
  });
});

test("what is cut is what was compared: the follower is asked for its chain first, and compared anew if it has moved", async () => {
  const asked: TruncateRequest[] = [];
  const context = contextWith({
    getStatus: async () => status({ headTerm: 2, headOffset: 35, headCrc: 7 }),
    truncate: async (_, request) => {
      asked.push(request);
      const { keep } = request;
      return { head: { term: TERM, offset: keep.offset }, entryTerm: keep.term, headCrc: 100 + keep.offset };
    },
  });
  expect(await agree(context, address, { term: 2, offset: 40, crc: undefined })).toMatchObject({ offset: 19 });
  expect(asked).toMatchObject([
    { keep: { term: 2, offset: 19 }, expectedHead: { term: 2, offset: 35, crc: 7 }, replicaId: 1n, term: TERM },
  ]);
});

test("a follower whose head is not known is asked for it; another replica there has ended, a later promise is left alone", async () => {
  const asked = (fields: Partial<GetStatusResponse>) =>
    agree(contextWith({ getStatus: async () => status(fields) }), address, undefined);
  expect(await asked({})).toEqual({ term: 1, offset: 5, crc: 105 });
  expect(await reasonOf(asked({ replicaId: 2n }))).toBe("NODE_IS_NOT_MEMBER");
  expect(await reasonOf(asked({ promise: TERM + 1 }))).toBe("INVALID_TERM");
});

test("a follower that never agrees is given up for now after a bounded number of truncations", async () => {
  let truncations = 0;
  const context = contextWith({
    truncate: async () => {
      truncations++;
      return { head: { term: TERM, offset: 25 }, entryTerm: 3, headCrc: 1 };
    },
  });
  expect(await reasonOf(agree(context, address, { term: 3, offset: 28, crc: 1 }))).toBe("RESOURCE_CONFLICT");
  expect(truncations).toBe(TRUNCATIONS_PER_ATTEMPT_MAX);
});
