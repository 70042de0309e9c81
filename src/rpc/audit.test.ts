/** Who has changed what, and who was turned away. */
import { afterEach, expect, test } from "bun:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { listenForTest, type TestListener } from "../../test/harness/rpc-server.ts";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { Refusal } from "../model/refusal.ts";
import { NOTE_CHARACTERS_MAX } from "../ops/events.ts";
import { Audit, audited, NOTE_HEADER, REFUSALS_PER_MINUTE_MAX } from "./audit.ts";
import { Code as Status, StatusError } from "./code.ts";
import { servedStream, servedUnary } from "./served.ts";

const listeners: TestListener[] = [];
afterEach(async () => {
  for (const listener of listeners.splice(0)) await listener.close({ graceMs: 0 });
});

function audit() {
  const lines: string[] = [];
  let nowMs = 0;
  const line = (level: string) => (fields: object, message: string) =>
    void lines.push(`${level} ${message}: ${(fields as { why: string }).why}`);
  const kept = new Audit({ info: line("info"), warn: line("warn") }, () => nowMs);
  return { lines, audit: kept, pass: (ms: number) => (nowMs += ms) };
}

async function served() {
  const { lines, audit: kept } = audit();
  let fails: Error | undefined;
  const answer = () => {
    if (fails !== undefined) throw fails;
    return {};
  };
  const { switchLeader, getNodeStatus, watchEvents } = VariaAdmin.method;
  const stream = servedStream(watchEvents, async () => void answer());
  const methods = [servedUnary(switchLeader, answer), servedUnary(getNodeStatus, answer), stream];
  const listener = await listenForTest(audited(methods, kept));
  listeners.push(listener);
  const client = createClient(VariaAdmin, createGrpcTransport({ baseUrl: `http://${listener.address}` }));
  const failWith = (error: Error | undefined) => {
    fails = error;
  };
  return { lines, client, failWith };
}

async function codeOf(call: Promise<unknown>): Promise<Code | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    return ConnectError.from(error).code;
  }
}

const note = (text: string) => ({ headers: { [NOTE_HEADER]: text } });

test("changes are told with who asked and why, made or refused; what only looks is not", async () => {
  const { lines, client, failWith } = await served();
  await client.getNodeStatus({});
  await client.switchLeader(
    { namespace: "jobs", shard: 7n, to: "s2" },
    note(encodeURIComponent("vor dem Umzug, größer")),
  );
  await client.switchLeader({}, note("%zz"));
  await client.switchLeader({}, note("x".repeat(2 * NOTE_CHARACTERS_MAX)));
  failWith(new Refusal("NOT_FOUND", "there is no such shard"));
  expect(await codeOf(client.switchLeader({}))).toBe(Code.NotFound);
  expect(await codeOf(client.getNodeStatus({}))).toBe(Code.NotFound);
  expect(lines).toEqual([
    "info change made: SwitchLeader namespace=jobs shard=7 to=s2 from 127.0.0.1; note: vor dem Umzug, größer",
    "info change made: SwitchLeader shard=0 from 127.0.0.1",
    `info change made: SwitchLeader shard=0 from 127.0.0.1; note: ${"x".repeat(NOTE_CHARACTERS_MAX)}`,
    "warn change refused: SwitchLeader shard=0 from 127.0.0.1; there is no such shard",
  ]);
});

test("who is turned away is told, whatever was asked for, and the answer stays the same", async () => {
  const { lines, client, failWith } = await served();
  for (const [status, code] of [
    [Status.UNAUTHENTICATED, Code.Unauthenticated],
    [Status.PERMISSION_DENIED, Code.PermissionDenied],
  ] as const) {
    failWith(new StatusError(status, "the token is not known"));
    expect(await codeOf(client.getNodeStatus({}))).toBe(code);
  }
  const line = "warn caller turned away: GetNodeStatus from 127.0.0.1; the token is not known";
  expect(lines).toEqual([line, line]);
  const watch = async () => {
    for await (const _ of client.watchEvents({})) expect.unreachable();
  };
  expect(await codeOf(watch())).toBe(Code.PermissionDenied);
  expect(lines[2]).toBe("warn caller turned away: WatchEvents from 127.0.0.1; the token is not known");
});

test("many who are turned away push nothing out: so many are told a minute, then how many there were", () => {
  const { lines, audit: kept, pass } = audit();
  const who = { what: "login", peer: "10.0.0.9" };
  for (let nth = 0; nth < 100; nth++) kept.turnedAway(who, "wrong token");
  expect(lines).toHaveLength(REFUSALS_PER_MINUTE_MAX);
  pass(59_999);
  kept.turnedAway(who, "wrong token");
  expect(lines).toHaveLength(REFUSALS_PER_MINUTE_MAX);
  pass(1);
  kept.turnedAway(who, "wrong token");
  kept.turnedAway(who, "wrong token");
  expect(lines.slice(REFUSALS_PER_MINUTE_MAX)).toEqual([
    `warn caller turned away: login from 10.0.0.9; wrong token; ${101 - REFUSALS_PER_MINUTE_MAX} more before`,
    "warn caller turned away: login from 10.0.0.9; wrong token",
  ]);
  lines.length = 0;
  const change = { ...who, note: "" };
  for (let nth = 0; nth < 100; nth++) kept.refused(change, new Error("not found"));
  expect(lines).toHaveLength(REFUSALS_PER_MINUTE_MAX);
  // what is done is told however often
  for (let nth = 0; nth < 100; nth++) kept.changed(change);
  expect(lines).toHaveLength(REFUSALS_PER_MINUTE_MAX + 100);
});
