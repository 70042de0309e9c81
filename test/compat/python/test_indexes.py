"""Queries by secondary index, compared with a slow and obvious model."""

import random
import time

import oxia
import oxia.ex
import pytest
from oxia import ComparisonType

from changes import key_on, shard_of
from varia_server import VariaServer

NAMES = ["by-name", "by-names", "other"]
SECONDARIES = ["a", "b", "c", "bb", "é", "~", "a/z", "b/x", "/a", "/a/1", "/a/2", "/b/1", "a%2Fz"]
BOUNDS = SECONDARIES + ["0", "bc", "zz", "\U0010ffff", "/", "//", "/a/", "/a//", "/a/15", "/c/", "a/zz", "z/"]


def hierarchical(key):
    """The server's order: number of slashes, then bytes with `/` as 0xFF."""
    slashes = key.count("/") - (len(key) > 1 and key.endswith("//"))
    return slashes, key.encode().replace(b"/", b"\xff")


class IndexRun:
    """Makes random changes and asks random questions of the server and of the model."""

    def __init__(self, shards):
        self.shards = shards
        seed = time.time_ns()
        print("seed", seed)  # pytest shows it with a failure
        self.random = random.Random(seed)
        self.records = {}  # key -> (value, version id, {index: secondary key})
        self.homes = [key_on(shard, shards, "partition-") for shard in range(shards)]

    def change(self, client):
        key = f"key{self.random.choice('-/')}{self.random.randrange(25):02}"
        chosen = self.random.randrange(12)
        if chosen < 3:
            assert client.delete(key) == (self.records.pop(key, None) is not None)
        elif chosen == 3:
            start = f"key-{self.random.randrange(25):02}"
            end = f"key-{self.random.randrange(25):02}"
            client.delete_range(start, end)
            self.records = {k: r for k, r in self.records.items() if not start <= k < end}
        else:
            value = str(self.random.random())
            names = self.random.sample(NAMES, self.random.randrange(len(NAMES) + 1))
            indexes = {name: self.random.choice(SECONDARIES) for name in names}
            _, version = client.put(key, value, secondary_indexes=indexes)
            self.records[key] = value.encode(), version.version_id(), indexes

    def entries(self, index, shard):
        """One shard's part of an index: secondary and primary keys, in order."""
        found = [(r[2][index], key) for key, r in self.records.items() if index in r[2]]
        found = [entry for entry in found if shard_of(entry[1], self.shards) == shard]
        return sorted(found, key=lambda entry: (hierarchical(entry[0]), entry[1].replace("/", "%2F")))

    def listed(self, index, shard, start, end):
        within = hierarchical(start), hierarchical(end)
        return [
            key for secondary, key in self.entries(index, shard) if within[0] <= hierarchical(secondary) < within[1]
        ]

    def picked(self, index, shard, key, comparison):
        """One shard's answer to a get."""
        entries = self.entries(index, shard)
        equal = [k for secondary, k in entries if secondary == key]
        below = [k for secondary, k in entries if hierarchical(secondary) < hierarchical(key)]
        above = [k for secondary, k in entries if hierarchical(secondary) > hierarchical(key)]
        candidates = {
            ComparisonType.EQUAL: equal[:1],
            ComparisonType.FLOOR: equal[:1] or below[-1:],
            ComparisonType.CEILING: equal[:1] or above[:1],
            ComparisonType.LOWER: below[-1:],
            ComparisonType.HIGHER: above[:1],
        }[comparison]
        return candidates[0] if candidates else None

    def ask(self, client):
        index, shard = self.random.choice(NAMES), self.random.randrange(self.shards)
        start, end = self.random.choice(BOUNDS), self.random.choice(BOUNDS)
        question = f"index {index} from {start!r} to {end!r}"
        here = self.listed(index, shard, start, end)
        # Without a partition key the client sorts the keys of all shards, but merges scans without sorting.
        everywhere = [key for s in range(self.shards) for key in self.listed(index, s, start, end)]
        everywhere.sort(key=hierarchical)
        home = {"use_index": index, "partition_key": self.homes[shard]}

        assert client.list(start, end, **home) == here, question
        assert client.list(start, end, use_index=index) == everywhere, question
        records = list(client.range_scan(start, end, **home))
        assert [key for key, _, _ in records] == here, question
        more = list(client.range_scan(start, end, use_index=index))
        assert sorted((key for key, _, _ in more), key=hierarchical) == everywhere, question
        for record in records + more:
            self.check_record(record)
        for comparison in ComparisonType:
            self.ask_one(client, start, index, shard, comparison)

    def ask_one(self, client, key, index, shard, comparison):
        question = f"{comparison!r} of index {index} with {key!r}"
        found = self.get(client, key, comparison, use_index=index, partition_key=self.homes[shard])
        assert found == self.picked(index, shard, key, comparison), question
        # Of the answers of all shards the client takes the one with the first or last primary key.
        answers = [self.picked(index, s, key, comparison) for s in range(self.shards)]
        answers = sorted((a for a in answers if a is not None), key=hierarchical)
        last = comparison in (ComparisonType.FLOOR, ComparisonType.LOWER)
        wanted = answers[-1 if last else 0] if answers else None
        assert self.get(client, key, comparison, use_index=index) == wanted, question

    def get(self, client, key, comparison, **options):
        try:
            record = client.get(key, comparison_type=comparison, **options)
        except oxia.ex.KeyNotFound:
            return None
        self.check_record(record)
        return record[0]

    def check_record(self, record):
        key, value, version = record
        assert (value, version.version_id()) == self.records[key][:2]


@pytest.mark.parametrize("shards", [1, 4])
def test_indexes_answer_as_the_model(shards):
    run = IndexRun(shards)
    with VariaServer(shards) as server:
        with oxia.Client(server.address) as client:
            for _ in range(250):
                run.change(client)
                run.ask(client)
        server.kill()
        server.restart()
        with oxia.Client(server.address) as client:
            for _ in range(50):
                run.ask(client)
                run.change(client)


def test_ephemerals_leave_no_index_entry():
    """The reference leaves the index entries of a closed session behind."""
    with VariaServer(1) as server, oxia.Client(server.address) as reader:
        reader.put("durable", "x", secondary_indexes={"by-number": "1"})
        with oxia.Client(server.address) as owner:
            for i, key in enumerate(["a", "b", "c"]):
                owner.put(key, "x", ephemeral=True, secondary_indexes={"by-number": str(i)})
            assert reader.list("0", "9", use_index="by-number") == ["a", "b", "c", "durable"]
        assert reader.list("0", "9", use_index="by-number") == ["durable"]
        assert [key for key, _, _ in reader.range_scan("0", "9", use_index="by-number")] == ["durable"]
