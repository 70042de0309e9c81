/**
 * The coordinators' store on a machine of its own, reached over the simulated network: linearizable, and nothing that it
 * has answered is ever lost. A change whose answer does not come is unknown: it may have been carried out, or still be.
 * Unlike the real adapters it lets several hold it at once, as two coordinators do that each believe to be the only one.
 */
import { Refusal } from "../../src/model/refusal.ts";
import {
  type MetadataChanges,
  type MetadataState,
  type MetadataStore,
  type MetadataVersion,
  NO_METADATA_VERSION,
  type SwapAnswer,
} from "../../src/ports.ts";
import { Entries, Liveness } from "../../src/storage/metadata/entries.ts";
import { CallError } from "./call-error.ts";
import type { Channel, Service } from "./network.ts";

/** How long a coordinator waits for the store's answer. */
const STORE_TIMEOUT_MS = 2_000;

interface SwapRequest {
  readonly expected: MetadataVersion;
  readonly changes: MetadataChanges;
}

/** What the store's machine holds. */
export class SimMetadata {
  readonly #entries: Entries;
  #version: MetadataVersion;
  /** Called at each change, once it is made. */
  changed: (entries: ReadonlyMap<string, string>) => void = () => {};

  constructor(entries: ReadonlyMap<string, string> = new Map(), version = NO_METADATA_VERSION) {
    this.#entries = new Entries(entries);
    this.#version = version;
  }

  state(): MetadataState {
    return { version: this.#version, entries: this.#entries.copy() };
  }

  swap({ expected, changes }: SwapRequest): SwapAnswer {
    if (expected !== this.#version) return { outcome: "conflict", version: this.#version };
    this.#entries.check(changes);
    this.#entries.apply(changes);
    this.#version++;
    this.changed(this.#entries.copy());
    return { outcome: "stored", version: this.#version };
  }

  service(): Service {
    return {
      unary: async ({ method }, request) => (method === "Get" ? this.state() : this.swap(request as SwapRequest)),
    };
  }
}

/** Opens the store that answers at `address`. */
export function openSimMetadata(channel: Channel, address: string): MetadataStore {
  return new SimMetadataStore(channel, address);
}

class SimMetadataStore implements MetadataStore {
  readonly #channel: Channel;
  readonly #address: string;
  readonly #liveness = new Liveness();
  /** Settles when the calls made so far have been answered: they take effect in order. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(channel: Channel, address: string) {
    this.#channel = channel;
    this.#address = address;
  }

  get(): Promise<MetadataState> {
    return this.#inOrder(async () => {
      try {
        return (await this.#call("Get", {})) as MetadataState;
      } catch (error) {
        this.#liveness.end("the metadata store cannot be reached", error);
        throw new Refusal("RESOURCE_UNAVAILABLE", "the metadata store cannot be reached", { cause: error });
      }
    });
  }

  compareAndSwap(expected: MetadataVersion, changes: MetadataChanges): Promise<SwapAnswer> {
    return this.#inOrder(async () => {
      try {
        return (await this.#call("Swap", { expected, changes } satisfies SwapRequest)) as SwapAnswer;
      } catch (error) {
        if (error instanceof CallError && error.refusal !== undefined) throw error.refusal;
        this.#liveness.end("it is unknown whether the last change was stored", error);
        return { outcome: "unknown", cause: error };
      }
    });
  }

  async close(): Promise<void> {
    this.#liveness.end("the metadata store is closed");
  }

  #call(method: string, request: unknown): Promise<unknown> {
    return this.#channel.unary(this.#address, method, request, { timeoutMs: STORE_TIMEOUT_MS });
  }

  #inOrder<T>(call: () => Promise<T>): Promise<T> {
    const answer = this.#last.then(() => {
      this.#liveness.check();
      return call();
    });
    this.#last = answer.catch(() => {});
    return answer;
  }
}
