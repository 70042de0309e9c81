/**
 * What the pages may ask: the public admin API, the public client API, and what this process says to load balancers and
 * Prometheus. The web has no other way in, so nobody sees or does anything here that a command could not.
 */
import type { DescMessage, DescMethod, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { VariaClient } from "../src/client/client.ts";
import type { Tokens } from "./gate.ts";

/** What is needed of src/rpc/audit.ts. */
export interface Audit {
  changed(change: Change): void;
  refused(change: Change, error: unknown): void;
  turnedAway(who: Pick<Change, "what" | "peer">, why: string): void;
}

interface Change {
  readonly what: string;
  readonly peer: string;
  readonly note: string;
}

/** A method of a service, with its messages. */
export type MethodOf<I extends DescMessage, O extends DescMessage> = DescMethod & {
  readonly input: I;
  readonly output: O;
};

/** Methods of `varia.admin.v1.VariaAdmin` and `io.oxia.proto.v1.OxiaAdmin`, as they are served to everybody. */
export interface Calls {
  serves(method: MethodOf<DescMessage, DescMessage>): boolean;
  /** Rejects with a Refusal. */
  call<I extends DescMessage, O extends DescMessage>(
    method: MethodOf<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>>;
  /** A call that is answered by a stream, until `signal` aborts it. */
  stream<I extends DescMessage, O extends DescMessage>(
    method: MethodOf<I, O>,
    request: MessageInitShape<I>,
    options: { readonly each: (message: MessageShape<O>) => void; readonly signal: AbortSignal },
  ): Promise<void>;
}

export interface ReadinessCheck {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
}

export interface Inspect {
  readonly access: Tokens;
  /** `off`: nothing is there but what machines ask for. */
  readonly ui: "on" | "read-only" | "off";
  /** Values of keys with these prefixes are shown to an admin who asks for them, and to nobody else. */
  readonly masked: readonly string[];
  readonly mode: "standalone" | "storage" | "coordinator";
  readonly calls: Calls;
  /** Answers a call of the admin API over HTTP, which checks tokens by itself; undefined: it is none. */
  readonly answer: (request: Request, peer: string) => Promise<Response> | undefined;
  /** A client of a namespace, for its keys; it is kept. Rejects when no server answers. */
  readonly client: (namespace: string) => Promise<VariaClient>;
  /** Where Oxia clients, and `varia client`, connect; undefined: at the servers that are listed. */
  readonly clientAddress: () => string | undefined;
  /** Where `varia admin` and `varia status` connect. */
  readonly adminAddress: () => string;
  /** Who changes what, and who is turned away. */
  readonly audit: Audit;
  readonly metricsContentType: string;
  readiness(): readonly ReadinessCheck[];
  metricsText(): Promise<string>;
}
