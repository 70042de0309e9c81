/** Range scans of one client that were cut after some of their records had come: the client reads on behind those. */

import type { CallStatus } from "../../../src/client/call-status.ts";
import { GrpcCode } from "../../../src/client/grpc-code.ts";
import { methodOf } from "./session-watch.ts";
import type { TappedCall, TransportTap } from "./transport.ts";

export class CutScans implements TransportTap {
  readonly #begun = new WeakSet<TappedCall>();
  /** So far. */
  count = 0;

  answered(call: TappedCall): void {
    if (methodOf(call) === "RangeScan") this.#begun.add(call);
  }

  ended(call: TappedCall, status: CallStatus | undefined): void {
    if (status?.code !== GrpcCode.ok && this.#begun.has(call)) this.count++;
  }
}
