/**
 * Counters of calls, one set a method and path: plain numbers on the hot path, read by metrics (`grpc_server_*`).
 */
import { CODE_NAMES, type Code } from "./code.ts";

export type MethodType = "unary" | "server_stream" | "bidi_stream";

export class MethodStats {
  readonly service: string;
  readonly method: string;
  readonly type: MethodType;
  started = 0;
  messagesReceived = 0;
  messagesSent = 0;
  /** Ended calls by code. */
  readonly handled: number[] = new Array(CODE_NAMES.length).fill(0);

  /** `path`: `/package.Service/Method`. */
  constructor(path: string, type: MethodType) {
    const slash = path.indexOf("/", 1);
    this.service = path.slice(1, slash);
    this.method = path.slice(slash + 1);
    this.type = type;
  }

  ended(code: Code): void {
    this.handled[code]!++;
  }

  /** Calls that have started and not ended. */
  get active(): number {
    let active = this.started;
    for (const handled of this.handled) active -= handled;
    return active;
  }
}

export interface RpcStats {
  readonly methods: readonly MethodStats[];
  /** Open connections. */
  readonly connections: number;
  /** Bytes of request messages held, over all listeners that share the budget. */
  readonly requestBytesInFlight: number;
}
