/** `varia shell` on a terminal: its prompt, Tab, Ctrl+C, and a history that is there the next time. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type VariaClient } from "../../src/client/index.ts";
import { startServer, type TestServer, variaCommand } from "./server.ts";

let server: TestServer;
let client: VariaClient;
const RUN = `s${Date.now().toString(36)}`;
const state = mkdtempSync(join(tmpdir(), "varia-shell-"));
const PROMPT = "varia> ";

beforeAll(async () => {
  server = await startServer(2);
  client = await connect({ serviceAddress: server.address, batchLingerMs: 0 });
});

afterAll(async () => {
  await client.close();
  await server.stop();
  rmSync(state, { recursive: true, force: true });
});

/** What is on the screen comes in pieces: `until` resolves when all of it ends with, or has, what is waited for. */
function openShell() {
  let screen = "";
  let check = () => {};
  const decoder = new TextDecoder();
  const child = Bun.spawn([...variaCommand(), "shell", "-a", server.address], {
    env: { ...process.env, XDG_STATE_HOME: state, TERM: "xterm", NO_COLOR: "1" },
    terminal: {
      cols: 200,
      rows: 50,
      data(_terminal, data) {
        screen += decoder.decode(data, { stream: true });
        check();
      },
    },
  });
  /** Resolves with what came since the last call, once it has `text`. */
  const until = (text: string) =>
    new Promise<string>((resolve) => {
      check = () => {
        // biome-ignore lint/suspicious/noControlCharactersInRegex: a terminal is moved by them
        const plain = screen.replace(/\u001b\[[0-9;]*[A-Za-z]/g, "");
        if (!plain.includes(text)) return;
        check = () => {};
        screen = "";
        resolve(plain);
      };
      check();
    });
  return { child, until, type: (keys: string) => child.terminal!.write(keys) };
}

test("lines are typed, completed, interrupted, and remembered", async () => {
  await client.put(`${RUN}/folder/record`, "hello");
  const { child, until, type } = openShell();
  await until(PROMPT);
  type("ge");
  await until("ge");
  type("\t");
  await until("t ");
  type(`${RUN}/f`);
  await until(`${RUN}/f`);
  type("\t");
  await until("older/");
  type("\t");
  await until("record");
  type("\r");
  expect(await until(PROMPT)).toContain("hello");

  type("notifications\r");
  await until("listening");
  await client.put(`${RUN}/told`, "x");
  await until(`"key":"${RUN}/told"`);
  type("\u0003");
  await until(PROMPT);

  type("thrown away");
  await until("away");
  type("\u0003");
  // the line is cleared first, which shows the prompt too
  await until(`\n${PROMPT}`);
  type("get nothing-of-that-name\r");
  expect(await until(PROMPT)).toContain("key not found");
  type("\u0004");
  expect(await child.exited).toBe(0);

  const history = join(state, "varia", "shell-history");
  expect(readFileSync(history, "utf8")).toBe(`get ${RUN}/folder/record\nnotifications\nget nothing-of-that-name\n`);
  expect(statSync(history).mode & 0o077).toBe(0);

  const again = openShell();
  await again.until(PROMPT);
  for (const _line of ["get nothing", "notifications", "get record"]) again.type("\u001b[A");
  await again.until(`${RUN}/folder/record`);
  again.type("\r");
  expect(await again.until(PROMPT)).toContain("hello");
  again.type("exit\r");
  expect(await again.child.exited).toBe(0);
}, 30_000);
