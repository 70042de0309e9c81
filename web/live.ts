/**
 * Live pages: one stream of server-sent events a page, over which its body comes again whenever it has changed.
 *
 *     readers of one address ─> one channel: render now and then ─> changed? ─> all of its readers
 *
 * However many look at a page, it is made once. All pages together take a bounded share of a core, and a larger one while
 * something happens: the more there is to make, the less often each is made. A reader that is slow gets the newest body
 * when it can take one.
 *
 * Source: WHATWG HTML, server-sent events.
 */
import { systemClock } from "../src/ops/clock.ts";
import type { Clock } from "../src/ports.ts";

/** Between two looks at a page, in milliseconds; more where making it takes long. */
export const LIVE_INTERVAL_MS = 500;
const LIVE_INTERVAL_MS_MAX = 10_000;
/** Making all pages takes at most so much of the time … */
const LIVE_SHARE = 0.04;
/** … and so much while something happens. */
const LIVE_SHARE_WOKEN = 0.2;
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
  readonly clock?: Pick<Clock, "monotonicMs" | "after">;
  /** What this process has used of a core, in milliseconds. */
  readonly cpuMs?: () => number;
}

function ownCpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

/** A page that somebody looks at. */
interface Channel {
  readonly readers: Set<Reader>;
  /** What making it took last, in milliseconds of a core. */
  tookMs: number;
  /** Makes its pause a short one. */
  wake: () => void;
  /** Ends its pause. */
  end: () => void;
}

export class Live {
  readonly #options: Required<LiveOptions>;
  readonly #channels = new Map<string, Channel>();
  #streams = 0;

  constructor(options: LiveOptions) {
    this.#options = { clock: systemClock, cpuMs: ownCpuMs, ...options };
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

  /** Something has happened: pages are made again soon. */
  wake(): void {
    for (const channel of this.#channels.values()) channel.wake();
  }

  /** Ends all streams. */
  close(): void {
    for (const [address, { readers }] of this.#channels) {
      for (const reader of readers) {
        reader.controller.close();
        this.#leave(address, reader);
      }
    }
  }

  #join(address: string, reader: Reader): void {
    const channel = this.#channels.get(address);
    if (channel !== undefined) {
      channel.readers.add(reader);
      return;
    }
    const own: Channel = { readers: new Set([reader]), tookMs: 0, wake: () => {}, end: () => {} };
    this.#channels.set(address, own);
    void this.#run(address, own);
  }

  #leave(address: string, reader: Reader): void {
    const channel = this.#channels.get(address);
    if (channel?.readers.delete(reader) !== true) return;
    this.#streams--;
    if (channel.readers.size > 0) return;
    this.#channels.delete(address);
    channel.end();
  }

  /** As long as somebody reads. */
  async #run(address: string, channel: Channel): Promise<void> {
    const { readers } = channel;
    const { clock, cpuMs } = this.#options;
    while (readers.size > 0) {
      const [beganMs, usedMs] = [clock.monotonicMs(), cpuMs()];
      const body = await this.#options.render(address).catch(() => undefined);
      // what others did meanwhile counts with it, but never more than the time that has passed
      channel.tookMs = Math.min(cpuMs() - usedMs, clock.monotonicMs() - beganMs);
      this.#seeOut(address, readers);
      if (body !== undefined) this.#tell(readers, body);
      await this.#pause(channel);
    }
  }

  #pause(channel: Channel): Promise<void> {
    const all = [...this.#channels.values()].reduce((sum, { tookMs }) => sum + tookMs, 0);
    const pauseMs = (share: number) => Math.min(LIVE_INTERVAL_MS_MAX, Math.max(LIVE_INTERVAL_MS, all / share));
    const { clock } = this.#options;
    const sinceMs = clock.monotonicMs();
    return new Promise((resolve) => {
      let cancel = () => {};
      channel.end = () => {
        cancel();
        channel.wake = () => {};
        resolve();
      };
      const endIn = (ms: number) => {
        cancel();
        cancel = clock.after(Math.max(0, ms), channel.end);
      };
      channel.wake = () => {
        channel.wake = () => {};
        endIn(pauseMs(LIVE_SHARE_WOKEN) - (clock.monotonicMs() - sinceMs));
      };
      endIn(pauseMs(LIVE_SHARE));
    });
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
    const nowMs = this.#options.clock.monotonicMs();
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
