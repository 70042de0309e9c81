package varia.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.oxia.client.api.GetResult;
import io.oxia.client.api.OxiaClientBuilder;
import io.oxia.client.api.SyncOxiaClient;
import io.oxia.client.api.Version;
import io.oxia.client.api.options.ListOption;
import io.oxia.client.api.options.PutOption;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Ephemeral records are there as long as their client lives, and no longer. */
@Timeout(60)
class EphemeralTest {
    /** The client sends heartbeats two seconds apart, so its timeout cannot be the shortest of 2 s. */
    private static final Duration TIMEOUT = Duration.ofSeconds(3);
    /** Of this a client that comes back to a started server may lose more than half. */
    private static final Duration LONG_TIMEOUT = Duration.ofSeconds(5);
    /** How late a session may expire: max(1 s, a tenth of its timeout); and what a busy machine may add. */
    private static final long LATENESS = Duration.ofSeconds(1).plus(Duration.ofSeconds(2)).toNanos();

    private static final byte[] VALUE = {1};

    private static SyncOxiaClient open(VariaServer server) throws Exception {
        return OxiaClientBuilder.create(server.address()).syncClient();
    }

    private static List<String> numbered(String prefix, int count) {
        return IntStream.range(0, count).mapToObj(i -> String.format("%s%03d", prefix, i)).toList();
    }

    private static void putEphemerals(SyncOxiaClient client, List<String> keys) throws Exception {
        for (String key : keys) {
            Version version = client.put(key, VALUE, Set.of(PutOption.AsEphemeralRecord)).version();
            assertTrue(version.sessionId().isPresent());
        }
    }

    private static List<String> present(SyncOxiaClient client, List<String> keys) {
        Set<String> found = Set.copyOf(client.list("", ""));
        return keys.stream().filter(found::contains).toList();
    }

    /** The keys stay for a whole timeout from their last renewal, which was between two moments, and go soon after. */
    private static void vanishAfter(
            SyncOxiaClient client, List<String> keys, long earliest, long latest, Duration timeout)
            throws InterruptedException {
        boolean seen = false;
        while (true) {
            long asked = System.nanoTime();
            List<String> found = present(client, keys);
            long answered = System.nanoTime();
            if (found.size() < keys.size()) {
                long early = earliest + timeout.toNanos() - answered;
                assertTrue(early <= 0, "gone " + early / 1_000_000 + " ms before the timeout");
            }
            if (found.isEmpty()) {
                break;
            }
            assertTrue(asked - latest <= timeout.toNanos() + LATENESS, found + " outlived the timeout");
            seen |= found.equals(keys);
            Thread.sleep(20);
        }
        assertTrue(seen, "the records were never seen together");
    }

    private static void stayUntil(long moment, SyncOxiaClient client, List<String> keys) throws InterruptedException {
        while (System.nanoTime() < moment) {
            assertEquals(keys, present(client, keys));
            Thread.sleep(50);
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 4})
    void ephemeralsGoWithTheirClient(int shards) throws Exception {
        List<String> keys = numbered("ephemeral-", 50);
        try (VariaServer server = VariaServer.start(shards);
                SyncOxiaClient reader = open(server)) {
            try (SyncOxiaClient owner =
                    OxiaClientBuilder.create(server.address()).clientIdentifier("the owner").syncClient()) {
                putEphemerals(owner, keys);
                assertEquals(Optional.empty(), owner.put("durable", VALUE).version().sessionId());
                Map<Long, Integer> sessions = new HashMap<>();
                for (String key : keys) {
                    GetResult record = reader.get(key);
                    assertEquals(Optional.of("the owner"), record.version().clientIdentifier());
                    sessions.merge(record.version().sessionId().orElseThrow(), 1, Integer::sum);
                }
                // Session ids of different shards may be alike.
                assertTrue(sessions.size() <= shards, sessions + " on " + shards + " shards");
            }
            assertEquals(List.of("durable"), reader.list("", ""));
        }
    }

