/**
 * Live pages: one stream of server-sent events a page, over which its body comes again whenever it has changed.
 *
 *     readers of one address ─> one channel: render now and then ─> changed? ─> all of its readers
 *
 * However many look at a page, it is made once. A page that takes long to make is made less often, so that all of them
 * together take a bounded share of the process. A reader that is slow gets the newest body when it can take one.
 *
 * Source: WHATWG HTML, server-sent events.
 */

/** Between two looks at a page, in milliseconds; more where making it takes long. */
export const LIVE_INTERVAL_MS = 500;
const LIVE_INTERVAL_MS_MAX = 10_000;
/** Making a page takes at most so much of the time. */
const LIVE_SHARE = 0.04;
/**
 * A stream says that it is there at least so often: what lies between may cut one that is silent, and a page that hears
 * nothing for longer says so (assets/app.js).
 */
const LIVE_SILENCE_MS = 5_000;
/** Streams at a time; more are refused. */
export const LIVE_STREAMS_MAX = 500;

interface Reader {
  readonly isWelcome: () => boolean;
  readonly controller: ReadableStreamDefaultController<Uint8Array>;
  /** What it was sent last. */
  sent: string;
  sentAtMs: number;
}

export interface LiveReader {
  readonly lastId: string;
  readonly isWelcome: () => boolean;
}

export interface LiveOptions {
  /** The body of the page at an address, as HTML. */
  readonly render: (address: string) => Promise<string>;
}

export class Live {
  readonly #options: LiveOptions;
  readonly #channels = new Map<string, Set<Reader>>();
  #streams = 0;

  constructor(options: LiveOptions) {
    this.#options = options;
  }

  get streams(): number {
    return this.#streams;
  }

  /**
   * The stream of one reader; `lastId`: of the body that it has. It ends when the reader is not welcome any more.
   * Undefined: there are too many.
   */
  open(address: string, { lastId, isWelcome }: LiveReader): ReadableStream<Uint8Array> | undefined {
    if (this.#streams >= LIVE_STREAMS_MAX) return undefined;
    let reader: Reader | undefined;
    return new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          reader = { controller, isWelcome, sent: lastId, sentAtMs: 0 };
          this.#streams++;
          this.#join(address, reader);
        },
        cancel: () => this.#leave(address, reader!),
      },
      { highWaterMark: 1 },
    );
  }

  /** Ends all streams. */
  close(): void {
    for (const [address, readers] of this.#channels) {
      for (const reader of readers) {
        reader.controller.close();
        this.#leave(address, reader);
      }
    }
  }

  #join(address: string, reader: Reader): void {
    const readers = this.#channels.get(address);
    if (readers !== undefined) {
      readers.add(reader);
      return;
    }
    const own = new Set([reader]);
    this.#channels.set(address, own);
    void this.#run(address, own);
  }

  #leave(address: string, reader: Reader): void {
    const readers = this.#channels.get(address);
    if (readers?.delete(reader) !== true) return;
    this.#streams--;
    if (readers.size === 0) this.#channels.delete(address);
  }

  /** As long as somebody reads. */
  async #run(address: string, readers: Set<Reader>): Promise<void> {
    while (readers.size > 0) {
      const beganMs = performance.now();
      const body = await this.#options.render(address).catch(() => undefined);
      const tookMs = performance.now() - beganMs;
      this.#seeOut(address, readers);
      if (body !== undefined) this.#tell(readers, body);
      const pauseMs = Math.min(LIVE_INTERVAL_MS_MAX, Math.max(LIVE_INTERVAL_MS, tookMs / LIVE_SHARE));
      await new Promise((resolve) => setTimeout(resolve, pauseMs).unref());
    }
  }

  /** Whoever has logged out meanwhile, or whose session has ended, is told nothing more. */
  #seeOut(address: string, readers: Set<Reader>): void {
    for (const reader of [...readers]) {
      if (reader.isWelcome()) continue;
      reader.controller.close();
      this.#leave(address, reader);
    }
  }

  #tell(readers: Set<Reader>, body: string): void {
    const id = Bun.hash(body).toString(36);
    const nowMs = performance.now();
    let message: Uint8Array | undefined;
    for (const reader of readers) {
      if ((reader.controller.desiredSize ?? 0) <= 0) continue;
      if (reader.sent !== id) {
        message ??= encode(`id: ${id}\n${body.replace(/^/gm, "data: ")}\n\n`);
        reader.controller.enqueue(message);
        reader.sent = id;
        reader.sentAtMs = nowMs;
      } else if (nowMs - reader.sentAtMs >= LIVE_SILENCE_MS) {
        reader.controller.enqueue(encode("event: alive\ndata:\n\n"));
        reader.sentAtMs = nowMs;
      }
    }
  }
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
