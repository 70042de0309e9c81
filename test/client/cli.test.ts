/** `varia client` and `varia perf` as a user runs them: output, exit codes, what is data and what is talk. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { startServer, type TestServer, variaCommand } from "./server.ts";

let server: TestServer;
const RUN = `c${Date.now().toString(36)}`;

beforeAll(async () => {
  server = await startServer(2);
});

afterAll(() => server.stop());

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

async function varia(
  words: readonly string[],
  options: { input?: Uint8Array; env?: Record<string, string> } = {},
): Promise<Ended> {
  const child = Bun.spawn([...variaCommand(), ...words], {
    stdin: options.input ?? "ignore",
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, ...options.env },
  });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, out, err };
}

const client = (...words: string[]) => varia(["client", "-a", server.address, ...words]);

test("put prints one JSON object, get the value, and its version when asked", async () => {
  const key = `${RUN}/greeting`;
  const put = await client("put", key, "hello");
  expect([put.code, put.err]).toEqual([0, ""]);
  const object = JSON.parse(put.out);
  expect(Object.keys(object)).toEqual([
    "key",
    "version_id",
    "created_timestamp",
    "modified_timestamp",
    "modifications_count",
    "ephemeral",
    "session_id",
    "client_identity",
  ]);
  expect(object).toMatchObject({ key, modifications_count: 0, ephemeral: false, session_id: 0, client_identity: "" });
  expect(await client("get", key)).toEqual({ code: 0, out: "hello\n", err: "" });
  expect((await client("get", key, "-v")).out).toBe(`hello\n---\n${put.out}`);
});

test("flags go before or after the command, or into the environment", async () => {
  const key = `${RUN}/flags`;
  await client("put", key, "x");
  expect((await varia(["client", "get", key, "-a", server.address, "-n", "default", "-l", "warn", "-j"])).out).toBe(
    "x\n",
  );
  const env = { VARIA_SERVICE_ADDRESS: server.address };
  expect((await varia(["client", "get", key], { env })).out).toBe("x\n");
});

test("conditions that do not hold exit with 4, what is missing with 3", async () => {
  const key = `${RUN}/conditions`;
  expect((await client("put", key, "x", "--create-only")).code).toBe(0);
  const twice = await client("put", key, "x", "--create-only");
  expect([twice.code, twice.out, twice.err]).toEqual([4, "", "Error: unexpected version id\n"]);
  expect((await client("put", key, "x", "-e", "999999")).code).toBe(4);
  expect((await client("put", key, "y", "-e", "-1")).code).toBe(0);
  expect((await client("delete", key, "-e", "999999")).code).toBe(4);
  expect(await client("delete", key)).toEqual({ code: 0, out: "", err: "" });
  const missing = await client("delete", key);
  expect([missing.code, missing.err]).toEqual([3, "Error: key not found\n"]);
  expect((await client("get", key)).code).toBe(3);
  expect((await client("-n", "no-such-namespace", "get", key)).code).toBe(3);
});

test("a value from standard input is stored byte for byte, and shown as a hex dump", async () => {
  const key = `${RUN}/bytes`;
  const input = Uint8Array.of(0xff, 0x00, 0x0a);
  expect((await varia(["client", "-a", server.address, "put", key, "--std-in"], { input })).code).toBe(0);
  expect((await client("get", key, "--hex")).out).toBe(
    "00000000  ff 00 0a                                          |...|\n",
  );
  expect(JSON.parse((await client("get", key, "-o", "json")).out)).toMatchObject({ key, value_base64: "/wAK" });
  const empty = await varia(["client", "-a", server.address, "put", key, "-c"], { input: new Uint8Array(0) });
  expect(empty.code).toBe(0);
  expect((await client("get", key)).out).toBe("\n");
});

test("ranges are listed, scanned and deleted in every form", async () => {
  const range = ["-s", `${RUN}/r/`, "-e", `${RUN}/r//`];
  for (const name of ["a", "b", "c"]) await client("put", `${RUN}/r/${name}`, name);
  const keys = ["a", "b", "c"].map((name) => `${RUN}/r/${name}`);
  expect((await client("list", ...range)).out).toBe(`${keys.join("\n")}\n`);
  expect(JSON.parse((await client("list", ...range, "-o", "json")).out)).toEqual(keys.map((key) => ({ key })));
  expect((await client("list", "--key-min", keys[1]!, "--key-max", keys[2]!, "-o", "yaml")).out).toBe(
    `- key: ${keys[1]}\n`,
  );
  expect((await client("range-scan", ...range)).out).toBe("a\nb\nc\n");
  const scanned = (await client("range-scan", ...range, "-v")).out.split("\n");
  expect(scanned.slice(0, 2)).toEqual(["a", "---"]);
  expect(JSON.parse(scanned[2]!).key).toBe(keys[0]);
  const records = JSON.parse((await client("range-scan", ...range, "-o", "json")).out);
  expect(records.map((record: { value: string }) => record.value)).toEqual(["a", "b", "c"]);
  expect((await client("range-scan", ...range, "-o", "table")).out.split("\n")[0]).toStartWith("KEY");
  expect((await client("get", `${keys[0]}a`, "-t", "higher")).out).toBe("b\n");
  expect((await client("delete-range", ...range)).code).toBe(0);
  expect((await client("list", ...range)).out).toBe("");
});

test("a partition key is used in place of the key", async () => {
  const key = `${RUN}/partition`;
  for (const partition of ["p0", "p1", "p2", "p3"]) {
    expect((await client("put", key, partition, "-p", partition)).code).toBe(0);
    expect((await client("get", key, "-p", partition)).out).toBe(`${partition}\n`);
    expect((await client("delete", key, "-p", partition)).code).toBe(0);
  }
});

test("what cannot be meant exits with 2 and sends nothing", async () => {
  for (const words of [
    ["put", "key"],
    ["put", "key", "value", "--std-in"],
    ["put", "key", "value", "-e", "one"],
    ["put", "key", "value", "-e", "1", "--create-only"],
    ["put", "__oxia/key", "value"],
    ["get"],
    ["get", "key", "-t", "near"],
    ["get", "key", "-o", "xml"],
    ["list", "--request-timeout", "soon"],
    ["list", "--auth-token-file", "/no/such/file"],
    ["delete-range", "-s", "a"],
    ["lst"],
  ]) {
    const { code, out, err } = await client(...words);
    expect([words, code, out]).toEqual([words, 2, ""]);
    expect(err).not.toBe("");
  }
  expect((await client("lst")).err).toContain("list");
});

test("a server that is not there exits with 5, and says what to do", async () => {
  const { code, err } = await varia(["client", "-a", "127.0.0.1:1", "--request-timeout", "300ms", "get", "key"]);
  expect(code).toBe(5);
  expect(err).toContain("varia standalone");
});

test("help has examples and fits a terminal", async () => {
  for (const words of [
    ["client", "--help"],
    ["client", "put", "--help"],
    ["client", "help", "range-scan"],
    ["perf", "--help"],
  ]) {
    const { code, out } = await varia(words);
    expect([words, code]).toEqual([words, 0]);
    expect(out).toContain("Examples:");
    expect(out.split("\n").filter((line) => line.length > 80)).toEqual([]);
  }
});

test("a reader that goes away ends a command quietly", async () => {
  for (let i = 0; i < 3; i++) await client("put", `${RUN}-pipe-${i}`, "x".repeat(100_000));
  const command = [...variaCommand(), "client", "-a", server.address, "range-scan", "-o", "json"];
  const shell = Bun.spawn(["sh", "-c", '"$@" | head -c 1', "sh", ...command], { stdout: "pipe", stderr: "pipe" });
  expect(await new Response(shell.stderr).text()).toBe("");
});

// --- perf -----------------------------------------------------------------------------------------------------

const perf = (...words: string[]) => varia(["perf", "-a", server.address, ...words]);

test("perf loads, measures and reports as JSON, with its progress beside", async () => {
  const { code, out, err } = await perf(
    "--rate",
    "0",
    "--duration",
    "1200ms",
    "--keys-cardinality",
    "50",
    "--preload",
    "--json",
  );
  expect(code).toBe(0);
  const summary = JSON.parse(out);
  expect(summary.load).toMatchObject({ seed: 1, keys: 50, valueBytes: 128, rate: 0, readPercent: 80 });
  expect(summary.errors).toBe(0);
  const { put, get } = summary.byOperation;
  expect(put.operations + get.operations).toBe(summary.operations);
  expect(summary.operations).toBeGreaterThan(100);
  for (const { latencyMs } of [put, get]) {
    expect(latencyMs.p50).toBeLessThanOrEqual(latencyMs.p99);
    expect(latencyMs.p999).toBeGreaterThan(0);
  }
  expect(err).toContain("preload: 50 keys");
  expect(err).toMatch(/(put|get) \d+\/s/);
});

test("perf keeps to its rate", async () => {
  const { out } = await perf("--rate", "200", "--duration", "1s", "-p", "0", "--json");
  const { operations } = JSON.parse(out);
  expect(operations).toBeLessThanOrEqual(205);
  expect(operations).toBeGreaterThan(50);
});

test("perf can send one operation a call, and scan", async () => {
  const unary = await perf("--rate", "0", "--unary", "--connections", "2", "--duration", "500ms", "--json");
  expect(JSON.parse(unary.out)).toMatchObject({ errors: 0 });
  expect(JSON.parse(unary.out).operations).toBeGreaterThan(10);
  const scans = await perf(
    "--rate",
    "0",
    "--range-scan",
    "--keys-cardinality",
    "50",
    "--preload",
    "--duration",
    "500ms",
    "--json",
  );
  const { rangeScan } = JSON.parse(scans.out).byOperation;
  expect(rangeScan.records).toBeGreaterThanOrEqual(rangeScan.operations * 50);
});

test("perf may only preload", async () => {
  const { code, out } = await perf("--preload", "--duration", "0", "--keys-cardinality", "20");
  expect(code).toBe(0);
  expect(out).toStartWith("20 operations in");
});

test("perf that is interrupted still reports", async () => {
  const child = Bun.spawn([...variaCommand(), "perf", "-a", server.address, "--json"], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const reader = child.stderr.getReader();
  // the first line of progress: it is under way
  await reader.read();
  child.kill("SIGINT");
  const summary = JSON.parse(await new Response(child.stdout).text());
  expect(await child.exited).toBe(130);
  expect(summary.operations).toBeGreaterThan(0);
});

test("perf refuses what contradicts itself", async () => {
  expect((await perf("--unary", "--range-scan")).code).toBe(2);
  expect((await perf("--duration", "0")).code).toBe(2);
  expect((await perf("--read-write-percent", "101")).code).toBe(2);
  for (const kind of [[], ["--unary"]]) {
    const { code } = await varia([
      "perf",
      "-a",
      "127.0.0.1:1",
      "--request-timeout",
      "300ms",
      "--duration",
      "1s",
      ...kind,
    ]);
    expect(code).toBe(5);
  }
});
