/** The thread that writes the KV files: flush-service.ts in a Worker. */
import { type FlushRequest, FlushService } from "./flush-service.ts";
import type { WorkerCall } from "./worker-calls.ts";

declare const self: Worker;

const service = new FlushService();

self.onmessage = ({ data }: MessageEvent<WorkerCall<FlushRequest>>): void => self.postMessage(service.receive(data));
