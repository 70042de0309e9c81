"""Notifications and sequence keys, also across a SIGKILL and restart of the server."""

import threading
from concurrent.futures import Future

import oxia
import oxia.ex
import pytest
from oxia.defs import NotificationType

from changes import Changes, key_on
from varia_server import VariaServer

SHARDS = [1, 4]
SECONDS = 30


@pytest.fixture(params=SHARDS, ids=lambda n: f"{n}-shards")
def server(request):
    with VariaServer(request.param) as running:
        running.shards = request.param
        yield running


def in_time(wait):
    """Runs what may wait for good in a thread of its own, with a deadline."""
    outcome = Future()

    def run():
        try:
            outcome.set_result(wait())
        except BaseException as error:  # noqa: BLE001
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome.result(SECONDS)


def test_notifications_are_complete_and_in_order(server):
    with oxia.Client(server.address) as client:
        client.put("before the subscription", "x")
        notifications = client.get_notifications()
        made = Changes(server.shards)
        made.make(client, 200)
        in_time(lambda: made.check(notifications))

        # A range that is given no partition key is deleted on every shard.
        client.delete_range("", "zzz")
        for _ in range(server.shards):
            change = in_time(lambda: next(notifications))
            assert change.notification_type() == NotificationType.KEY_RANGE_DELETED
            assert (change.key(), change.key_range_end()) == ("", "zzz")

        # A client that closes tells of each of its ephemeral records.
        keys = [f"ephemeral-{i:02}" for i in range(20)]
        with oxia.Client(server.address) as owner:
            for key in keys:
                owner.put(key, key, ephemeral=True)
        told = [in_time(lambda: next(notifications)) for _ in range(2 * len(keys))]
        for kind in NotificationType.KEY_CREATED, NotificationType.KEY_DELETED:
            assert sorted(n.key() for n in told if n.notification_type() == kind) == keys
        notifications.close()


def test_notifications_across_restarts(server):
    # The subscriber's client is not closed: after a restart its close() would wait for good.
    notifications = oxia.Client(server.address).get_notifications()
    made = Changes(server.shards)

    def make_on_every_shard():
        with oxia.Client(server.address) as client:
            made.make(client, 100)
            # After a restart the client hands on what one shard tells only when every shard has told something.
            for shard in range(server.shards):
                made.put(client, key_on(shard, server.shards, "last-"))

    make_on_every_shard()
    for _ in range(2):
        server.kill()
        server.restart()
        make_on_every_shard()
        in_time(lambda: made.check(notifications))


def sequence_key(prefix, *parts):
    return prefix + "".join(f"-{part:020}" for part in parts)


def test_sequence_keys(server):
    home = {"partition_key": "home"}
    with oxia.Client(server.address) as client:

        def add(prefix, *deltas):
            key, version = client.put(prefix, f"{prefix} {deltas}", sequence_keys_deltas=list(deltas), **home)
            assert version.modifications_count() == 0
            assert client.get(key, **home)[1].decode() == f"{prefix} {deltas}"
            return key

        for neighbour in "a+99", "a.99", "a0", "b-00000000000000000099":
            client.put(neighbour, "x", **home)
        keys = [
            (add("a", 5), sequence_key("a", 5)),
            (add("a", 3), sequence_key("a", 8)),
            (add("a", 6, 9), sequence_key("a", 14, 9)),
            (add("a", 6, 9, 15), sequence_key("a", 20, 18, 15)),
            (add("a", 1, 0, 0), sequence_key("a", 21, 18, 15)),
        ]
        for got, want in keys:
            assert got == want
        assert client.list("a-", "a.", **home) == [want for _, want in keys]
        with pytest.raises(oxia.ex.KeyNotFound):
            client.get("a", **home)
        with pytest.raises(oxia.ex.InvalidOptions):
            client.put("a", "x", sequence_keys_deltas=[1])
    server.kill()
    server.restart()
    with oxia.Client(server.address) as client:
        assert add("a", 1, 2, 3) == sequence_key("a", 22, 20, 18)


def test_sequence_updates(server):
    home = {"partition_key": "home"}
    assigned = []

    def add(client, count):
        for _ in range(count):
            assigned.append(client.put("a", "x", sequence_keys_deltas=[1, 2], **home)[0])

    def follow(updates, known):
        """Reads until the last key comes; keys between may be left out."""
        while known < len(assigned):
            key = next(updates)
            assert key in assigned[known:], f"{key} came after {assigned[:known][-1:]}"
            known = assigned.index(key) + 1
        return known

    writer = oxia.Client(server.address)  # left open, as its server ends before it
    updates = writer.get_sequence_updates("a", **home)
    writer.put("ab", "x", sequence_keys_deltas=[1], **home)  # another sequence is not told
    add(writer, 1)
    known = in_time(lambda: follow(updates, 0))
    add(writer, 50)
    known = in_time(lambda: follow(updates, known))
    # A new subscriber is told the highest key at once.
    late = writer.get_sequence_updates("a", **home)
    assert in_time(lambda: next(late)) == assigned[-1]
    late.close()

    server.kill()
    server.restart()
    with oxia.Client(server.address) as client:
        add(client, 1)
        in_time(lambda: follow(updates, known - 1))
    updates.close()
