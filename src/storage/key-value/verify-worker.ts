/** The thread that scans KV files which serve already: verify-service.ts in a Worker. */
import { type VerifyRequest, verify } from "./verify-service.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<VerifyRequest>): void => self.postMessage(verify(data));
