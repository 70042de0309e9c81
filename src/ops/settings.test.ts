import { expect, test } from "bun:test";
import { address, boolean, durationMs, environmentName, integer, oneOf, path, resolveSettings } from "./settings.ts";

const table = {
  publicAddr: {
    flags: "-p, --public-addr <host:port>",
    description: "",
    path: "server.public.bindAddress",
    default: { host: "0.0.0.0", port: 6648 },
    parse: address,
  },
  walDir: { flags: "--wal-dir <dir>", description: "", path: "storage.wal.dir", default: "./data/wal", parse: path },
};

const nothing = { flags: {}, environment: {}, file: undefined };

test("a flag beats the environment, which beats the file, which beats the default", () => {
  const file = { storage: { wal: { dir: "from-file" } } };
  const environment = { VARIA_WAL_DIR: "from-environment" };
  const flags = { walDir: "from-flag" };
  expect(resolveSettings(table, nothing).values.walDir).toBe("./data/wal");
  expect(resolveSettings(table, { ...nothing, file }).values.walDir).toBe("from-file");
  expect(resolveSettings(table, { ...nothing, file, environment }).values.walDir).toBe("from-environment");
  const all = resolveSettings(table, { flags, environment, file });
  expect(all.values.walDir).toBe("from-flag");
  expect(all.origins).toEqual({ publicAddr: "default", walDir: "flag" });
});

test("the environment variable is the flag in capitals", () => {
  expect(environmentName(table.publicAddr)).toBe("VARIA_PUBLIC_ADDR");
});

test("a bad value says where it was given and what is wrong", () => {
  expect(() => resolveSettings(table, { ...nothing, flags: { publicAddr: "nowhere" } })).toThrow(
    '--public-addr: "nowhere" is not host:port',
  );
  expect(() => resolveSettings(table, { ...nothing, environment: { VARIA_PUBLIC_ADDR: "h:70000" } })).toThrow(
    "VARIA_PUBLIC_ADDR",
  );
  expect(() => resolveSettings(table, { ...nothing, file: { storage: { wal: { dir: {} } } } })).toThrow(
    "storage.wal.dir: expected one value",
  );
  expect(() => resolveSettings(table, { ...nothing, file: { storage: "./data" } })).toThrow("storage: expected fields");
  expect(() => resolveSettings(table, { ...nothing, file: { storage: { wal: [] } } })).toThrow(
    "storage.wal: expected fields",
  );
  expect(() => resolveSettings(table, { ...nothing, file: "odd" })).toThrow("the document: expected fields");
});

test("addresses take names, IPv4, bracketed IPv6 and an empty host", () => {
  expect(address("localhost:1")).toEqual({ host: "localhost", port: 1 });
  expect(address("[::1]:6648")).toEqual({ host: "::1", port: 6648 });
  expect(address(":6648")).toEqual({ host: "0.0.0.0", port: 6648 });
});

test("each kind of value refuses what it is not", () => {
  expect(() => durationMs("soon")).toThrow();
  expect(() => boolean("maybe")).toThrow();
  expect(() => integer(1, 10)("11")).toThrow("from 1 to 10");
  expect(() => integer(1, 10)("1.5")).toThrow();
  expect(() => oneOf("natural", "hierarchical")("random")).toThrow("natural, hierarchical");
  expect(oneOf("natural", "hierarchical")("Natural")).toBe("natural");
});
