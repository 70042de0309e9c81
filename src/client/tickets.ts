/**
 * A line of those who want one thing: each draws a ticket, the server numbers them, and the lowest one has the thing.
 *
 *     key/ticket-00000000000000000041   has it
 *     key/ticket-00000000000000000042   waits for 41 to go, and for no other
 *
 * Tickets are ephemeral records in the shard of the key: one whose holder is gone goes with its session, and the line
 * moves on. A put that was sent twice draws two tickets; `attempt` tells that both are one holder's, and the lower counts.
 *
 * Invariant: version ids of one shard ascend, so the version id of the ticket that has the thing is greater than those of
 * all that had it before: a fencing token.
 */
import { text } from "../lib/bytes.ts";
import type { Int64 } from "../wire/reader.ts";
import type { VariaClient } from "./client.ts";
import type { GetResult } from "./records.ts";

export interface Ticket {
  readonly key: string;
  readonly holder: string;
  readonly attempt: string;
  readonly versionId: Int64;
  readonly sessionId: Int64 | undefined;
}

export class Tickets {
  readonly #client: VariaClient;
  readonly #prefix: string;
  readonly #partitionKey: string;

  constructor(client: VariaClient, key: string) {
    this.#client = client;
    this.#prefix = `${key}/ticket`;
    this.#partitionKey = key;
  }

  /** The key that decides about the shard of the line. */
  get partitionKey(): string {
    return this.#partitionKey;
  }

  /** Whether the key is, or may be, one of the line's. */
  includes(key: string): boolean {
    return key.startsWith(this.#prefix);
  }

  /** All tickets, in the order of the line. */
  async inLine(): Promise<Ticket[]> {
    const tickets: Ticket[] = [];
    const records = this.#client.rangeScan({
      // `-` is what the server puts before the number, and `.` follows it
      startInclusive: `${this.#prefix}-`,
      endExclusive: `${this.#prefix}.`,
      partitionKey: this.#partitionKey,
    });
    for await (const record of records) {
      if (/^-\d{20}$/.test(record.key.slice(this.#prefix.length))) tickets.push(ticketOf(record));
    }
    return tickets;
  }

  /** Goes to the end of the line; resolves with the session that keeps the ticket. */
  async draw(holder: string, attempt: string): Promise<Int64 | undefined> {
    const { version } = await this.#client.put(this.#prefix, JSON.stringify({ holder, attempt }), {
      ephemeral: true,
      partitionKey: this.#partitionKey,
      sequenceKeysDeltas: [1],
    });
    return version.sessionId;
  }

  /** Leaves the line, with all tickets of one attempt. */
  async leave(attempt: string): Promise<void> {
    const own = (await this.inLine()).filter((ticket) => ticket.attempt === attempt);
    await Promise.all(own.map(({ key }) => this.#client.delete(key, { partitionKey: this.#partitionKey })));
  }
}

/** Records that somebody else put there take part too: their value is their holder. */
function ticketOf({ key, value, version }: GetResult): Ticket {
  const { versionId, sessionId } = version;
  const raw = text(value);
  try {
    const { holder, attempt } = JSON.parse(raw) as { holder?: unknown; attempt?: unknown };
    if (typeof holder === "string" && typeof attempt === "string") {
      return { key, holder, attempt, versionId, sessionId };
    }
  } catch {
    // not ours
  }
  return { key, holder: raw, attempt: key, versionId, sessionId };
}
