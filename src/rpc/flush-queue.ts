/**
 * Calls that have something to write, gathered until all sockets that were readable have been read: what one read
 * brings is answered with one write a stream, and (see http2-session.ts) one system call a connection.
 */

export interface Flushable {
  /** Writes what is there. Must not throw. */
  flush(): void;
}

let gathered: Flushable[] = [];

/** Has `flush` called at the end of this turn of the event loop; once for each time it was asked for. */
export function flushSoon(flushable: Flushable): void {
  if (gathered.push(flushable) === 1) setImmediate(flushAll);
}

function flushAll(): void {
  const flushables = gathered;
  gathered = [];
  for (const flushable of flushables) flushable.flush();
}
