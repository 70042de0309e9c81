/** Exit codes, the same for every command (cli-and-packaging.md §5.1), and the error that carries one. */

export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  notFound: 3,
  versionConflict: 4,
  unavailable: 5,
  notAllowed: 6,
  interrupted: 130,
  terminated: 143,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** Ends the command with this code; the message is for people, on standard error. */
export class ExitError extends Error {
  override readonly name = "ExitError";
  readonly code: ExitCode;

  constructor(code: ExitCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
