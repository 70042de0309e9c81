/** The thread that writes the log: log-service.ts in a Worker. */
import { removeSqliteBehind } from "./files.ts";
import { type FromLogThread, LogService, type ToLogThread } from "./log-service.ts";

declare const self: Worker;

const service = new LogService({
  post: (message: FromLogThread) => self.postMessage(message),
  commitSoon: (run) => void setImmediate(run),
  every(ms, run) {
    const timer = setInterval(run, ms);
    return () => clearInterval(timer);
  },
  now: Date.now,
  monotonicMs: () => performance.now(),
  removeSegment: (path, gone, failed) => void removeSqliteBehind(path).then(gone, failed),
});

self.onmessage = ({ data }: MessageEvent<ToLogThread>): void => service.receive(data);
