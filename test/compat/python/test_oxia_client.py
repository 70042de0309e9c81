"""The official Python client against servers with one and with four shards."""
import logging
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import oxia
import oxia.ex
import pytest
from oxia import ComparisonType

from varia_server import VariaServer

SHARDS = [1, 4]
# What the client's channel accepts in one message (gRPC's default); it offers no setting.
RECEIVE_LIMIT = 4 * 1024 * 1024


@pytest.fixture(scope="module", params=SHARDS, ids=lambda n: f"{n}-shards")
def server(request):
    with VariaServer(request.param) as running:
        running.shards = request.param
        yield running


@pytest.fixture(scope="module")
def client(server):
    with oxia.Client(server.address) as opened:
        yield opened


@pytest.fixture(params=SHARDS, ids=lambda n: f"{n}-shards")
def fresh(request):
    """A server of the test's own, for the whole key space or to be killed."""
    with VariaServer(request.param) as running:
        running.shards = request.param
        yield running


def keys_of(records):
    return [key for key, _, _ in records]


def missing(client, key, **options):
    try:
        client.get(key, **options)
    except oxia.ex.KeyNotFound:
        return True
    return False


def test_five_thousand_keys(server, client):
    count = 5_000
    with ThreadPoolExecutor(32) as pool:
        puts = list(pool.map(lambda i: client.put(f"bulk-{i}", f"value-{i}"), range(count)))
        assert [key for key, _ in puts] == [f"bulk-{i}" for i in range(count)]
        assert {v.modifications_count() for _, v in puts} == {0}
        if server.shards == 1:
            assert len({v.version_id() for _, v in puts}) == count
        gets = list(pool.map(lambda i: client.get(f"bulk-{i}"), range(count)))
    for i, (key, value, version) in enumerate(gets):
        assert (key, value) == (f"bulk-{i}", f"value-{i}".encode())
        assert version.version_id() == puts[i][1].version_id()
    assert client.list("bulk-", "bulk.") == sorted(f"bulk-{i}" for i in range(count))
    client.delete_range("bulk-", "bulk.")
    assert client.list("bulk-", "bulk.") == []


def test_put_get_delete(client):
    assert missing(client, "pgd")
    _, first = client.put("pgd", "one")
    _, second = client.put("pgd", b"two")
    assert (first.modifications_count(), second.modifications_count()) == (0, 1)
    assert second.version_id() > first.version_id()
    assert second.created_timestamp() == first.created_timestamp()
    assert second.modified_timestamp() >= first.modified_timestamp()
    assert not second.is_ephemeral()
    assert second.session_id() is None

    key, value, version = client.get("pgd")
    assert (key, value) == ("pgd", b"two")
    assert str(version) == str(second)
    key, value, version = client.get("pgd", include_value=False)
    assert not value
    assert version.version_id() == second.version_id()

    assert client.delete("pgd") is True
    assert client.delete("pgd") is False
    assert missing(client, "pgd")
    assert client.put("pgd", "three")[1].modifications_count() == 0
    assert client.delete("pgd") is True


def test_list_scan_and_delete_range(client):
    keys = [f"/range/{i:02}" for i in range(20)]
    for key in keys:
        client.put(key, key)
    client.put("/range/03/child", "deeper")
    assert client.list("/range/", "/range//") == keys
    assert client.list("/range/05", "/range/10") == keys[5:10]
    assert client.list("/range/10", "/range/05") == []
    records = list(client.range_scan("/range/05", "/range/10"))
    assert keys_of(records) == keys[5:10]
    assert [value.decode() for _, value, _ in records] == keys[5:10]
    assert all(version.modifications_count() == 0 for _, _, version in records)

    client.delete_range("/range/05", "/range/10")
    assert client.list("/range/", "/range//") == keys[:5] + keys[10:]
    client.delete_range("/range/", "/range//")
    assert client.list("/range/", "/range//") == []
    assert client.get("/range/03/child")[1] == b"deeper"
    assert client.delete("/range/03/child")


def test_expected_versions(client):
    with pytest.raises(oxia.ex.UnexpectedVersionId):
        client.put("ev", "x", expected_version_id=5)
    with pytest.raises(oxia.ex.UnexpectedVersionId):
        client.delete("ev", expected_version_id=5)
    _, created = client.put("ev", "a", expected_version_id=oxia.EXPECTED_RECORD_DOES_NOT_EXIST)
    with pytest.raises(oxia.ex.UnexpectedVersionId):
        client.put("ev", "b", expected_version_id=oxia.EXPECTED_RECORD_DOES_NOT_EXIST)
    with pytest.raises(oxia.ex.UnexpectedVersionId):
        client.put("ev", "b", expected_version_id=created.version_id() + 1)
    assert client.get("ev")[1] == b"a"
    _, changed = client.put("ev", "b", expected_version_id=created.version_id())
    assert changed.modifications_count() == 1
    with pytest.raises(oxia.ex.UnexpectedVersionId):
        client.delete("ev", expected_version_id=created.version_id())
    assert client.delete("ev", expected_version_id=changed.version_id()) is True
    assert client.delete("ev") is False


