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
  414: "Too long",
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

interface Words {
  readonly status: Status;
  readonly title: string;
  readonly message: string;
}

function wordsOf(error: unknown): Words {
  const message = error instanceof Error ? error.message : String(error);
  const told = (status: PageError["status"]): Words => ({ status, title: TITLES[status], message });
  if (error instanceof PageError) return told(error.status);
  if (error instanceof Refusal) {
    switch (error.reason) {
      case "INVALID_ARGUMENT":
        return told(400);
      case "NOT_FOUND":
      case "SHARD_NOT_FOUND":
      case "NAMESPACE_NOT_FOUND":
        return told(404);
      case "ALREADY_EXISTS":
      case "CONCURRENT_CHANGE":
      case "FAILED_PRECONDITION":
        return told(409);
      case "NOT_INITIALIZED":
        return { status: 503, title: "Not ready", message: "The coordinator does not work yet, or not any more." };
      default:
        return { status: 503, title: "Refused", message };
    }
  }
  if (error instanceof VariaError) return clientWords(error, told);
  if (error instanceof Unreachable) return { status: 503, title: "No answer", message };
  return { status: 500, title: "Failed", message };
}

/** Of what the client of the cluster rejects with. */
function clientWords(error: VariaError, told: (status: PageError["status"]) => Words): Words {
  const { code, message } = error;
  switch (code) {
    case "INVALID_ARGUMENT":
      return told(400);
    case "NAMESPACE_NOT_FOUND":
      return told(404);
    case "UNEXPECTED_VERSION_ID":
    case "SESSION_DOES_NOT_EXIST":
    case "LOCK_LOST":
      return told(409);
    case "TIMEOUT":
      return { status: 503, title: "No answer", message };
    case "CLOSED":
    case "OVERLOADED":
      return { status: 503, title: "Refused", message };
    case "SERVER":
      return error instanceof ServerError ? serverWords(error, told) : { status: 500, title: "Failed", message };
  }
}

function serverWords({ grpcCode, message }: ServerError, told: (status: PageError["status"]) => Words): Words {
  switch (grpcCode) {
    case GrpcCode.invalidArgument:
      return told(400);
    case GrpcCode.unauthenticated:
    case GrpcCode.permissionDenied:
      return told(403);
    case GrpcCode.notFound:
      return told(404);
    case GrpcCode.alreadyExists:
    case GrpcCode.failedPrecondition:
    case GrpcCode.aborted:
      return told(409);
    case GrpcCode.unavailable:
    case GrpcCode.resourceExhausted:
    case GrpcCode.deadlineExceeded:
    case GrpcCode.cancelled:
      return { status: 503, title: "Refused", message };
    default:
      return { status: 500, title: "Failed", message };
  }
}
