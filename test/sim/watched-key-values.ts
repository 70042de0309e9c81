/** KeyValues whose states tell a cluster's checkers what is applied to them. */
import type { KeyValue, KeyValues } from "../../src/ports.ts";
import type { WatchedServer } from "./watched-log.ts";

export function watchKeyValues(keyValues: KeyValues, watched: WatchedServer): KeyValues {
  return {
    async open(place, base) {
      const opened = await keyValues.open(place, base);
      return "damage" in opened ? opened : { keyValue: watchKeyValue(opened.keyValue, place.shard, watched) };
    },
    async receive(place) {
      const receiver = await keyValues.receive(place);
      return {
        add: (piece) => receiver.add(piece),
        complete: (applied, rowCount, stateHash) => receiver.complete(applied, rowCount, stateHash),
        switchTo: async () => watchKeyValue(await receiver.switchTo(), place.shard, watched),
        drop: () => receiver.drop(),
      };
    },
    remove: (place) => keyValues.remove(place),
  };
}

function watchKeyValue(kv: KeyValue, shard: number, { server, of }: WatchedServer): KeyValue {
  const invariants = of(shard);
  invariants.stateOpened(server, kv.applied, kv.stateHash, kv.rowCount);
  const commit = kv.commit.bind(kv);
  kv.commit = (state, notifications) => {
    commit(state, notifications);
    invariants.applied(server, state, kv.stateHash, kv.rowCount);
  };
  return kv;
}
