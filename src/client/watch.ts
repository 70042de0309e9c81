/**
 * One subscription to notifications for all locks and elections of a client, open while there is one to wait for it.
 * When it fails its listeners are called, and look for themselves.
 */
import type { NotificationItem } from "./changes.ts";
import type { VariaClient } from "./client.ts";
import type { Notifications } from "./notifications.ts";

/** Undefined: the subscription has ended, and nothing is known. */
type Listener = (item: NotificationItem | undefined) => void;

const watches = new WeakMap<VariaClient, Watch>();

export class Watch {
  readonly #client: VariaClient;
  readonly #listeners = new Set<Listener>();
  #open: Promise<Notifications> | undefined;

  private constructor(client: VariaClient) {
    this.#client = client;
  }

  static of(client: VariaClient): Watch {
    let watch = watches.get(client);
    if (watch === undefined) {
      watch = new Watch(client);
      watches.set(client, watch);
    }
    return watch;
  }

  /** Resolves once `listener` hears of every change from then on. The returned function ends that. */
  async add(listener: Listener): Promise<() => void> {
    this.#listeners.add(listener);
    this.#open ??= this.#start();
    try {
      await this.#open;
    } catch (error) {
      this.#remove(listener);
      throw error;
    }
    return () => this.#remove(listener);
  }

  #remove(listener: Listener): void {
    this.#listeners.delete(listener);
    if (this.#listeners.size > 0) return;
    const open = this.#open;
    this.#open = undefined;
    open?.then(
      (notifications) => notifications.return(),
      () => {},
    );
  }

  #start(): Promise<Notifications> {
    const started: Promise<Notifications> = this.#client.notifications().then(
      (notifications) => {
        void this.#follow(notifications, started);
        return notifications;
      },
      (error) => {
        if (this.#open === started) this.#open = undefined;
        throw error;
      },
    );
    return started;
  }

  async #follow(notifications: Notifications, started: Promise<Notifications>): Promise<void> {
    try {
      for await (const item of notifications) for (const listener of [...this.#listeners]) listener(item);
    } catch {
      // those who wait look for themselves, and find out what is wrong
    }
    if (this.#open !== started) return;
    this.#open = undefined;
    for (const listener of [...this.#listeners]) listener(undefined);
  }
}

/** A flag that one task waits for and others raise. */
export class Wake {
  #raised = false;
  #resolve: (() => void) | undefined;

  get raised(): boolean {
    return this.#raised;
  }

  raise(): void {
    this.#raised = true;
    this.#resolve?.();
  }

  /** Resolves once it is raised, and lowers it. */
  async wait(): Promise<void> {
    if (!this.#raised) {
      await new Promise<void>((resolve) => {
        this.#resolve = resolve;
      });
    }
    this.#resolve = undefined;
    this.#raised = false;
  }
}
