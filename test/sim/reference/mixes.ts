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

/** It leads: repeats NewTerm and Truncate until it agrees with them, and confirms its reads by their status. */
export const TWO_REFERENCE_SERVERS: Mix = {
  name: "one of ours leads reference servers",
  servers: ["varia", "reference", "reference"],
  coordinator: "varia",
  judged: "puts",
  oursLeads: true,
};

/** What reference servers promise each other is theirs; our coordinator brings them to serve. */
export const REFERENCE_SERVERS: Mix = {
  name: "reference servers, a coordinator of ours",
  servers: ["reference", "reference", "reference"],
  coordinator: "varia",
  judged: "nothing",
};

export const MIXES: readonly Mix[] = [
  REFERENCE_COORDINATOR,
  ONE_REFERENCE_SERVER,
  ONE_OF_OURS_UNDER_REFERENCE,
  TWO_REFERENCE_SERVERS,
  REFERENCE_SERVERS,
];
