import type { Bytes } from "../lib/bytes.ts";

/** The request side of a call, as the call and the listeners of its stream see it. */
export interface RequestSide {
  data(chunk: Bytes): void;
  /** The end of the request is in. */
  end(): void;
  /** A response was sent, or would have been if the call had not ended. */
  sent(): void;
  /** The handler takes requests again. */
  resume(): void;
  /** The call's status is decided. */
  callEnded(): void;
  /** The handler has ended a call whose status was decided before. */
  handlerEnded(): void;
}
