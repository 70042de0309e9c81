/** Methods of the admin API are answered to those who may call them, over the wire. */
import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { listenForTest, type TestListener } from "../../test/harness/rpc-server.ts";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { Access } from "../ops/access.ts";
import { guarded, roleFor } from "./guard.ts";
import { servedStream, servedUnary } from "./served.ts";

const ADMIN = "a".repeat(20);
const VIEWER = "v".repeat(20);
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function withTokens(): Access {
  const directory = mkdtempSync(join(tmpdir(), "varia-guard-"));
  cleanups.push(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, "tokens");
  writeFileSync(path, `admin ${ADMIN}\nviewer ${VIEWER}\n`);
  return Access.open(path);
}

async function listen(access: Access, host = "127.0.0.1"): Promise<TestListener> {
  const { method } = VariaAdmin;
  const methods = [
    servedUnary(method.getClusterStatus, () => ({ instanceId: "seen" })),
    servedUnary(method.swapReplica, () => ({ reason: "" })),
    servedStream(method.watchEvents, async () => {}),
  ];
  const listener = await listenForTest(guarded(methods, access), { host });
  cleanups.push(() => listener.close({ graceMs: 0 }));
  return listener;
}

/** What each kind of call comes to, by gRPC and by Connect: its code, or OK. */
async function outcomes({ port }: TestListener, host: string, token?: string) {
  const found: string[] = [];
  const baseUrl = `http://${host}:${port}`;
  for (const transport of [createGrpcTransport({ baseUrl }), createConnectTransport({ baseUrl, httpVersion: "1.1" })]) {
    const client = createClient(VariaAdmin, transport);
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const calls = [
      () => client.getClusterStatus({}, { headers }),
      () => client.swapReplica({}, { headers }),
      () => Array.fromAsync(client.watchEvents({}, { headers })),
    ];
    for (const call of calls) {
      try {
        await call();
        found.push("OK");
      } catch (error) {
        found.push(Code[ConnectError.from(error).code]!);
      }
    }
  }
  return found;
}

const twice = (...codes: string[]) => [...codes, ...codes];

test("with tokens, each role is answered what it may ask, and nobody else anything", async () => {
  const listener = await listen(withTokens());
  expect(await outcomes(listener, "127.0.0.1", ADMIN)).toEqual(twice("OK", "OK", "OK"));
  expect(await outcomes(listener, "127.0.0.1", VIEWER)).toEqual(twice("OK", "PermissionDenied", "OK"));
  for (const token of [undefined, "wrong", `${ADMIN}a`]) {
    expect(await outcomes(listener, "127.0.0.1", token)).toEqual(
      twice(...new Array<string>(3).fill("Unauthenticated")),
    );
  }
});

test("without tokens, callers on this machine are answered, whatever the port is bound to", async () => {
  const listener = await listen(Access.open(undefined), "0.0.0.0");
  expect(await outcomes(listener, "127.0.0.1")).toEqual(twice("OK", "OK", "OK"));
  const addresses = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
  const other = addresses.find(({ family, internal }) => family === "IPv4" && !internal)?.address;
  // a machine without a network has nobody else who could call
  if (other === undefined) return;
  expect(await outcomes(listener, other)).toEqual(twice(...new Array<string>(3).fill("PermissionDenied")));
});

test("a page of another site whose name leads to this machine is not answered", async () => {
  const listener = await listen(Access.open(undefined));
  const ask = async (host: string) => {
    const response = await fetch(`http://127.0.0.1:${listener.port}/varia.admin.v1.VariaAdmin/GetClusterStatus`, {
      ...{ method: "POST", body: "{}" },
      headers: { "content-type": "application/json", host },
    });
    return response.status;
  };
  expect([await ask("localhost:1"), await ask("127.0.0.1"), await ask("[::1]:6651")]).toEqual([200, 200, 200]);
  expect([await ask("evil.example"), await ask("localhost.evil.example:80")]).toEqual([403, 403]);
});

test("every method of the service has a role, and what changes something takes an admin", () => {
  const roles = Object.values(VariaAdmin.method).map(({ name }) => [name, roleFor(name)]);
  expect(Object.fromEntries(roles)).toEqual({
    GetClusterStatus: "viewer",
    GetDiagnosis: "viewer",
    GetNodeStatus: "viewer",
    GetConfiguration: "viewer",
    GetHistory: "viewer",
    SetLogLevel: "admin",
    ListEvents: "viewer",
    WatchEvents: "viewer",
    SwapReplica: "admin",
    SwitchLeader: "admin",
    FreezeShard: "admin",
    ThawShard: "admin",
    DrainServer: "admin",
    ListOperations: "viewer",
    GetOperation: "viewer",
    ListSessions: "viewer",
    CloseSession: "admin",
    CancelOperation: "admin",
    // it holds up the shard's own flow
    PlanRecovery: "viewer",
    GetSession: "viewer",
    RecoverShard: "admin",
  });
});
