package varia.compat;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.oxia.client.api.AsyncOxiaClient;
import io.oxia.client.api.GetResult;
import io.oxia.client.api.OxiaClientBuilder;
import io.oxia.client.api.PutResult;
import io.oxia.client.api.SyncOxiaClient;
import io.oxia.client.api.exceptions.KeyAlreadyExistsException;
import io.oxia.client.api.exceptions.UnexpectedVersionIdException;
import io.oxia.client.api.options.DeleteOption;
import io.oxia.client.api.options.DeleteRangeOption;
import io.oxia.client.api.options.GetOption;
import io.oxia.client.api.options.ListOption;
import io.oxia.client.api.options.PutOption;
import io.oxia.client.api.options.RangeScanOption;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The official Java client against a server with one shard and one with four. */
@Timeout(60)
class OxiaClientTest {
    private static Map<Integer, VariaServer> servers;
    private static Map<Integer, SyncOxiaClient> clients;

    @BeforeAll
    static void startServers() throws Exception {
        servers = Map.of(1, VariaServer.start(1), 4, VariaServer.start(4));
        clients = Map.of(1, open(servers.get(1)), 4, open(servers.get(4)));
    }

    @AfterAll
    static void stopServers() throws Exception {
        if (clients != null) {
            for (SyncOxiaClient client : clients.values()) {
                client.close();
            }
        }
        if (servers != null) {
            for (VariaServer server : servers.values()) {
                server.close();
            }
        }
    }

