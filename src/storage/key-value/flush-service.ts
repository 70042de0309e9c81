/** What writes the KV files, as its thread runs it: answers one request after the other with flush.ts. */

import type { EntryId, Offset, Timestamp } from "../../model/ids.ts";
import type { KeySorting } from "../../model/keys.ts";
import { Refusal } from "../../model/refusal.ts";
import { explainError, isDiskFull, sqliteErrorKind } from "../sqlite.ts";
import { type Flushed, Flusher, type Opened } from "./flush.ts";
import type { NotificationRun } from "./notification-tail.ts";
import type { StoredState } from "./stored-state.ts";
import type { SharedTable } from "./table.ts";
import type { WorkerCall, WorkerReply } from "./worker-calls.ts";

export type FlushRequest =
  | {
      readonly kind: "open";
      readonly path: string;
      readonly sorting: KeySorting;
      readonly verifyBytesMax: number;
      /** Where its log begins: what a transfer has left is settled first. */
      readonly base: EntryId | undefined;
    }
  | {
      readonly kind: "flush";
      readonly path: string;
      readonly table: SharedTable;
      readonly state: StoredState;
      readonly notifications: NotificationRun;
    }
  | { readonly kind: "trim-notifications"; readonly path: string; readonly before: Timestamp }
  | { readonly kind: "checkpoint"; readonly path: string }
  | { readonly kind: "close"; readonly path: string }
  | { readonly kind: "replace"; readonly path: string; readonly sorting: KeySorting }
  | { readonly kind: "remove"; readonly path: string }
  | { readonly kind: "restart"; readonly path: string }
  | { readonly kind: "salvage"; readonly path: string }
  | { readonly kind: "stop" };

export interface FlushAnswers {
  open: Opened;
  flush: Flushed;
  "trim-notifications": Offset | undefined;
  checkpoint: boolean;
  close: undefined;
  replace: Opened;
  remove: undefined;
  restart: Opened;
  salvage: Opened;
  stop: undefined;
}

export class FlushService {
  readonly #flusher = new Flusher();

  receive({ id, request }: WorkerCall<FlushRequest>): WorkerReply {
    try {
      return { id, ok: true, answer: this.#answer(request) };
    } catch (error) {
      const errorKind = error instanceof Refusal ? "corrupt" : isDiskFull(error) ? "full" : sqliteErrorKind(error);
      return { id, ok: false, error: explainError(error), errorKind };
    }
  }

  #answer(request: FlushRequest): FlushAnswers[keyof FlushAnswers] {
    switch (request.kind) {
      case "open":
        if (request.base !== undefined) this.#flusher.settle(request.path, request.sorting, request.base);
        return this.#flusher.open(request.path, request.sorting, request.verifyBytesMax);
      case "flush":
        return this.#flusher.flush(request.path, request.table, request.state, request.notifications);
      case "trim-notifications":
        return this.#flusher.trimNotifications(request.path, request.before);
      case "checkpoint":
        return this.#flusher.checkpoint(request.path);
      case "close":
        return void this.#flusher.close(request.path);
      case "replace":
        return this.#flusher.replace(request.path, request.sorting);
      case "remove":
        return void this.#flusher.remove(request.path);
      case "restart":
        return this.#flusher.restart(request.path);
      case "salvage":
        return this.#flusher.salvage(request.path);
      case "stop":
        return void this.#flusher.closeAll();
    }
  }
}
