package varia.compat;

import io.oxia.client.api.SyncOxiaClient;
import io.oxia.client.api.options.ListOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;

/** One partition key for each shard, found by asking: two keys of one shard are listed together. */
final class Homes {
    private Homes() {}

    static List<String> find(SyncOxiaClient client, int shards) {
        List<String> homes = new ArrayList<>();
        for (int i = 0; homes.size() < shards; i++) {
            String candidate = "home-" + i;
            client.put(candidate, new byte[0]);
            boolean known = homes.stream().anyMatch(home ->
                    client.list("home-", "home.", Set.of(ListOption.PartitionKey(home))).contains(candidate));
            if (!known) {
                homes.add(candidate);
            }
        }
        client.deleteRange("home-", "home.");
        return homes;
    }
}
