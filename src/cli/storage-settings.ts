/** Settings of `varia storage`: those of Oxia's `server`, and Varia's own. */
import { address, boolean, type Settings } from "../ops/settings.ts";
import { DATA_SETTINGS, setting } from "./data-settings.ts";

export const STORAGE_SETTINGS = {
  internalAddr: setting({
    flags: "-i, --internal-addr <host:port>",
    description: "where coordinators and other data servers connect",
    path: "server.internal.bindAddress",
    default: { host: "0.0.0.0", port: 6649 },
    shown: "0.0.0.0:6649",
    parse: address,
  }),
  ...DATA_SETTINGS,
  authorityValidation: setting({
    flags: "--authority-validation <bool>",
    description: "serve only clients that call this server by an address of the cluster's configuration",
    path: "featureFlags.authorityValidation",
    default: true,
    parse: boolean,
  }),
};

export type StorageSettings = Settings<typeof STORAGE_SETTINGS>;
