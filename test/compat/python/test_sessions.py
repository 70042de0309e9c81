"""Ephemeral records are there as long as their client lives, and no longer."""

import signal
import time

import oxia
import pytest

from holder import Holder
from varia_server import VariaServer

# The client sends heartbeats two seconds apart, so its timeout cannot be the shortest of 2 s.
TIMEOUT = 3
# How late a session may expire: max(1 s, a tenth of its timeout); and what a busy machine may add.
LATENESS = 1
SLACK = 2


def numbered(prefix, count):
    return [f"{prefix}{i:03}" for i in range(count)]


def put_ephemerals(client, keys):
    for key in keys:
        _, version = client.put(key, key, ephemeral=True)
        assert version.is_ephemeral()


def present(client, keys):
    found = set(client.list("", ""))
    return [key for key in keys if key in found]


def vanish_after(client, keys, earliest, latest, timeout=TIMEOUT):
    """The keys stay for a whole timeout from their last renewal, which was between two moments, and go soon after."""
    seen = False
    while True:
        asked = time.monotonic()
        found = present(client, keys)
        answered = time.monotonic()
        if len(found) < len(keys):
            assert answered >= earliest + timeout, f"gone {earliest + timeout - answered} s before the timeout"
        if not found:
            break
        assert asked <= latest + timeout + LATENESS + SLACK, f"{found} outlived the timeout"
        seen = seen or found == keys
        time.sleep(0.02)
    assert seen, "the records were never seen together"


def stay_until(moment, client, keys):
    while time.monotonic() < moment:
        assert present(client, keys) == keys
        time.sleep(0.05)


@pytest.mark.parametrize("shards", [1, 4])
def test_ephemerals_go_with_their_client(shards):
    keys = numbered("ephemeral-", 50)
    with VariaServer(shards) as server, oxia.Client(server.address) as reader:
        with oxia.Client(server.address, client_identifier="the owner") as owner:
            put_ephemerals(owner, keys)
            _, durable = owner.put("durable", "yes")
            assert not durable.is_ephemeral()
            records = list(reader.range_scan("ephemeral-", "ephemeral."))
            assert [key for key, _, _ in records] == keys
            assert {version.client_identity() for _, _, version in records} == {"the owner"}
            assert all(version.is_ephemeral() for _, _, version in records)
            if shards == 1:
                assert len({version.session_id() for _, _, version in records}) == 1
        assert reader.list("", "") == ["durable"]


def test_ephemerals_change_hands():
    with VariaServer(1) as server, oxia.Client(server.address) as reader:
        with oxia.Client(server.address) as second:
            with oxia.Client(server.address) as first:
                put_ephemerals(first, ["deleted", "kept", "made-again", "made-durable", "taken"])
                put_ephemerals(second, ["taken"])
                _, version = second.put("made-durable", "x")
                assert not version.is_ephemeral()
                assert second.delete("deleted")
                assert second.delete("made-again")
                reader.put("made-again", "x")
                assert reader.list("", "") == ["kept", "made-again", "made-durable", "taken"]
            assert reader.list("", "") == ["made-again", "made-durable", "taken"]
        assert reader.list("", "") == ["made-again", "made-durable"]


def test_one_client_lives_and_one_is_stopped():
    """A client that was stopped for longer than its timeout has lost its records, and gets a new session."""
    kept, lost = numbered("kept-", 10), numbered("lost-", 10)
    with VariaServer(4) as server, oxia.Client(server.address) as reader:
        with oxia.Client(server.address, session_timeout_ms=TIMEOUT * 1000) as living:
            put_ephemerals(living, kept)
            began = time.monotonic()
            with Holder(server, TIMEOUT) as stopped:
                earliest = time.monotonic()
                stopped.hold(lost)
                stopped.process.send_signal(signal.SIGSTOP)
                vanish_after(reader, lost, earliest, time.monotonic())
                stopped.process.send_signal(signal.SIGCONT)
                deadline = time.monotonic() + 20
                while not stopped.try_to_hold("lost-000"):
                    assert time.monotonic() < deadline, "no new session"
                    time.sleep(0.05)
                assert present(reader, lost) == ["lost-000"]
            stay_until(began + 3 * TIMEOUT + 1, reader, kept)
        assert present(reader, kept) == []


def test_ephemerals_outlive_the_server():
    """After a SIGKILL of the server a living client keeps its records; those of one that died get a whole timeout."""
    long_timeout = 5  # of which a reconnecting client may lose more than half
    kept, lost = numbered("kept-", 10), numbered("lost-", 10)
    with VariaServer(4) as first, VariaServer(4) as second, Holder(first, long_timeout) as living:
        living.hold(kept)
        first.kill()
        first.restart()
        restarted = time.monotonic()

        with Holder(second, TIMEOUT) as killed:
            killed.hold(lost)
        second.kill()
        time.sleep(TIMEOUT + 0.5)  # the server is down for longer than the session may last
        earliest = time.monotonic()
        second.restart()
        latest = time.monotonic()
        with oxia.Client(second.address) as reader:
            vanish_after(reader, lost, earliest, latest)

        with oxia.Client(first.address) as reader:
            stay_until(restarted + 2 * long_timeout + 1, reader, kept)
            living.kill()
            stopped = time.monotonic()
            # Its last heartbeat was up to two seconds ago.
            vanish_after(reader, kept, stopped - 2.5, stopped, long_timeout)
