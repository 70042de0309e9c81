/** Runs tasks one at a time, in the order in which they came. */
export class Serial {
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  /** Tasks that are not done yet, the one that runs included. */
  get size(): number {
    return this.#waiting;
  }

  /** Runs `task` once all that came before are done, whatever became of them. */
  run<T>(task: () => Promise<T>): Promise<T> {
    this.#waiting++;
    const done = this.#last.then(task).finally(() => {
      this.#waiting--;
    });
    this.#last = done.catch(() => {});
    return done;
  }
}
