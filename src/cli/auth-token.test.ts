/** Tokens as commands are given them, and what is said where one is missing. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { listenForTest, type TestListener } from "../../test/harness/rpc-server.ts";
import { ServerError } from "../client/errors.ts";
import { GrpcCode } from "../client/grpc-code.ts";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { Access } from "../ops/access.ts";
import { Events } from "../ops/events.ts";
import { eventMethods } from "../rpc/events-api.ts";
import { guarded } from "../rpc/guard.ts";
import { callAdmin } from "./admin-connection.ts";
import { authToken } from "./auth-token.ts";
import { exitErrorOf } from "./client-connection.ts";
import { EXIT } from "./exit.ts";

const directory = mkdtempSync(join(tmpdir(), "varia-token-"));
const path = join(directory, "token");
const TOKEN = "6f0d0c1b4c9a4bb2";
const ROLES = `# who may what\nviewer 9a4bb2d1f36f0d0c\nadmin  ${TOKEN}\n`;
let listener: TestListener;

beforeAll(async () => {
  writeFileSync(path, ROLES);
  listener = await listenForTest(guarded(eventMethods(new Events(() => 1_000)), Access.open(path)));
});

afterAll(async () => {
  await listener.close({ graceMs: 0 });
  rmSync(directory, { recursive: true });
});

function fileOf(text: string): { readonly authTokenFile: string } {
  writeFileSync(path, text);
  return { authTokenFile: path };
}

test("a token is taken from the flag, the environment or a file, without the line's end", () => {
  expect(authToken({})).toBeUndefined();
  expect(authToken({ authToken: "" })).toBeUndefined();
  expect(authToken({ authToken: `${TOKEN}\n` })).toBe(TOKEN);
  expect(authToken(fileOf(`${TOKEN}\r\n`))).toBe(TOKEN);
});

test("a file that holds no single token is refused, by what it is", () => {
  for (const [text, why] of [
    [ROLES, "holds tokens with their roles, as a server's --admin-token-file does"],
    [`admin ${TOKEN}\n`, "holds tokens with their roles"],
    [`${TOKEN}\n${TOKEN}\n`, "holds more than one word"],
    ["\n", "is empty"],
  ] as const) {
    const read = () => authToken(fileOf(text));
    expect(read).toThrow(why);
    expect(read).toThrow("takes a file that holds one token and no more");
    expect(read).not.toThrow(TOKEN);
  }
  expect(() => authToken({ authToken: "admin token" })).toThrow("is no token");
});

test("where a token is needed and none is given, it is said how to give one", async () => {
  const flags = { adminAddress: listener.address, output: "json", requestTimeout: 5_000 } as const;
  const list = (token: object) => callAdmin({ ...flags, ...token }, VariaAdmin.method.listEvents, {});
  const needed = { code: EXIT.notAllowed, message: expect.stringMatching(/^a token is needed.*VARIA_AUTH_TOKEN/) };
  await expect(list({})).rejects.toMatchObject(needed);
  const unknown = { code: EXIT.notAllowed, message: expect.stringContaining("the token is not known") };
  await expect(list({ authToken: "another-token-of-16" })).rejects.toMatchObject(unknown);
  expect((await list({ authToken: TOKEN })).events).toEqual([]);
  // of clients, whose servers are others
  const refused = new ServerError({ code: GrpcCode.unauthenticated, message: "empty token", reason: undefined });
  expect(exitErrorOf(refused, { serviceAddress: "h:1" })).toMatchObject(needed);
  expect(exitErrorOf(refused, { serviceAddress: "h:1", authToken: TOKEN })).toMatchObject({
    message: "UNAUTHENTICATED: empty token",
  });
});
