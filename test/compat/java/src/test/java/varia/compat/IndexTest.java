package varia.compat;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import io.oxia.client.api.GetResult;
import io.oxia.client.api.OxiaClientBuilder;
import io.oxia.client.api.SyncOxiaClient;
import io.oxia.client.api.options.DeleteOption;
import io.oxia.client.api.options.DeleteRangeOption;
import io.oxia.client.api.options.GetOption;
import io.oxia.client.api.options.ListOption;
import io.oxia.client.api.options.PutOption;
import io.oxia.client.api.options.RangeScanOption;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.function.Predicate;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Queries by secondary index, compared with a slow and obvious model. */
@Timeout(60)
class IndexTest {
    private static final List<String> NAMES = List.of("by-name", "by-names", "other");
    private static final List<String> SECONDARIES =
            List.of("a", "b", "c", "bb", "é", "~", "a/z", "b/x", "/a", "/a/1", "/a/2", "/b/1", "a%2Fz");
    private static final List<String> BOUNDS = Stream.concat(
                    SECONDARIES.stream(),
                    Stream.of("0", "bc", "zz", "🦀", "/", "//", "/a/", "/a//", "/a/15", "/c/", "a/zz", "z/"))
            .toList();
    private static final List<GetOption> COMPARISONS = List.of(
            GetOption.ComparisonEqual, GetOption.ComparisonFloor, GetOption.ComparisonCeiling,
            GetOption.ComparisonLower, GetOption.ComparisonHigher);

    /** The server's order: number of slashes, then bytes with `/` as 0xFF. */
    private static final Comparator<String> HIERARCHICAL =
            Comparator.comparingInt(IndexTest::slashes).thenComparing(IndexTest::orderBytes, Arrays::compareUnsigned);

    private static int slashes(String key) {
        int count = (int) key.chars().filter(c -> c == '/').count();
        return key.length() > 1 && key.endsWith("//") ? count - 1 : count;
    }

    private static byte[] orderBytes(String key) {
        byte[] bytes = key.getBytes(StandardCharsets.UTF_8);
        for (int i = 0; i < bytes.length; i++) {
            bytes[i] = bytes[i] == '/' ? (byte) 0xFF : bytes[i];
        }
        return bytes;
    }

    /** An entry of an index: its name, the secondary key and the key of the record. */
    private record Entry(String index, String secondary, String primary) {}

    private record Stored(byte[] value, long version, Set<Entry> entries) {}

    /** Makes random changes and asks random questions of the server and of the model. A key names its shard. */
    private static final class Run {
        final List<String> homes;
        final long seed = System.nanoTime();
        final Random random = new Random(seed);
        final Map<String, Stored> records = new HashMap<>();

        Run(List<String> homes) {
            this.homes = homes;
        }

        <T> T pick(List<T> from) {
            return from.get(random.nextInt(from.size()));
        }

        void change(SyncOxiaClient client) throws Exception {
            int shard = random.nextInt(homes.size());
            String home = homes.get(shard);
            String key = shard + pick(List.of("-", "/")) + String.format("%02d", random.nextInt(15));
            switch (random.nextInt(12)) {
                case 0, 1, 2 -> {
                    boolean existed = records.remove(key) != null;
                    assertEquals(existed, client.delete(key, Set.of(DeleteOption.PartitionKey(home))), describe(key));
                }
                case 3 -> {
                    String start = String.format("%d-%02d", shard, random.nextInt(15));
                    String end = String.format("%d-%02d", shard, random.nextInt(15));
                    client.deleteRange(start, end, Set.of(DeleteRangeOption.PartitionKey(home)));
                    records.keySet().removeIf(found -> found.compareTo(start) >= 0 && found.compareTo(end) < 0);
                }
                default -> {
                    Set<Entry> entries = new HashSet<>();
                    Set<PutOption> options = new HashSet<>(Set.of(PutOption.PartitionKey(home)));
                    for (int count = random.nextInt(4); count > 0; count--) {
                        Entry entry = new Entry(pick(NAMES), pick(SECONDARIES), key);
                        entries.add(entry);
                        options.add(PutOption.SecondaryIndex(entry.index(), entry.secondary()));
                    }
                    byte[] value = Long.toString(random.nextLong()).getBytes(StandardCharsets.UTF_8);
                    long version = client.put(key, value, options).version().versionId();
                    records.put(key, new Stored(value, version, entries));
                }
            }
        }

        /** One shard's part of an index, in order. */
        List<Entry> entries(String index, int shard) {
            return records.values().stream()
                    .flatMap(record -> record.entries().stream())
                    .filter(entry -> entry.index().equals(index) && entry.primary().startsWith(Integer.toString(shard)))
                    .sorted(Comparator.comparing(Entry::secondary, HIERARCHICAL)
                            .thenComparing(entry -> entry.primary().replace("/", "%2F")))
                    .toList();
        }

