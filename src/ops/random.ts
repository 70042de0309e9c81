/** The real chance: replica ids from the system's generator, since no two in the world may be the same. */
import { randomBytes } from "node:crypto";
import type { ReplicaId } from "../model/ids.ts";
import type { Random } from "../ports.ts";

export const systemRandom: Random = {
  fraction: () => Math.random(),
  replicaId(): ReplicaId {
    const id = randomBytes(8).readBigUInt64LE() >> 1n;
    return id === 0n ? 1n : id;
  },
};
