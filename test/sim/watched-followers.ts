/**
 * The Followers port of a leader, watched: what is on its way to a follower and not acked never passes its bounds, in
 * entries and in bytes, whatever the follower does.
 */
import { CURSOR_BYTES_IN_FLIGHT_MAX, CURSOR_ENTRIES_IN_FLIGHT_MAX } from "../../src/model/limits.ts";
import type { AppendStream, Followers } from "../../src/ports.ts";
import { Violation } from "./violation.ts";

export function watchFollowers(followers: Followers, violated: (violation: Violation) => void): Followers {
  return {
    ...followers,
    replicate: (server, shard) => watchStream(followers.replicate(server, shard), server, violated),
  };
}

function watchStream(stream: AppendStream, server: string, violated: (violation: Violation) => void): AppendStream {
  const inFlight: { readonly offset: number; readonly bytes: number }[] = [];
  let bytes = 0;
  return {
    send(append) {
      const { entry } = append;
      if (entry !== undefined) {
        // one entry may always be on its way, however large
        if (inFlight.length > 0 && bytes >= CURSOR_BYTES_IN_FLIGHT_MAX) {
          violated(new Violation("Bounds", `${server} is sent more than ${bytes} bytes that it has not acked`));
        }
        inFlight.push({ offset: entry.offset, bytes: entry.value.length });
        bytes += entry.value.length;
        if (inFlight.length > CURSOR_ENTRIES_IN_FLIGHT_MAX) {
          violated(new Violation("Bounds", `${server} is sent ${inFlight.length} entries that it has not acked`));
        }
      }
      return stream.send(append);
    },
    drained: () => stream.drained(),
    async next() {
      const ack = await stream.next();
      while (ack !== undefined && inFlight[0] !== undefined && inFlight[0].offset <= ack.offset) {
        bytes -= inFlight.shift()!.bytes;
      }
      return ack;
    },
    cancel: () => stream.cancel(),
  };
}
