/** `grpc-timeout`. Source: gRPC, doc/PROTOCOL-HTTP2.md (Timeout). */
import { Code, StatusError } from "./code.ts";

const UNIT_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };
/** The longest delay that a timer takes. A longer timeout is none. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** Milliseconds, fractions included; undefined when there is in effect no deadline. Refuses what is not a timeout with INVALID_ARGUMENT. */
export function parseTimeout(value: string): number | undefined {
  const unit = UNIT_MS[value.charAt(value.length - 1)];
  const digits = value.slice(0, -1);
  if (unit === undefined || !/^\d{1,8}$/.test(digits)) {
    throw new StatusError(Code.INVALID_ARGUMENT, "malformed grpc-timeout");
  }
  const ms = Number(digits) * unit;
  return ms > TIMER_MS_MAX ? undefined : ms;
}
