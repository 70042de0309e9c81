package varia.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.oxia.client.api.Notification;
import io.oxia.client.api.OxiaClientBuilder;
import io.oxia.client.api.SyncOxiaClient;
import io.oxia.client.api.exceptions.UnexpectedVersionIdException;
import io.oxia.client.api.options.DeleteOption;
import io.oxia.client.api.options.DeleteRangeOption;
import io.oxia.client.api.options.GetOption;
import io.oxia.client.api.options.GetSequenceUpdatesOption;
import io.oxia.client.api.options.ListOption;
import io.oxia.client.api.options.PutOption;
import java.io.Closeable;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Notifications and sequence keys, also across a SIGKILL and restart of the server. */
@Timeout(60)
class FeedTest {
    private static final byte[] VALUE = {1};

    private static SyncOxiaClient open(VariaServer server) throws Exception {
        return OxiaClientBuilder.create(server.address()).syncClient();
    }

    private static <T> T next(BlockingQueue<T> queue) throws InterruptedException {
        T found = queue.poll(20, TimeUnit.SECONDS);
        assertNotNull(found, "nothing came within 20 s");
        return found;
    }

    /** Subscribes, and waits until every shard tells what happens: the client does not say when it is ready. */
    private static BlockingQueue<Notification> subscribe(SyncOxiaClient client, List<String> homes) throws Exception {
        BlockingQueue<Notification> queue = new LinkedBlockingQueue<>();
        client.notifications(queue::add);
        for (String home : homes) {
            boolean told = false;
            for (int i = 0; !told; i++) {
                assertTrue(i < 200, home + " tells nothing");
                client.put("probe-of-" + home, VALUE, Set.of(PutOption.PartitionKey(home)));
                for (Notification n = queue.poll(100, TimeUnit.MILLISECONDS); n != null; n = queue.poll()) {
                    told |= n.key().equals("probe-of-" + home);
                }
            }
        }
        return queue;
    }

    private static Notification nextChange(BlockingQueue<Notification> queue) throws InterruptedException {
        Notification found = next(queue);
        while (found.key().startsWith("probe-of-")) {
            found = next(queue);
        }
        return found;
    }

    /** Random changes through the client, and what the notifications have to tell of them; a key names its shard. */
    private static final class Changes {
        private final List<String> homes;
        private final long seed = System.nanoTime();
        private final Random random = new Random(seed);
        private final Set<String> live = new HashSet<>();
        private List<List<Notification>> told;
        private int ranges = 0;

        Changes(List<String> homes) {
            this.homes = homes;
            this.told = nothing();
        }

        private List<List<Notification>> nothing() {
            return homes.stream().map(home -> (List<Notification>) new ArrayList<Notification>()).toList();
        }

        private String key(int shard) {
            return String.format("%d-%02d", shard, random.nextInt(15));
        }

        void make(SyncOxiaClient client, int count) throws Exception {
            for (int i = 0; i < count; i++) {
                int shard = random.nextInt(homes.size());
                String home = homes.get(shard);
                String key = key(shard);
                switch (random.nextInt(6)) {
                    case 0 -> {
                        boolean existed = live.remove(key);
                        assertEquals(existed, client.delete(key, Set.of(DeleteOption.PartitionKey(home))));
                        if (existed) {
                            told.get(shard).add(new Notification.KeyDeleted(key));
                        }
                    }
                    case 1 -> assertThrows(UnexpectedVersionIdException.class, () -> client.put(
                            key, VALUE, Set.of(PutOption.PartitionKey(home), PutOption.IfVersionIdEquals(1L << 40))));
                    case 2 -> {
                        String start = key + "-" + ranges++;
                        String end = key(shard);
                        client.deleteRange(start, end, Set.of(DeleteRangeOption.PartitionKey(home)));
                        live.removeIf(found -> found.compareTo(start) >= 0 && found.compareTo(end) < 0);
                        told.get(shard).add(new Notification.KeyRangeDelete(start, end));
                    }
                    default -> put(client, shard, key);
                }
            }
        }

        void put(SyncOxiaClient client, int shard, String key) throws Exception {
            PutOption home = PutOption.PartitionKey(homes.get(shard));
            long version = client.put(key, VALUE, Set.of(home)).version().versionId();
            told.get(shard).add(live.add(key)
                    ? new Notification.KeyCreated(key, version)
                    : new Notification.KeyModified(key, version));
        }