    /** A record belongs to the session that wrote it last, or to none. */
    @Test
    void ephemeralsChangeHands() throws Exception {
        try (VariaServer server = VariaServer.start(1);
                SyncOxiaClient reader = open(server)) {
            try (SyncOxiaClient second = open(server)) {
                try (SyncOxiaClient first = open(server)) {
                    putEphemerals(first, List.of("deleted", "kept", "made-again", "made-durable", "taken"));
                    putEphemerals(second, List.of("taken"));
                    assertEquals(Optional.empty(), second.put("made-durable", VALUE).version().sessionId());
                    assertTrue(second.delete("deleted"));
                    assertTrue(second.delete("made-again"));
                    reader.put("made-again", VALUE);
                    assertEquals(List.of("kept", "made-again", "made-durable", "taken"), reader.list("", ""));
                }
                assertEquals(List.of("made-again", "made-durable", "taken"), reader.list("", ""));
            }
            assertEquals(List.of("made-again", "made-durable"), reader.list("", ""));
        }
    }

    /** The reference leaves the index entries of a closed session behind. */
    @Test
    void ephemeralsLeaveNoIndexEntry() throws Exception {
        try (VariaServer server = VariaServer.start(1);
                SyncOxiaClient reader = open(server)) {
            Set<ListOption> byNumber = Set.of(ListOption.UseIndex("by-number"));
            reader.put("durable", VALUE, Set.of(PutOption.SecondaryIndex("by-number", "1")));
            try (SyncOxiaClient owner = open(server)) {
                for (String key : List.of("a", "b", "c")) {
                    PutOption indexed = PutOption.SecondaryIndex("by-number", "2");
                    owner.put(key, VALUE, Set.of(PutOption.AsEphemeralRecord, indexed));
                }
                assertEquals(List.of("a", "b", "c", "durable"), reader.list("0", "9", byNumber));
            }
            assertEquals(List.of("durable"), reader.list("0", "9", byNumber));
        }
    }

    /** One client lives on and keeps its records over several timeouts; those of one that is killed go in time. */
    @Test
    void oneClientLivesAndOneIsKilled() throws Exception {
        List<String> kept = numbered("kept-", 10);
        List<String> lost = numbered("lost-", 10);
        try (VariaServer server = VariaServer.start(4);
                SyncOxiaClient reader = open(server)) {
            try (SyncOxiaClient living =
                    OxiaClientBuilder.create(server.address()).sessionTimeout(TIMEOUT).syncClient()) {
                putEphemerals(living, kept);
                long began = System.nanoTime();
                long earliest;
                try (EphemeralHolder killed = new EphemeralHolder(server.address(), TIMEOUT)) {
                    earliest = System.nanoTime();
                    killed.hold(lost);
                }
                vanishAfter(reader, lost, earliest, System.nanoTime(), TIMEOUT);
                stayUntil(began + TIMEOUT.multipliedBy(3).plusSeconds(1).toNanos(), reader, kept);
            }
            assertEquals(List.of(), present(reader, kept));
        }
    }

    /** After a SIGKILL of the server a living client keeps its records; those of one that died get a whole timeout. */
    @Test
    void ephemeralsOutliveTheServer() throws Exception {
        List<String> kept = numbered("kept-", 10);
        List<String> lost = numbered("lost-", 10);
        try (VariaServer first = VariaServer.start(4);
                VariaServer second = VariaServer.start(4)) {
            long restarted;
            try (SyncOxiaClient living =
                    OxiaClientBuilder.create(first.address()).sessionTimeout(LONG_TIMEOUT).syncClient()) {
                putEphemerals(living, kept);
                first.kill();
                first.restart();
                restarted = System.nanoTime();
                try (EphemeralHolder killed = new EphemeralHolder(second.address(), TIMEOUT)) {
                    killed.hold(lost);
                }
                second.kill();
                Thread.sleep(TIMEOUT.toMillis() + 500); // the server is down for longer than the session may last
                long earliest = System.nanoTime();
                second.restart();
                long latest = System.nanoTime();
                try (SyncOxiaClient reader = open(second)) {
                    vanishAfter(reader, lost, earliest, latest, TIMEOUT);
                }
                try (SyncOxiaClient reader = open(first)) {
                    stayUntil(restarted + LONG_TIMEOUT.multipliedBy(2).plusSeconds(1).toNanos(), reader, kept);
                }
            }
            try (SyncOxiaClient reader = open(first)) {
                assertEquals(List.of(), present(reader, kept));
            }
        }
    }
}