    private static SyncOxiaClient open(VariaServer server) throws Exception {
        return OxiaClientBuilder.create(server.address()).syncClient();
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(GetResult result) {
        return new String(result.value(), StandardCharsets.UTF_8);
    }

    private static List<GetResult> scan(
            SyncOxiaClient client, String start, String end, RangeScanOption... options) {
        List<GetResult> found = new ArrayList<>();
        try (var records = client.rangeScan(start, end, Set.of(options))) {
            records.forEach(found::add);
        }
        return found;
    }

    private static List<String> scanKeys(
            SyncOxiaClient client, String start, String end, RangeScanOption... options) {
        return scan(client, start, end, options).stream().map(GetResult::key).toList();
    }

    private static String keyOf(GetResult result) {
        return result == null ? null : result.key();
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 4})
    void fiveThousandKeysThroughTheAsyncClient(int shards) throws Exception {
        int count = 5_000;
        try (AsyncOxiaClient client = OxiaClientBuilder.create(servers.get(shards).address())
                .asyncClient().get(30, TimeUnit.SECONDS)) {
            List<CompletableFuture<PutResult>> puts = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                puts.add(client.put("bulk-" + i, bytes("value-" + i)));
            }
            Set<String> versions = new HashSet<>();
            for (int i = 0; i < count; i++) {
                PutResult put = puts.get(i).get(30, TimeUnit.SECONDS);
                assertEquals("bulk-" + i, put.key());
                assertEquals(0, put.version().modificationsCount());
                versions.add(Long.toString(put.version().versionId()));
            }
            if (shards == 1) {
                assertEquals(count, versions.size(), "version ids of one shard are unique");
            }
            List<CompletableFuture<GetResult>> gets = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                gets.add(client.get("bulk-" + i));
            }
            for (int i = 0; i < count; i++) {
                GetResult got = gets.get(i).get(30, TimeUnit.SECONDS);
                assertNotNull(got, "bulk-" + i);
                assertEquals("bulk-" + i, got.key());
                assertEquals("value-" + i, text(got));
                assertEquals(puts.get(i).join().version().versionId(), got.version().versionId());
            }
            assertEquals(count, client.list("bulk-", "bulk.").get(30, TimeUnit.SECONDS).size());
            client.deleteRange("bulk-", "bulk.").get(30, TimeUnit.SECONDS);
            assertEquals(List.of(), client.list("bulk-", "bulk.").get(30, TimeUnit.SECONDS));
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 4})
    void putGetDelete(int shards) {
        SyncOxiaClient client = clients.get(shards);
        assertNull(client.get("pgd"));
        PutResult first = client.put("pgd", bytes("one"));
        PutResult second = client.put("pgd", bytes("two"));
        assertEquals(0, first.version().modificationsCount());
        assertEquals(1, second.version().modificationsCount());
        assertTrue(second.version().versionId() > first.version().versionId());
        assertEquals(first.version().createdTimestamp(), second.version().createdTimestamp());
        assertTrue(second.version().modifiedTimestamp() >= first.version().modifiedTimestamp());
        assertTrue(second.version().sessionId().isEmpty());

        GetResult got = client.get("pgd");
        assertEquals("two", text(got));
        assertEquals(second.version(), got.version());
        assertEquals(0, client.get("pgd", Set.of(GetOption.ExcludeValue)).value().length);

        assertTrue(client.delete("pgd"));
        assertFalse(client.delete("pgd"));
        assertNull(client.get("pgd"));
        assertEquals(0, client.put("pgd", bytes("three")).version().modificationsCount());
        assertTrue(client.delete("pgd"));
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 4})
    void listScanAndDeleteRange(int shards) {
        SyncOxiaClient client = clients.get(shards);
        List<String> keys = new ArrayList<>();
        for (int i = 0; i < 20; i++) {
            String key = String.format("/range/%02d", i);
            client.put(key, bytes(key));
            keys.add(key);
        }
        client.put("/range/03/child", bytes("deeper"));

        assertEquals(keys, client.list("/range/", "/range//"), "direct children only");
        assertEquals(keys.subList(5, 10), client.list("/range/05", "/range/10"));
        assertEquals(List.of(), client.list("/range/10", "/range/05"));
        List<GetResult> records = scan(client, "/range/05", "/range/10").stream()
                .sorted(Comparator.comparing(GetResult::key)).toList();
        assertEquals(keys.subList(5, 10), records.stream().map(GetResult::key).toList());
        for (GetResult record : records) {
            assertEquals(record.key(), text(record));
            assertEquals(0, record.version().modificationsCount());
        }

        client.deleteRange("/range/05", "/range/10");
        List<String> left = new ArrayList<>(keys.subList(0, 5));
        left.addAll(keys.subList(10, 20));
        assertEquals(left, client.list("/range/", "/range//"));
        client.deleteRange("/range/", "/range//");
        assertEquals(List.of(), client.list("/range/", "/range//"));
        assertEquals("deeper", text(client.get("/range/03/child")));
        assertTrue(client.delete("/range/03/child"));
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 4})
    void expectedVersions(int shards) throws Exception {
        SyncOxiaClient client = clients.get(shards);
        // The client refuses a version of a missing record as well as a wrong version.
        assertThrows(UnexpectedVersionIdException.class,
                () -> client.put("ev", bytes("x"), Set.of(PutOption.IfVersionIdEquals(5))));
        assertThrows(UnexpectedVersionIdException.class,
                () -> client.delete("ev", Set.of(DeleteOption.IfVersionIdEquals(5))));
        long version = client.put("ev", bytes("a"), Set.of(PutOption.IfRecordDoesNotExist))
                .version().versionId();
        // Client 0.9.4 names this case of UNEXPECTED_VERSION_ID with its own exception.
        assertThrows(KeyAlreadyExistsException.class,
                () -> client.put("ev", bytes("b"), Set.of(PutOption.IfRecordDoesNotExist)));
        UnexpectedVersionIdException refused = assertThrows(UnexpectedVersionIdException.class,
                () -> client.put("ev", bytes("b"), Set.of(PutOption.IfVersionIdEquals(version + 1))));
        assertEquals("ev", refused.getKey());
        assertEquals("a", text(client.get("ev")));

        PutResult next = client.put("ev", bytes("b"), Set.of(PutOption.IfVersionIdEquals(version)));
        assertEquals(1, next.version().modificationsCount());
        assertThrows(UnexpectedVersionIdException.class,
                () -> client.delete("ev", Set.of(DeleteOption.IfVersionIdEquals(version))));
        assertTrue(client.delete(
                "ev", Set.of(DeleteOption.IfVersionIdEquals(next.version().versionId()))));
        assertNull(client.get("ev"));
    }

    @Test
    void oneOfManyRacingCreatorsWins() throws Exception {
        try (AsyncOxiaClient client = OxiaClientBuilder.create(servers.get(4).address())
                .asyncClient().get(30, TimeUnit.SECONDS)) {
            List<CompletableFuture<PutResult>> puts = new ArrayList<>();
            for (int i = 0; i < 100; i++) {
                puts.add(client.put("race", bytes("" + i), Set.of(PutOption.IfRecordDoesNotExist)));
            }
            int winners = 0;
            for (CompletableFuture<PutResult> put : puts) {
                Throwable error = put.handle((result, e) -> e).get(30, TimeUnit.SECONDS);
                if (error == null) {
                    winners++;
                } else {
                    Throwable cause = error.getCause() == null ? error : error.getCause();
                    assertEquals(KeyAlreadyExistsException.class, cause.getClass());
                }
            }
            assertEquals(1, winners);
            assertTrue(client.delete("race").get(30, TimeUnit.SECONDS));
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 4})
    void partitionKeys(int shards) throws Exception {
        SyncOxiaClient client = clients.get(shards);
        String partition = "tenant-7";
        List<String> keys = new ArrayList<>();
        for (int i = 0; i < 20; i++) {
            String key = String.format("part-%02d", i);
            client.put(key, bytes("v" + i), Set.of(PutOption.PartitionKey(partition)));
            keys.add(key);
        }
        // All of them are on the one shard of the partition key.
        assertEquals(keys, client.list("part-", "part.", Set.of(ListOption.PartitionKey(partition))));
        assertEquals(keys, client.list("part-", "part."));
        assertEquals(keys, scanKeys(client, "part-", "part.", RangeScanOption.PartitionKey(partition)));
        Set<GetOption> here = Set.of(GetOption.PartitionKey(partition));
        for (int i = 0; i < 20; i++) {
            assertEquals("v" + i, text(client.get(keys.get(i), here)));
        }
        if (shards > 1) {
            // Routed by their own hash, some of the same keys are looked for elsewhere.
            long missing = keys.stream().filter(key -> client.get(key) == null).count();
            assertTrue(missing > 0 && missing < keys.size(), missing + " keys missed");
        }
        assertEquals("part-04", keyOf(client.get(
                "part-03", Set.of(GetOption.PartitionKey(partition), GetOption.ComparisonHigher))));
        assertTrue(client.delete("part-00", Set.of(DeleteOption.PartitionKey(partition))));
        assertNull(client.get("part-00", here));
        client.deleteRange("part-", "part.", Set.of(DeleteRangeOption.PartitionKey(partition)));
        assertEquals(List.of(), client.list("part-", "part."));
    }

    /** The server's hierarchical order: number of slashes, then bytes with `/` as 0xFF. */
    private static int hierarchical(String a, String b) {
        long depthA = a.chars().filter(c -> c == '/').count();
        long depthB = b.chars().filter(c -> c == '/').count();
        if (depthA != depthB) {
            return Long.compare(depthA, depthB);
        }
        return Arrays.compareUnsigned(
                a.replace('/', 'ÿ').getBytes(StandardCharsets.ISO_8859_1),
                b.replace('/', 'ÿ').getBytes(StandardCharsets.ISO_8859_1));
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 4})
    void comparisonsFollowTheHierarchicalOrder(int shards) throws Exception {
        try (VariaServer server = VariaServer.start(shards);
                SyncOxiaClient client = open(server)) {
            // Keys that the client's merge of several shards orders as the server does.
            List<String> keys = List.of("a", "c", "e", "/m", "/o", "/x/a", "/x/c", "/x/e", "/x/y/1", "/x/y/3");
            List<String> probes = new ArrayList<>(keys);
            probes.addAll(List.of("A", "b", "d", "z", "/a", "/n", "/x", "/x/", "/x/b", "/x/z", "/x/y/0",
                    "/x/y/2", "/x/y/4", "/x/y/z/1"));
            for (String key : keys) {
                client.put(key, bytes(key));
            }
            for (String probe : probes) {
                String floor = null;
                String lower = null;
                String ceiling = null;
                String higher = null;
                for (String key : keys) {
                    int order = hierarchical(key, probe);
                    floor = order <= 0 ? key : floor;
                    lower = order < 0 ? key : lower;
                    ceiling = order >= 0 && ceiling == null ? key : ceiling;
                    higher = order > 0 && higher == null ? key : higher;
                }
                assertEquals(floor, keyOf(client.get(probe, Set.of(GetOption.ComparisonFloor))), "floor " + probe);
                assertEquals(lower, keyOf(client.get(probe, Set.of(GetOption.ComparisonLower))), "lower " + probe);
                assertEquals(ceiling, keyOf(client.get(probe, Set.of(GetOption.ComparisonCeiling))), "ceiling " + probe);
                assertEquals(higher, keyOf(client.get(probe, Set.of(GetOption.ComparisonHigher))), "higher " + probe);
                if (floor != null) {
                    assertEquals(floor, text(client.get(probe, Set.of(GetOption.ComparisonFloor))));
                }
            }
            assertEquals(keys, client.list("", ""), "the whole key space");
        }
    }

    @Test
    void scanOfOneShardIsInTheServersOrder() throws Exception {
        try (VariaServer server = VariaServer.start(1);
                SyncOxiaClient client = open(server)) {
            List<String> keys = List.of("a", "b", "z", "~", "é", "a/", "a/b", "/", "/a", "/b", "//", "/a/", "/a/x",
                    "/a/y", "/a//", "/b/x", "/a/x/1", "/c/d/e");
            List<String> shuffled = new ArrayList<>(keys);
            java.util.Collections.shuffle(shuffled, new Random(7));
            for (String key : shuffled) {
                client.put(key, bytes(key));
            }
            assertEquals(keys, scanKeys(client, "", ""));
            assertEquals(List.of("/a/", "/a/x", "/a/y"), scanKeys(client, "/a/", "/a//"));
            assertEquals(List.of("/", "/a", "/b"), scanKeys(client, "/", "//"));
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 4})
    void scanOfTwentyThousandRecords(int shards) throws Exception {
        int count = 20_000;
        try (VariaServer server = VariaServer.start(shards);
                SyncOxiaClient client = open(server);
                AsyncOxiaClient writer = OxiaClientBuilder.create(server.address())
                        .asyncClient().get(30, TimeUnit.SECONDS)) {
            String padding = "x".repeat(200);
            List<CompletableFuture<PutResult>> puts = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                puts.add(writer.put(String.format("scan-%05d", i), bytes(i + padding)));
            }
            for (CompletableFuture<PutResult> put : puts) {
                put.get(30, TimeUnit.SECONDS);
            }
            List<GetResult> records = scan(client, "scan-", "scan.");
            assertEquals(count, records.size());
            List<GetResult> sorted = records.stream().sorted(Comparator.comparing(GetResult::key)).toList();
            for (int i = 0; i < count; i++) {
                assertEquals(String.format("scan-%05d", i), sorted.get(i).key());
                assertEquals(i + padding, text(sorted.get(i)));
            }
            if (shards == 1) {
                assertEquals(sorted, records, "one shard answers in key order");
            }
            // A scan left early frees its stream: the client goes on.
            try (var partial = client.rangeScan("scan-", "scan.")) {
                assertTrue(partial.iterator().hasNext());
            }
            assertEquals("7" + padding, text(client.get("scan-00007")));
        }
    }

    @Test
    void valueOfFiveMebibytes() {
        SyncOxiaClient client = clients.get(4);
        byte[] value = new byte[5 * 1024 * 1024];
        new Random(5).nextBytes(value);
        client.put("large", value);
        assertArrayEquals(value, client.get("large").value());
        List<GetResult> records = scan(client, "large", "large0");
        assertEquals(1, records.size());
        assertArrayEquals(value, records.get(0).value());
        assertTrue(client.delete("large"));
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 4})
    void emptyValue(int shards) {
        SyncOxiaClient client = clients.get(shards);
        client.put("empty", new byte[0]);
        GetResult got = client.get("empty");
        assertEquals("empty", got.key());
        assertEquals(0, got.value().length);
        List<GetResult> records = scan(client, "empty", "empty0");
        assertEquals(1, records.size());
        assertEquals(0, records.get(0).value().length);
        assertTrue(client.delete("empty"));
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 4})
    void unicodeKeys(int shards) {
        SyncOxiaClient client = clients.get(shards);
        // In the order of their UTF-8 bytes; UTF-16 would put the emoji before the fullwidth tilde.
        List<String> keys = List.of("uéa", "uñ", "u日本", "u～", "u😀");
        for (String key : keys) {
            client.put(key, bytes("value of " + key));
        }
        for (String key : keys) {
            assertEquals("value of " + key, text(client.get(key)));
        }
        assertEquals(Set.copyOf(keys), Set.copyOf(client.list("u\u0080", "v")));
        List<String> scanned = scanKeys(client, "u\u0080", "v");
        if (shards == 1) {
            assertEquals(keys, scanned);
        } else {
            assertEquals(keys.size(), scanned.size());
            assertEquals(Set.copyOf(keys), Set.copyOf(scanned));
        }
        client.deleteRange("u\u0080", "v");
        assertEquals(List.of(), client.list("u\u0080", "v"));
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 4})
    void sameClientAfterKillAndRestart(int shards) throws Exception {
        try (VariaServer server = VariaServer.start(shards);
                SyncOxiaClient client = OxiaClientBuilder.create(server.address())
                        .requestTimeout(java.time.Duration.ofSeconds(5)).syncClient()) {
            long[] versions = new long[200];
            for (int i = 0; i < versions.length; i++) {
                versions[i] = client.put("kept-" + i, bytes("before-" + i)).version().versionId();
            }
            server.kill();
            server.restart();

            PutResult after = untilPut(client, "after", bytes("restart"));
            assertEquals("restart", text(client.get("after")));
            assertNotNull(after);
            for (int i = 0; i < versions.length; i++) {
                GetResult got = client.get("kept-" + i);
                assertNotNull(got, "acknowledged write kept-" + i + " was lost");
                assertEquals("before-" + i, text(got));
                assertEquals(versions[i], got.version().versionId());
            }
            long highest = Arrays.stream(versions).max().orElseThrow();
            if (shards == 1) {
                assertTrue(after.version().versionId() > highest, "the version counter went back");
            }
            assertEquals(versions.length, client.list("kept-", "kept.").size());
            assertEquals(versions.length, scan(client, "kept-", "kept.").size());
        }
    }

    /** The client may fail calls until its connection is back: tries again up to a deadline. */
    private static PutResult untilPut(SyncOxiaClient client, String key, byte[] value) {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        while (true) {
            try {
                return client.put(key, value);
            } catch (RuntimeException e) {
                if (System.nanoTime() > deadline) {
                    throw e;
                }
                Thread.onSpinWait();
            }
        }
    }

    @Test
    void unknownNamespaceIsRefused() {
        Exception error = assertThrows(Exception.class, () -> OxiaClientBuilder
                .create(servers.get(1).address()).namespace("no-such-namespace")
                .asyncClient().get(20, TimeUnit.SECONDS).close());
        StringBuilder messages = new StringBuilder();
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            messages.append(cause).append('\n');
        }
        assertTrue(messages.toString().toLowerCase().contains("namespace"), messages.toString());
        assertFalse(error instanceof java.util.concurrent.TimeoutException, messages.toString());
    }

    @Test
    void defaultNamespaceByName() throws Exception {
        try (SyncOxiaClient client = OxiaClientBuilder.create(servers.get(1).address())
                .namespace("default").syncClient()) {
            client.put("named", bytes("yes"));
            assertEquals("yes", text(clients.get(1).get("named")));
            assertTrue(client.delete("named"));
        }
    }
}
