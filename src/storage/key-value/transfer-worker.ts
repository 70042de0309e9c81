/**
 * The thread that reads and writes states on their way between servers, transfer-service.ts in a Worker: flushes do not
 * wait for them, nor does the event loop.
 */
import { type TransferRequest, TransferService } from "./transfer-service.ts";
import type { WorkerCall } from "./worker-calls.ts";

declare const self: Worker;

const service = new TransferService();

self.onmessage = ({ data }: MessageEvent<WorkerCall<TransferRequest>>): void => {
  const { reply, moved } = service.receive(data);
  self.postMessage(reply, moved);
};
