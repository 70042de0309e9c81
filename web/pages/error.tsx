/** @jsxImportSource hono/jsx */
/** What is shown in the place of a page that cannot be: what failed, and what to do. */
import { ServerError, VariaError } from "../../src/client/errors.ts";
import { GrpcCode } from "../../src/client/grpc-code.ts";
import { Refusal, Unreachable } from "../../src/model/refusal.ts";
import { type Page, PageError } from "../page.ts";

/** For those who may not see it, whatever they do. */
export function refusedPage(why: string): Page {
  const body = (
    <>
      <h1>Not allowed</h1>
      <p class="notice bad" role="alert">
        {why}
      </p>
    </>
  );
  return { title: "Not allowed", body, status: 403 };
}

type Status = PageError["status"] | 500 | 503;

const TITLES: Record<PageError["status"], string> = {
  400: "Not understood",
  403: "Not allowed",
  404: "Not found",
  409: "Not done",
  413: "Too large",
};

export function errorPage(error: unknown): Page & { readonly status: Status } {
  const { status, title, message } = wordsOf(error);
  const body = (
    <>
      <h1>{title}</h1>
      <p class="notice bad" role="alert">
        {message}
      </p>
      <p>
        <a href="/">To the first page</a>
      </p>
    </>
  );
  // what was away may be back when it is looked at again
  return { title, body, status, live: status === 503 };
}

function wordsOf(error: unknown): { status: Status; title: string; message: string } {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof PageError) {
    return { status: error.status, title: TITLES[error.status], message };
  }
  if (error instanceof Refusal) {
    switch (error.reason) {
      case "INVALID_ARGUMENT":
        return { status: 400, title: "Not understood", message };
      case "NOT_FOUND":
      case "SHARD_NOT_FOUND":
      case "NAMESPACE_NOT_FOUND":
        return { status: 404, title: "Not found", message };
      case "ALREADY_EXISTS":
      case "CONCURRENT_CHANGE":
      case "FAILED_PRECONDITION":
        return { status: 409, title: "Not done", message };
      case "NOT_INITIALIZED":
        return { status: 503, title: "Not ready", message: "The coordinator does not work yet, or not any more." };
      default:
        return { status: 503, title: "Refused", message };
    }
  }
  if (error instanceof Unreachable) return { status: 503, title: "No answer", message };
  if (error instanceof VariaError) return ofClient(error);
  return { status: 500, title: "Failed", message };
}

/** What a client of the cluster was refused, or did not get. */
function ofClient(error: VariaError): { status: Status; title: string; message: string } {
  const { message } = error;
  const of = (status: PageError["status"]) => ({ status, title: TITLES[status], message });
  switch (error.code) {
    case "INVALID_ARGUMENT":
      return of(400);
    case "NAMESPACE_NOT_FOUND":
      return of(404);
    case "UNEXPECTED_VERSION_ID":
    case "SESSION_DOES_NOT_EXIST":
      return of(409);
    case "SERVER": {
      const status = error instanceof ServerError ? STATUS_OF_CODE.get(error.grpcCode) : undefined;
      return status === undefined ? { status: 503, title: "Refused", message } : of(status);
    }
    default:
      return { status: 503, title: "No answer", message };
  }
}

const STATUS_OF_CODE: ReadonlyMap<number, PageError["status"]> = new Map([
  [GrpcCode.invalidArgument, 400],
  [GrpcCode.permissionDenied, 403],
  [GrpcCode.notFound, 404],
  [GrpcCode.failedPrecondition, 409],
]);
