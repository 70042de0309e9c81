/** The hash by which clients and servers route keys, the platform's own: it is the same for the same key, always. */
import { loadKeyHash } from "../../../src/client/platform.ts";

export const keyHash = await loadKeyHash();
