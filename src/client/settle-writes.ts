/** Hands the answers of one write request to the operations in it. */
import { Status, type WriteAnswer } from "./answers.ts";
import type { Batch } from "./batch.ts";
import { type CallStatus, plainStatus } from "./call-status.ts";
import { ServerError, SessionDoesNotExistError, UnexpectedVersionIdError } from "./errors.ts";
import { GrpcCode } from "./grpc-code.ts";
import type { WriteOperation } from "./operation.ts";
import { PutResult } from "./records.ts";

export type WriteBatch = Batch<WriteOperation>;

export function malformed(what: unknown): CallStatus {
  return plainStatus(GrpcCode.internal, what instanceof Error ? what.message : String(what));
}

/** Gives each operation its answer; false, and nothing happens, when the answer is not one to this batch. */
export function settleWrites(batch: WriteBatch, answer: WriteAnswer): boolean {
  let puts = 0;
  let deletes = 0;
  let deleteRanges = 0;
  for (const { kind } of batch.operations) {
    if (kind === "put") puts++;
    else if (kind === "delete") deletes++;
    else deleteRanges++;
  }
  if (answer.puts.length !== puts || answer.deletes.length !== deletes || answer.deleteRanges.length !== deleteRanges) {
    return false;
  }
  if (batch.settled) return true;
  const outcomeUnknown = batch.sends > 1;
  puts = 0;
  deletes = 0;
  deleteRanges = 0;
  for (const operation of batch.operations) {
    switch (operation.kind) {
      case "put": {
        const { status, version, key } = answer.puts[puts++]!;
        if (status === Status.ok && version !== undefined) {
          operation.resolve(new PutResult(key ?? operation.key, version));
        } else operation.reject(statusError(status, outcomeUnknown));
        break;
      }
      case "delete": {
        const status = answer.deletes[deletes++]!;
        if (status === Status.ok || status === Status.keyNotFound) operation.resolve(status === Status.ok);
        else operation.reject(statusError(status, outcomeUnknown));
        break;
      }
      case "delete-range": {
        const status = answer.deleteRanges[deleteRanges++]!;
        if (status === Status.ok) operation.resolve();
        else operation.reject(statusError(status, outcomeUnknown));
        break;
      }
    }
  }
  batch.settle();
  return true;
}

function statusError(status: number, outcomeUnknown: boolean): Error {
  if (status === Status.unexpectedVersionId) return new UnexpectedVersionIdError({ outcomeUnknown });
  if (status === Status.sessionDoesNotExist) return new SessionDoesNotExistError({ outcomeUnknown });
  return new ServerError(malformed(`status ${status} of a write`), { outcomeUnknown: true });
}
