/** A Logger that writes to the trace of the run. */
import type { LogFields, Logger } from "../../src/ports.ts";
import type { SimNode } from "./node.ts";

export function traceLogger(node: SimNode): Logger {
  const { scheduler, name } = node;
  const write = (level: string) => (fields: LogFields, message: string) => {
    if (!scheduler.trace.keepsLines) return;
    const words = Object.entries(fields).map(
      ([key, value]) => `${key}=${value instanceof Error ? value.message : String(value)}`,
    );
    scheduler.trace.note(scheduler.nowMs, name, `${level}: ${message} ${words.join(" ")}`);
  };
  return { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
}
