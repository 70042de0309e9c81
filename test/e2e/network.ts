/**
 * A network for the processes of one cluster: each in a network namespace of its own, joined by a bridge, so that what
 * one of them sends to another can be dropped without a word, in one direction or in both. Nothing tells the sender:
 * that is what a broken switch looks like, and what a refused connection does not.
 *
 *     this machine ── bridge 10.213.N.254 ─┬─ namespace s1 10.213.N.1
 *                                          ├─ namespace s2 10.213.N.2 …
 *
 * Needs root, iproute2 and nftables.
 */

export interface Network {
  /** Address that the processes of `name` bind. */
  hostOf(name: string): string;
  /** Words before a command that is to run there. */
  prefixOf(name: string): readonly string[];
  /** From now on nothing that `from` sends reaches `to`. */
  cut(from: string, to: string): void;
  /** Ends all cuts. */
  heal(): void;
  remove(): void;
}

const SUBNET = "10.213";
/** Networks that may stand at a time on one machine. */
const NETWORKS_MAX = 250;
const standing = new Set<NamespaceNetwork>();

process.on("exit", () => {
  for (const network of standing) network.remove();
});

export function run(...command: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(command);
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr.toString()}`);
}

function succeeds(...command: string[]): boolean {
  return Bun.spawnSync(command, { stderr: "ignore" }).exitCode === 0;
}

export class NamespaceNetwork implements Network {
  readonly #number: number;
  readonly #names: readonly string[];

  /** One namespace for each name. */
  static create(names: readonly string[]): NamespaceNetwork {
    const first = Math.floor(Math.random() * NETWORKS_MAX);
    for (let tried = 0; tried < NETWORKS_MAX; tried++) {
      const number = (first + tried) % NETWORKS_MAX;
      if (succeeds("ip", "link", "add", bridge(number), "type", "bridge")) return new NamespaceNetwork(number, names);
    }
    throw new Error("cannot add a bridge: this needs root, and a free number");
  }

  private constructor(number: number, names: readonly string[]) {
    this.#number = number;
    this.#names = names;
    standing.add(this);
    run("ip", "address", "add", `${SUBNET}.${number}.254/24`, "dev", bridge(number));
    run("ip", "link", "set", bridge(number), "up");
    for (const name of names) this.#add(name);
  }

  hostOf(name: string): string {
    return `${SUBNET}.${this.#number}.${this.#indexOf(name) + 1}`;
  }

  prefixOf(name: string): readonly string[] {
    return ["nsenter", `--net=/run/netns/${this.#namespace(name)}`];
  }

  cut(from: string, to: string): void {
    run(...this.prefixOf(to), "nft", "add", "rule", "inet", "cuts", "input", "ip", "saddr", this.hostOf(from), "drop");
  }

  heal(): void {
    for (const name of this.#names) run(...this.prefixOf(name), "nft", "flush", "chain", "inet", "cuts", "input");
  }

  remove(): void {
    if (!standing.delete(this)) return;
    for (const name of this.#names) succeeds("ip", "netns", "delete", this.#namespace(name));
    succeeds("ip", "link", "delete", bridge(this.#number));
  }

  #add(name: string): void {
    const namespace = this.#namespace(name);
    const outside = `vcl${this.#number}-${this.#indexOf(name)}`;
    succeeds("ip", "netns", "delete", namespace); // one that a killed run left behind
    run("ip", "netns", "add", namespace);
    run("ip", "link", "add", outside, "type", "veth", "peer", "name", "inside", "netns", namespace);
    run("ip", "link", "set", outside, "master", bridge(this.#number), "up");
    const inside = this.prefixOf(name);
    run(...inside, "ip", "link", "set", "lo", "up");
    run(...inside, "ip", "address", "add", `${this.hostOf(name)}/24`, "dev", "inside");
    run(...inside, "ip", "link", "set", "inside", "up");
    run(...inside, "nft", "add", "table", "inet", "cuts");
    run(...inside, "nft", "add", "chain", "inet", "cuts", "input", "{ type filter hook input priority 0 ; }");
  }

  #namespace(name: string): string {
    return `vcl${this.#number}-${name}`;
  }

  #indexOf(name: string): number {
    const index = this.#names.indexOf(name);
    if (index < 0) throw new Error(`no namespace ${name}`);
    return index;
  }
}

const bridge = (number: number) => `vcl${number}`;

/** Addresses of the loopback interface: no root, and no cuts. */
export class LoopbackNetwork implements Network {
  readonly #names: readonly string[];
  readonly #number = 1 + Math.floor(Math.random() * NETWORKS_MAX);

  constructor(names: readonly string[]) {
    this.#names = names;
  }

  hostOf(name: string): string {
    return `127.88.${this.#number}.${this.#names.indexOf(name) + 1}`;
  }

  prefixOf(): readonly string[] {
    return [];
  }

  cut(): void {
    throw new Error("the loopback interface cannot be cut: this needs network namespaces, and they need root");
  }

  heal(): void {}

  remove(): void {}
}

/** Namespaces where they can be had. */
export function openNetwork(names: readonly string[]): Network {
  if (process.getuid?.() === 0) return NamespaceNetwork.create(names);
  if (process.env.CI) throw new Error("network namespaces need root");
  return new LoopbackNetwork(names);
}
