/**
 * A coordinator's machine: the process opens the store, coordinates as long as it can tell what the store holds, and
 * ends; its supervisor starts the next one.
 */
import type { ClusterConfig } from "../../src/coordination/cluster-config.ts";
import { Coordinator } from "../../src/coordination/coordinator.ts";
import { StoreLost } from "../../src/coordination/status-store.ts";
import { Refusal, Unreachable } from "../../src/model/refusal.ts";
import { type Cluster, STORE_ADDRESS } from "./cluster.ts";
import { Machine } from "./machine.ts";
import { openSimMetadata } from "./metadata-store.ts";
import type { Life, SimNode } from "./node.ts";
import { simDataServers } from "./peer-calls.ts";
import { randomPort, type SimRandom } from "./random.ts";
import { traceLogger } from "./trace-logger.ts";

export class CoordinatorMachine extends Machine {
  readonly #cluster: Cluster;
  #coordinator: Coordinator | undefined;

  constructor(cluster: Cluster, node: SimNode) {
    super({ node, random: cluster.random.split(`machine ${node.name}`), main: (life) => this.#coordinate(life) });
    this.#cluster = cluster;
    node.watchers.push({
      ended: () => {
        this.#coordinator = undefined;
      },
    });
  }

  /** What works there now. */
  get coordinator(): Coordinator | undefined {
    return this.#coordinator;
  }

  /** Asks for one server in the place of another in a shard's ensemble, the same one perhaps. */
  askSwap(random: SimRandom): void {
    const coordinator = this.#coordinator;
    const { life } = this.node;
    const shards = [...this.#cluster.invariants.shards()].filter(([, { stored }]) => stored.members.length > 0);
    if (coordinator === undefined || life === undefined || shards.length === 0) return;
    const [shard, { stored }] = random.pick(shards);
    const from = random.pick(stored.members).server;
    const spare = this.#cluster.dataServers
      .map(({ internal }) => internal)
      .filter((server) => server === from || !stored.members.some((member) => member.server === server));
    const { name } = this.#cluster.plan.namespaces[0]!;
    const to = random.pick(spare);
    life.spawn("swap", async () => {
      try {
        await coordinator.swap({ namespace: name, shard }, from, to);
      } catch (error) {
        if (!isExpected(error)) throw error;
      }
    });
  }

  async #coordinate(life: Life): Promise<void> {
    const { network, random } = this.#cluster;
    const channel = network.channel(life);
    const ports = {
      store: openSimMetadata(channel, STORE_ADDRESS),
      dataServers: simDataServers(channel),
      clock: life.clock,
      random: randomPort(random.split(life.name)),
      logger: traceLogger(this.node),
    };
    try {
      const coordinator = await Coordinator.open(ports, configOf(this.#cluster));
      this.#coordinator = coordinator;
      await coordinator.run();
    } catch (error) {
      if (!isExpected(error)) throw error;
    }
    this.node.end("killed");
  }
}

/** What a swap or a coordinator's life may end with: the store or a server was out of reach, or turned it down. */
function isExpected(error: unknown): boolean {
  return error instanceof StoreLost || error instanceof Refusal || error instanceof Unreachable;
}

function configOf({ plan, dataServers }: Cluster): ClusterConfig {
  return {
    namespaces: plan.namespaces.map(({ name, shards, replicationFactor, readConsistency }) => ({
      name,
      shards,
      replicationFactor,
      readConsistency,
      notificationsEnabled: true,
      keySorting: "hierarchical",
    })),
    servers: dataServers.map(({ internal, publicAddress }) => ({ name: undefined, public: publicAddress, internal })),
    allowExtraAuthorities: [],
  };
}

export function newCoordinatorMachine(cluster: Cluster, node: SimNode): CoordinatorMachine {
  return new CoordinatorMachine(cluster, node);
}
