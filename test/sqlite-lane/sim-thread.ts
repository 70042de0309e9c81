/**
 * The threads of the key-value files in simulated time: what runs in a Worker runs here, one message after the other,
 * each at a moment of its own. Between its work and its answer the process may end, as it may before either.
 */
import { FlushService } from "../../src/storage/key-value/flush-service.ts";
import { TransferService } from "../../src/storage/key-value/transfer-service.ts";
import { type VerifyRequest, verify } from "../../src/storage/key-value/verify-service.ts";
import type { Thread, WorkerEntry } from "../../src/storage/start-worker.ts";
import type { Life } from "../sim/node.ts";

export interface SimThreadsOptions {
  readonly life: Life;
  /** How long a message takes, in milliseconds. */
  readonly workMs: () => number;
  /** How long an answer is on its way. */
  readonly hopMs: number;
}

interface Service {
  receive(message: never): unknown;
  /** Closes its files, as far as it knows them. */
  close(): void;
}

export class SimThreads {
  readonly #options: SimThreadsOptions;
  readonly #services: Service[] = [];

  constructor(options: SimThreadsOptions) {
    this.#options = options;
  }

  readonly start = (entry: WorkerEntry): Thread => {
    const service = serviceOf(entry);
    this.#services.push(service);
    return new SimThread(this.#options, entry, service);
  };

  /** The process has ended: closes files that nobody looks at any more. */
  drop(): void {
    for (const service of this.#services) service.close();
  }
}

class SimThread implements Thread {
  readonly #options: SimThreadsOptions;
  readonly #entry: WorkerEntry;
  readonly #service: Service;
  #receive: (message: unknown) => void = () => {};
  readonly #waiting: unknown[] = [];
  #isBusy = false;
  #isOver = false;

  constructor(options: SimThreadsOptions, entry: WorkerEntry, service: Service) {
    this.#options = options;
    this.#entry = entry;
    this.#service = service;
  }

  listen(receive: (message: unknown) => void): void {
    this.#receive = receive;
  }

  post(message: unknown): void {
    this.#waiting.push(message);
    if (!this.#isBusy) this.#next();
  }

  terminate(): void {
    this.#isOver = true;
  }

  #next(): void {
    this.#isBusy = this.#waiting.length > 0;
    if (!this.#isBusy) return;
    const { life, workMs, hopMs } = this.#options;
    life.after(workMs(), this.#entry, () => {
      if (this.#isOver) return;
      const answer = this.#service.receive(this.#waiting.shift() as never);
      life.after(hopMs, `${this.#entry} has answered`, () => {
        if (!this.#isOver) this.#receive(answer);
      });
      this.#next();
    });
  }
}

function serviceOf(entry: WorkerEntry): Service {
  switch (entry) {
    case "key-value/flush-worker": {
      const service = new FlushService();
      return {
        receive: (call: Parameters<FlushService["receive"]>[0]) => service.receive(call),
        close: () => void service.receive({ id: 0, request: { kind: "stop" } }),
      };
    }
    case "key-value/transfer-worker": {
      const service = new TransferService();
      return {
        receive: (call: Parameters<TransferService["receive"]>[0]) => service.receive(call).reply,
        close() {},
      };
    }
    case "key-value/verify-worker":
      return { receive: (request: VerifyRequest) => verify(request), close() {} };
    case "log-worker":
      throw new Error("the log has a thread of its own kind: in-process-log.ts");
  }
}
