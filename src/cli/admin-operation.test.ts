/** Following an operation: what is said meanwhile, and what becomes of one that takes too long. */
import { afterEach, expect, spyOn, test } from "bun:test";
import { listenForTest, type TestListener } from "../../test/harness/rpc-server.ts";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { servedUnary } from "../rpc/served.ts";
import { requireSuccess, watchOperation } from "./admin-operation.ts";

const listeners: TestListener[] = [];
afterEach(async () => {
  for (const listener of listeners.splice(0)) await listener.close({ graceMs: 0 });
});

test("each new word of how far it is is said once; one that takes too long is cancelled", async () => {
  const asked: string[] = [];
  let state = "running";
  const operation = () => ({ id: 7n, kind: "swap-replica", state, phase: "it is being filled", reason: "not wanted" });
  const { method } = VariaAdmin;
  const listener = await listenForTest([
    servedUnary(method.getOperation, ({ id }) => {
      asked.push(`get ${id}`);
      return { operation: operation() };
    }),
    servedUnary(method.cancelOperation, ({ id }) => {
      asked.push(`cancel ${id}`);
      state = "cancelled";
      return { operation: operation() };
    }),
  ]);
  listeners.push(listener);
  const flags = { adminAddress: listener.address, requestTimeout: 5_000, output: "json" } as never;
  const said: string[] = [];
  const write = spyOn(process.stderr, "write").mockImplementation((text) => said.push(String(text)) > 0);
  try {
    const ended = await watchOperation(flags, 7n, 50);
    expect(ended.state).toBe("cancelled");
    expect(() => requireSuccess(ended)).toThrow("operation 7 has been cancelled: not wanted");
  } finally {
    write.mockRestore();
  }
  expect(said.join("")).toBe("it is being filled\n");
  expect(asked.filter((each) => each.startsWith("cancel"))).toEqual(["cancel 7"]);
  expect(asked.at(-1)).toBe("get 7");
});