        List<String> listed(String index, int shard, String start, String end) {
            return entries(index, shard).stream()
                    .filter(entry -> HIERARCHICAL.compare(entry.secondary(), start) >= 0)
                    .filter(entry -> HIERARCHICAL.compare(entry.secondary(), end) < 0)
                    .map(Entry::primary)
                    .toList();
        }

        /** One shard's answer to a get, null for none. */
        String picked(String index, int shard, String key, GetOption comparison) {
            List<Entry> entries = entries(index, shard);
            String equal = first(entries, order -> order == 0, key);
            String above = first(entries, order -> order > 0, key);
            List<Entry> reversed = new ArrayList<>(entries);
            Collections.reverse(reversed);
            String below = first(reversed, order -> order < 0, key);
            return switch (COMPARISONS.indexOf(comparison)) {
                case 0 -> equal;
                case 1 -> equal != null ? equal : below;
                case 2 -> equal != null ? equal : above;
                case 3 -> below;
                default -> above;
            };
        }

        private String first(List<Entry> entries, Predicate<Integer> wanted, String key) {
            return entries.stream()
                    .filter(entry -> wanted.test(HIERARCHICAL.compare(entry.secondary(), key)))
                    .map(Entry::primary)
                    .findFirst()
                    .orElse(null);
        }

        void ask(SyncOxiaClient client) {
            String index = pick(NAMES);
            int shard = random.nextInt(homes.size());
            String start = pick(BOUNDS);
            String end = pick(BOUNDS);
            String question = describe("index " + index + " from `" + start + "` to `" + end + "`");
            List<String> here = listed(index, shard, start, end);
            List<String> everywhere = IntStream.range(0, homes.size())
                    .boxed()
                    .flatMap(other -> listed(index, other, start, end).stream())
                    .sorted(HIERARCHICAL)
                    .toList();

            String home = homes.get(shard);
            ListOption list = ListOption.UseIndex(index);
            assertEquals(here, client.list(start, end, Set.of(list, ListOption.PartitionKey(home))), question);
            // Without a partition key the client sorts the keys of all shards, but gives scans as they come.
            assertEquals(everywhere, client.list(start, end, Set.of(list)), question);
            RangeScanOption scan = RangeScanOption.UseIndex(index);
            assertEquals(here, scanned(client, start, end, Set.of(scan, RangeScanOption.PartitionKey(home))), question);
            List<String> all = scanned(client, start, end, Set.of(scan));
            assertEquals(everywhere, all.stream().sorted(HIERARCHICAL).toList(), question);

            for (GetOption comparison : COMPARISONS) {
                String about = describe(COMPARISONS.indexOf(comparison) + " of " + index + " with `" + start + "`");
                GetOption use = GetOption.UseIndex(index);
                assertEquals(
                        picked(index, shard, start, comparison),
                        checked(client.get(start, Set.of(use, comparison, GetOption.PartitionKey(home)))),
                        about);
                // Of the answers of all shards the client takes the one with the first or last primary key.
                List<String> answers = IntStream.range(0, homes.size())
                        .mapToObj(other -> picked(index, other, start, comparison))
                        .filter(answer -> answer != null)
                        .sorted(HIERARCHICAL)
                        .toList();
                boolean last = comparison == GetOption.ComparisonFloor || comparison == GetOption.ComparisonLower;
                String wanted = answers.isEmpty() ? null : answers.get(last ? answers.size() - 1 : 0);
                assertEquals(wanted, checked(client.get(start, Set.of(use, comparison))), about);
            }
        }

        private List<String> scanned(SyncOxiaClient client, String start, String end, Set<RangeScanOption> options) {
            List<String> keys = new ArrayList<>();
            try (var found = client.rangeScan(start, end, options)) {
                found.forEach(record -> keys.add(checked(record)));
            }
            return keys;
        }

        /** The key of a record that is the model's. */
        private String checked(GetResult record) {
            if (record == null) {
                return null;
            }
            Stored stored = records.get(record.key());
            assertArrayEquals(stored.value(), record.value(), describe(record.key()));
            assertEquals(stored.version(), record.version().versionId(), describe(record.key()));
            return record.key();
        }

        private String describe(String what) {
            return "seed " + seed + ": " + what;
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 4})
    void indexesAnswerAsTheModel(int shards) throws Exception {
        try (VariaServer server = VariaServer.start(shards)) {
            Run run;
            try (SyncOxiaClient client = OxiaClientBuilder.create(server.address()).syncClient()) {
                run = new Run(Homes.find(client, shards));
                for (int i = 0; i < 250; i++) {
                    run.change(client);
                    run.ask(client);
                }
            }
            server.kill();
            server.restart();
            try (SyncOxiaClient client = OxiaClientBuilder.create(server.address()).syncClient()) {
                for (int i = 0; i < 50; i++) {
                    run.ask(client);
                    run.change(client);
                }
            }
        }
    }
}
