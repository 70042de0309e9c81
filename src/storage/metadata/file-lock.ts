/**
 * flock(2) on an open file: the lock that Oxia's file provider takes on its status file, which SQLite's and Node's
 * file functions do not offer. It belongs to the open file and goes with it, however the process ends.
 *
 * Source: juju/fslock, which Oxia uses: an exclusive flock on the file itself.
 */
import { dlopen, FFIType } from "bun:ffi";

const LOCK_EX = 2;
const LOCK_NB = 4;

type Flock = (file: number, operation: number) => number;

let flock: Flock | undefined;

/** Takes the exclusive lock if it is free. False: another open file has it, or the file system knows no locks. */
export function tryLockFile(file: number): boolean {
  flock ??= loadFlock();
  return flock(file, LOCK_EX | LOCK_NB) === 0;
}

/** The C library goes by another name on each system: glibc's, musl's, macOS's. */
function loadFlock(): Flock {
  const musl = `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`;
  const failures: unknown[] = [];
  for (const library of ["libc.so.6", musl, "libSystem.B.dylib"]) {
    try {
      return dlopen(library, { flock: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 } }).symbols.flock;
    } catch (error) {
      failures.push(error);
    }
  }
  throw new AggregateError(failures, "no C library offers flock");
}
