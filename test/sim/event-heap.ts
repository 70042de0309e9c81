/** Events by the time at which they are due; those of one time in the order in which they were set. */

/** Who an event belongs to: it is dropped when its owner is gone, and kept back while its owner is paused. */
export interface Owner {
  readonly name: string;
  readonly alive: boolean;
  /** Whether the owner is paused and has taken the event, to set it again when it goes on. */
  hold(event: SimEvent): boolean;
}

export interface SimEvent {
  readonly dueMs: number;
  readonly sequence: number;
  readonly label: string;
  readonly owner: Owner | undefined;
  readonly run: () => void;
  inHeap: boolean;
  cancelled: boolean;
}

export class EventHeap {
  #events: SimEvent[] = [];
  #cancelled = 0;

  /** Events that are not cancelled. */
  get size(): number {
    return this.#events.length - this.#cancelled;
  }

  push(event: SimEvent): void {
    event.inHeap = true;
    const events = this.#events;
    let at = events.length;
    events.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(event, events[parent]!)) break;
      events[at] = events[parent]!;
      at = parent;
    }
    events[at] = event;
  }

  /** The event that is next, or undefined. */
  peek(): SimEvent | undefined {
    for (;;) {
      const first = this.#events[0];
      if (first === undefined || !first.cancelled) return first;
      this.#removeFirst();
      first.inHeap = false;
      this.#cancelled--;
    }
  }

  pop(): SimEvent | undefined {
    const first = this.peek();
    if (first === undefined) return undefined;
    this.#removeFirst();
    first.inHeap = false;
    return first;
  }

  /** Cancels an event, wherever it is: in the heap, held by its owner, or done. */
  cancel(event: SimEvent): void {
    if (event.cancelled) return;
    event.cancelled = true;
    if (event.inHeap && ++this.#cancelled > 64 && this.#cancelled * 2 > this.#events.length) this.#compact();
  }

  /** Deadlines that were cancelled must not pile up until they would have been due. */
  #compact(): void {
    const live: SimEvent[] = [];
    for (const event of this.#events) {
      if (event.cancelled) event.inHeap = false;
      else live.push(event);
    }
    this.#events = live.sort((a, b) => (isBefore(a, b) ? -1 : 1));
    this.#cancelled = 0;
  }

  #removeFirst(): void {
    const events = this.#events;
    const last = events.pop()!;
    const { length } = events;
    if (length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= length) break;
      if (child + 1 < length && isBefore(events[child + 1]!, events[child]!)) child++;
      if (!isBefore(events[child]!, last)) break;
      events[at] = events[child]!;
      at = child;
    }
    events[at] = last;
  }
}

function isBefore(a: SimEvent, b: SimEvent): boolean {
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.sequence < b.sequence);
}
