import { expect, test } from "bun:test";
import { Command } from "commander";
import {
  addUnsupportedFlags,
  refuseUnsupported,
  UNSUPPORTED_COORDINATOR,
  UNSUPPORTED_STANDALONE,
  UNSUPPORTED_STORAGE,
} from "./unsupported.ts";

type Given = { flags?: Record<string, unknown>; environment?: Record<string, string>; file?: unknown };

function check(list: typeof UNSUPPORTED_STORAGE, { flags = {}, environment = {}, file }: Given = {}): void {
  refuseUnsupported(list, { flags, environment, file });
}

test("a flag that Varia does not support is parsed, and refused in words", () => {
  for (const list of [UNSUPPORTED_STANDALONE, UNSUPPORTED_STORAGE, UNSUPPORTED_COORDINATOR]) {
    const flags = list.flatMap(({ flags }) => flags ?? []);
    expect(flags.length).toBeGreaterThan(8);
    for (const flag of flags) {
      const command = new Command();
      addUnsupportedFlags(command, list);
      command.parse([flag.split(" ")[0]!, "x"], { from: "user" });
      expect(() => check(list, { flags: command.opts() })).toThrow(/^--[a-z0-9-]+: Varia does not support .+ yet/);
    }
  }
});

test("hidden flags do not show in help", () => {
  const command = new Command();
  addUnsupportedFlags(command, UNSUPPORTED_STORAGE);
  expect(command.helpInformation()).not.toContain("tls");
});

test("the environment and the file are looked at too", () => {
  const environment = { VARIA_TLS_CERT_FILE: "x" };
  expect(() => check(UNSUPPORTED_STORAGE, { environment })).toThrow("VARIA_TLS_CERT_FILE: Varia does not support TLS");
  const file = { server: { public: { tls: { certFile: "x" } } } };
  expect(() => check(UNSUPPORTED_STORAGE, { file })).toThrow("server.public.tls: Varia does not support TLS");
  expect(() => check(UNSUPPORTED_STANDALONE, { file })).toThrow("server.public.tls: Varia does not support TLS");
  const raft = { metadata: { raft: { address: "h:1" } } };
  expect(() => check(UNSUPPORTED_COORDINATOR, { file: raft })).toThrow("metadata.raft: Varia does not support a Raft");
});

test("what is switched off, or empty, is as if it were not there", () => {
  const off = {
    server: { public: { tls: { enabled: false, certFile: "x" }, auth: { enabled: false } }, internal: { tls: {} } },
  };
  check(UNSUPPORTED_STORAGE, { file: off });
  check(UNSUPPORTED_STORAGE, { file: { server: { public: { tls: null } } } });
  check(UNSUPPORTED_STORAGE);
});
