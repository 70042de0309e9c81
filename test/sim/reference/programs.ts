/** The processes of a mixed cluster, by their kind. */
import { Refusal } from "../../../src/model/refusal.ts";
import type { SimDisk } from "../disk.ts";
import type { Network } from "../network.ts";
import type { Life } from "../node.ts";
import { simDataServers, simFollowers } from "../peer-calls.ts";
import { peerService } from "../peer-service.ts";
import { randomPort, type SimRandom } from "../random.ts";
import { ReferenceCoordinator, type ReferenceMetadata } from "./coordinator.ts";
import { ReferenceDataServer } from "./data-server.ts";
import { NAMESPACE, OPTIONS, SHARD, withRegisters } from "./registers.ts";

/** What the programs of one cluster share. */
export interface ProgramParts {
  readonly network: Network;
  /** Of the data servers. */
  readonly addresses: readonly string[];
  readonly random: SimRandom;
  /** The reference coordinator's document. */
  readonly reference: ReferenceMetadata;
}

export interface ServerParts {
  readonly address: string;
  readonly life: Life;
  readonly disk: SimDisk;
}

export const INSTANCE_ID = "mixed";

export const SERVERS = {
  async reference({ network }: ProgramParts, { address, life, disk }: ServerParts): Promise<void> {
    const channel = network.channel(life);
    const ports = { clock: life.clock, followers: simFollowers(channel), disk: disk.mount(life) };
    const server = await ReferenceDataServer.open(ports);
    const peers = peerService(server, (error) => life.node.scheduler.fail(error));
    const shard = {
      write: (request: Uint8Array) => server.write(SHARD, request),
      read: (key: Uint8Array) => server.read(SHARD, key),
    };
    channel.listen(address, withRegisters(peers, shard));
  },

  async varia(): Promise<void> {
    throw new Refusal("UNIMPLEMENTED", "not yet");
  },
};

export const COORDINATORS = {
  async reference(parts: ProgramParts, life: Life): Promise<void> {
    const servers = simDataServers(parts.network.channel(life));
    const random = randomPort(parts.random.split(`coordinator ${life.number}`));
    const ports = { clock: life.clock, random, servers, metadata: parts.reference };
    const coordinator = new ReferenceCoordinator(ports, {
      namespace: NAMESPACE,
      shard: SHARD,
      instanceId: INSTANCE_ID,
      options: OPTIONS,
    });
    await coordinator.run();
  },

  async varia(): Promise<void> {
    throw new Refusal("UNIMPLEMENTED", "not yet");
  },
};