def test_one_of_many_racing_creators_wins(client):
    def create(i):
        try:
            client.put("race", str(i), expected_version_id=oxia.EXPECTED_RECORD_DOES_NOT_EXIST)
            return i
        except oxia.ex.UnexpectedVersionId:
            return None

    with ThreadPoolExecutor(16) as pool:
        winners = [i for i in pool.map(create, range(100)) if i is not None]
    assert len(winners) == 1
    assert client.get("race")[1] == str(winners[0]).encode()
    assert client.delete("race")


def test_partition_keys(server, client):
    partition = "tenant-7"
    keys = [f"part-{i:02}" for i in range(20)]
    for key in keys:
        client.put(key, key, partition_key=partition)
    # All of them are on the one shard of the partition key.
    assert client.list("part-", "part.", partition_key=partition) == keys
    assert client.list("part-", "part.") == keys
    assert keys_of(client.range_scan("part-", "part.", partition_key=partition)) == keys
    for key in keys:
        assert client.get(key, partition_key=partition)[:2] == (key, key.encode())
    if server.shards > 1:
        # Routed by their own hash, some of the same keys are looked for elsewhere.
        missed = sum(missing(client, key) for key in keys)
        assert 0 < missed < len(keys)
    assert client.get("part-03", partition_key=partition,
                      comparison_type=ComparisonType.HIGHER)[0] == "part-04"
    assert client.delete("part-00", partition_key=partition) is True
    assert missing(client, "part-00", partition_key=partition)
    client.delete_range("part-", "part.", partition_key=partition)
    assert client.list("part-", "part.") == []


def hierarchical(key):
    """The server's order: number of slashes, then bytes with `/` as 0xFF."""
    return key.count("/"), key.encode().replace(b"/", b"\xff")


def test_comparisons_follow_the_hierarchical_order(fresh):
    # Keys that the client's merge of several shards orders as the server does.
    keys = ["a", "c", "e", "/m", "/o", "/x/a", "/x/c", "/x/e", "/x/y/1", "/x/y/3"]
    probes = keys + ["A", "b", "d", "z", "/a", "/n", "/x", "/x/", "/x/b", "/x/z",
                     "/x/y/0", "/x/y/2", "/x/y/4", "/x/y/z/1"]
    with oxia.Client(fresh.address) as client:
        for key in keys:
            client.put(key, key)

        def found(probe, comparison):
            try:
                key, value, _ = client.get(probe, comparison_type=comparison)
            except oxia.ex.KeyNotFound:
                return None
            assert value.decode() == key
            return key

        for probe in probes:
            at = hierarchical(probe)
            floor = [k for k in keys if hierarchical(k) <= at]
            lower = [k for k in keys if hierarchical(k) < at]
            ceiling = [k for k in keys if hierarchical(k) >= at]
            higher = [k for k in keys if hierarchical(k) > at]
            assert found(probe, ComparisonType.FLOOR) == (floor or [None])[-1], probe
            assert found(probe, ComparisonType.LOWER) == (lower or [None])[-1], probe
            assert found(probe, ComparisonType.CEILING) == (ceiling or [None])[0], probe
            assert found(probe, ComparisonType.HIGHER) == (higher or [None])[0], probe
        assert client.list("", "") == keys
        assert keys_of(client.range_scan("", "")) == keys


def test_scan_of_one_shard_is_in_the_servers_order():
    keys = ["a", "b", "z", "~", "é", "a/", "a/b", "/", "/a", "/b", "//", "/a/", "/a/x", "/a/y",
            "/a//", "/b/x", "/a/x/1", "/c/d/e"]
    with VariaServer(1) as one, oxia.Client(one.address) as client:
        for key in random.Random(7).sample(keys, len(keys)):
            client.put(key, key)
        # A partition key keeps the client from sorting what the shard answers.
        assert client.list("", "", partition_key="any") == keys
        assert keys_of(client.range_scan("", "", partition_key="any")) == keys
        assert client.list("/a/", "/a//", partition_key="any") == ["/a/", "/a/x", "/a/y"]
        assert client.list("/", "//", partition_key="any") == ["/", "/a", "/b"]


def test_scan_of_twenty_thousand_records(fresh):
    count = 20_000
    padding = "x" * 200
    with oxia.Client(fresh.address) as client:
        with ThreadPoolExecutor(64) as pool:
            for _ in pool.map(lambda i: client.put(f"scan-{i:05}", f"{i}{padding}"), range(count)):
                pass
        records = list(client.range_scan("scan-", "scan."))
        assert len(records) == count
        for i, (key, value, _) in enumerate(records):
            assert (key, value) == (f"scan-{i:05}", f"{i}{padding}".encode())
        # A scan left early frees its stream: the client goes on.
        partial = client.range_scan("scan-", "scan.")
        assert next(partial)[0] == "scan-00000"
        partial.close()
        assert client.get("scan-00007")[1] == f"7{padding}".encode()


