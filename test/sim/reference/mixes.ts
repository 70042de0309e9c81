/** The mixes of safety.md §11, with what must hold in each while every disk is kept and no log is trimmed. */
import type { Mix } from "./mixed-cluster.ts";

/** Ours under a coordinator without ids: all that needs no id holds, linearizable reads too. */
export const REFERENCE_COORDINATOR: Mix = {
  name: "servers of ours, a reference coordinator",
  servers: ["varia", "varia", "varia"],
  coordinator: "reference",
  judged: "all",
};

/** It follows servers of ours, and leads them at times. */
export const ONE_REFERENCE_SERVER: Mix = {
  name: "one reference server among ours",
  servers: ["varia", "varia", "reference"],
  coordinator: "varia",
  judged: "puts",
};

export const ONE_OF_OURS_UNDER_REFERENCE: Mix = {
  name: "one reference server among ours, a reference coordinator",
  servers: ["varia", "varia", "reference"],
  coordinator: "reference",
  judged: "puts",
};

export const MIXES: readonly Mix[] = [REFERENCE_COORDINATOR, ONE_REFERENCE_SERVER, ONE_OF_OURS_UNDER_REFERENCE];