        /** Takes as many notifications as there must be and compares them shard by shard. */
        void check(BlockingQueue<Notification> queue) throws InterruptedException {
            List<List<Notification>> got = nothing();
            for (long count = told.stream().mapToInt(List::size).sum(); count > 0; count--) {
                Notification change = nextChange(queue);
                int shard = Integer.parseInt(change.key().substring(0, 1));
                int at = got.get(shard).size();
                got.get(shard).add(change);
                assertTrue(at < told.get(shard).size(), "seed " + seed + ": " + change + " is told too often");
                assertEquals(told.get(shard).get(at), change, "seed " + seed + ", notification " + at);
            }
            told = nothing();
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 4})
    void notificationsAreCompleteAndInOrder(int shards) throws Exception {
        try (VariaServer server = VariaServer.start(shards);
                SyncOxiaClient client = open(server)) {
            List<String> homes = Homes.find(client, shards);
            BlockingQueue<Notification> queue = subscribe(client, homes);
            Changes made = new Changes(homes);
            made.make(client, 200);
            made.check(queue);

            // A range that is given no partition key is deleted on every shard.
            client.deleteRange("", "zzz");
            for (int i = 0; i < shards; i++) {
                assertEquals(new Notification.KeyRangeDelete("", "zzz"), nextChange(queue));
            }

            // A client that closes tells of each of its ephemeral records.
            List<String> keys = IntStream.range(0, 20).mapToObj(i -> String.format("ephemeral-%02d", i)).toList();
            try (SyncOxiaClient owner = open(server)) {
                for (String key : keys) {
                    owner.put(key, VALUE, Set.of(PutOption.AsEphemeralRecord));
                }
                for (int i = 0; i < keys.size(); i++) {
                    assertInstanceOf(Notification.KeyCreated.class, nextChange(queue));
                }
            }
            List<String> deleted = new ArrayList<>();
            for (int i = 0; i < keys.size(); i++) {
                deleted.add(assertInstanceOf(Notification.KeyDeleted.class, nextChange(queue)).key());
            }
            assertEquals(keys, deleted.stream().sorted().toList());
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 4})
    void notificationsAcrossRestarts(int shards) throws Exception {
        try (VariaServer server = VariaServer.start(shards);
                SyncOxiaClient subscriber = open(server)) {
            List<String> homes = Homes.find(subscriber, shards);
            BlockingQueue<Notification> queue = subscribe(subscriber, homes);
            Changes made = new Changes(homes);
            made.make(subscriber, 100);
            for (int round = 0; round < 2; round++) {
                server.kill();
                server.restart();
                try (SyncOxiaClient client = open(server)) {
                    made.make(client, 100); // faster than the subscriber comes back
                }
            }
            made.check(queue);
            try (SyncOxiaClient client = open(server)) {
                for (int shard = 0; shard < shards; shard++) {
                    made.put(client, shard, shard + "-last");
                }
            }
            made.check(queue); // nothing lay between
        }
    }

    private static String sequenceKey(String prefix, long... parts) {
        StringBuilder key = new StringBuilder(prefix);
        Arrays.stream(parts).forEach(part -> key.append(String.format("-%020d", part)));
        return key.toString();
    }

    private static String add(SyncOxiaClient client, String prefix, Long... deltas) throws Exception {
        String value = prefix + Arrays.toString(deltas);
        String key = client.put(prefix, value.getBytes(StandardCharsets.UTF_8), Set.of(
                PutOption.PartitionKey("home"), PutOption.SequenceKeysDeltas(List.of(deltas)))).key();
        byte[] stored = client.get(key, Set.of(GetOption.PartitionKey("home"))).value();
        assertEquals(value, new String(stored, StandardCharsets.UTF_8));
        return key;
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 4})
    void sequenceKeys(int shards) throws Exception {
        try (VariaServer server = VariaServer.start(shards)) {
            try (SyncOxiaClient client = open(server)) {
                for (String neighbour : List.of("a+99", "a.99", "a0", "b-00000000000000000099")) {
                    client.put(neighbour, VALUE, Set.of(PutOption.PartitionKey("home")));
                }
                List<String> keys = List.of(
                        add(client, "a", 5L), add(client, "a", 3L), add(client, "a", 6L, 9L),
                        add(client, "a", 6L, 9L, 15L), add(client, "a", 1L, 0L, 0L));
                assertEquals(List.of(
                        sequenceKey("a", 5), sequenceKey("a", 8), sequenceKey("a", 14, 9),
                        sequenceKey("a", 20, 18, 15), sequenceKey("a", 21, 18, 15)), keys);
                assertEquals(keys, client.list("a-", "a.", Set.of(ListOption.PartitionKey("home"))));
                assertNull(client.get("a", Set.of(GetOption.PartitionKey("home"))));
            }
            server.kill();
            server.restart();
            try (SyncOxiaClient client = open(server)) {
                assertEquals(sequenceKey("a", 22, 20, 18), add(client, "a", 1L, 2L, 3L));
            }
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 4})
    void sequenceUpdates(int shards) throws Exception {
        Set<GetSequenceUpdatesOption> home = Set.of(GetSequenceUpdatesOption.PartitionKey("home"));
        try (VariaServer server = VariaServer.start(shards);
                SyncOxiaClient client = open(server)) {
            BlockingQueue<String> updates = new LinkedBlockingQueue<>();
            BlockingQueue<String> late = new LinkedBlockingQueue<>();
            List<String> assigned = new ArrayList<>();
            try (Closeable ignored = client.getSequenceUpdates("a", updates::add, home)) {
                add(client, "ab", 1L); // another sequence is not told
                assigned.add(add(client, "a", 1L, 2L));
                int known = follow(updates, assigned, 0);
                for (int i = 0; i < 50; i++) {
                    assigned.add(add(client, "a", 1L, 2L));
                }
                known = follow(updates, assigned, known);
                // A new subscriber is told the highest key at once.
                try (Closeable other = client.getSequenceUpdates("a", late::add, home)) {
                    assertEquals(assigned.get(assigned.size() - 1), next(late));
                }

                server.kill();
                server.restart();
                try (SyncOxiaClient writer = open(server)) {
                    assigned.add(add(writer, "a", 1L, 2L));
                }
                follow(updates, assigned, known - 1);
            }
        }
    }

    /** Reads until the last key comes; keys between may be left out. */
    private static int follow(BlockingQueue<String> updates, List<String> assigned, int known)
            throws InterruptedException {
        int from = known;
        while (from < assigned.size()) {
            String key = next(updates);
            int at = assigned.indexOf(key);
            assertTrue(at >= from, "`" + key + "` came after number " + from);
            from = at + 1;
        }
        return from;
    }
}