def test_large_values(client):
    value = random.Random(3).randbytes(3 * 1024 * 1024)
    client.put("large-3", value)
    assert client.get("large-3")[1] == value
    assert [v for _, v, _ in client.range_scan("large-3", "large-4")] == [value]

    value = random.Random(5).randbytes(5 * 1024 * 1024)
    assert len(value) > RECEIVE_LIMIT
    _, put = client.put("large-5", value)
    _, _, version = client.get("large-5", include_value=False)
    assert version.version_id() == put.version_id()
    with pytest.raises(grpc.RpcError) as refused:  # by the client's own limit
        client.get("large-5")
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in refused.value.details()
    assert client.get("large-3")[1][:1] == random.Random(3).randbytes(3 * 1024 * 1024)[:1]
    client.delete_range("large-", "large.")


def test_empty_value(client):
    client.put("empty", b"")
    key, value, version = client.get("empty")
    assert key == "empty"
    assert not value
    assert version.modifications_count() == 0
    records = list(client.range_scan("empty", "empty0"))
    assert keys_of(records) == ["empty"]
    assert not records[0][1]
    assert client.delete("empty")


def test_unicode_keys(client):
    # In the order of their UTF-8 bytes; UTF-16 would put the emoji before the fullwidth tilde.
    keys = ["uéa", "uñ", "u日本", "u～", "u😀"]
    for key in keys:
        client.put(key, f"value of {key}")
    for key in keys:
        assert client.get(key)[:2] == (key, f"value of {key}".encode())
    assert client.list("u\u0080", "v") == keys
    assert keys_of(client.range_scan("u\u0080", "v")) == keys
    client.delete_range("u\u0080", "v")
    assert client.list("u\u0080", "v") == []


def until_put(client, key, value):
    """The client does not retry: tries again, up to a deadline, until its channel is back."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return client.put(key, value)
        except grpc.RpcError:
            if time.monotonic() > deadline:
                raise


def test_same_client_after_kill_and_restart(fresh):
    # Not closed: after a second assignments message the client's thread waits for good
    # at a barrier that only its constructor shares, and close() would join that thread.
    client = oxia.Client(fresh.address)
    versions = [client.put(f"kept-{i}", f"before-{i}")[1].version_id() for i in range(200)]
    fresh.kill()
    with pytest.raises(grpc.RpcError) as refused:
        client.get("kept-0")
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    fresh.restart()

    _, after = until_put(client, "after", "restart")
    assert client.get("after")[1] == b"restart"
    for i, expected in enumerate(versions):
        _, value, version = client.get(f"kept-{i}")
        assert (value, version.version_id()) == (f"before-{i}".encode(), expected)
    if fresh.shards == 1:
        assert after.version_id() > max(versions)
    assert len(client.list("kept-", "kept.")) == len(versions)
    assert len(list(client.range_scan("kept-", "kept."))) == len(versions)


def test_new_client_after_kill_and_restart(fresh):
    with oxia.Client(fresh.address) as client:
        client.put("kept", "yes")
    fresh.kill()
    fresh.restart()
    with oxia.Client(fresh.address) as client:
        assert client.get("kept")[1] == b"yes"


class Refusals(logging.Handler):
    """The first answer of a server that is there: clients of other tests may still look for theirs."""

    def __init__(self):
        super().__init__()
        self.seen = threading.Event()
        self.error = None

    def emit(self, record):
        error = record.args[0]
        if error.code() == grpc.StatusCode.UNAVAILABLE or self.seen.is_set():
            return
        self.error = error
        self.seen.set()


def test_unknown_namespace_is_refused():
    # The constructor tries for 30 s before it gives up; what each try gets is only logged.
    log = logging.getLogger("oxia.internal.service_discovery")
    refusals = Refusals()
    log.addHandler(refusals)
    with VariaServer(1) as one:
        def connect():
            try:
                oxia.Client(one.address, namespace="no-such-namespace")
            except RuntimeError:
                pass

        threading.Thread(target=connect, daemon=True).start()
        try:
            assert refusals.seen.wait(20)
        finally:
            log.removeHandler(refusals)
        assert refusals.error.code() == grpc.StatusCode.NOT_FOUND
        assert "namespace not found" in refusals.error.details()


def test_default_namespace_by_name(server, client):
    with oxia.Client(server.address, namespace="default") as named:
        named.put("named", "yes")
    assert client.get("named")[1] == b"yes"
    assert client.delete("named")
