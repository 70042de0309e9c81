"""Random changes through the client, and what the notifications have to tell of them."""

import random
import time

import oxia.ex
import pytest
import xxhash
from oxia.defs import NotificationType


def shard_of(key, shards):
    """The shard that the client routes a key to, with 1, 2 or 4 shards."""
    return (xxhash.xxh64(key).intdigest() & 0xFFFFFFFF) * shards >> 32


def key_on(shard, shards, prefix):
    """A key that is routed to the shard."""
    i = 0
    while shard_of(f"{prefix}{i}", shards) != shard:
        i += 1
    return f"{prefix}{i}"


class Changes:
    def __init__(self, shards):
        self.shards = shards
        seed = time.time_ns()
        print("seed", seed)  # pytest shows it with a failure
        self._random = random.Random(seed)
        self._live = set()
        self._ranges = {}  # the start of a range, each of its own -> its shard
        self.told = [[] for _ in range(shards)]

    def put(self, client, key):
        _, version = client.put(key, key)
        kind = NotificationType.KEY_MODIFIED if key in self._live else NotificationType.KEY_CREATED
        self._live.add(key)
        self._tell(shard_of(key, self.shards), kind, key, version.version_id())

    def make(self, client, count):
        for _ in range(count):
            key = f"key-{self._random.randrange(40):02}"
            chosen = self._random.randrange(6)
            if chosen == 0:
                existed = key in self._live
                assert client.delete(key) == existed
                self._live.discard(key)
                if existed:
                    self._tell(shard_of(key, self.shards), NotificationType.KEY_DELETED, key)
            elif chosen == 1:
                with pytest.raises(oxia.ex.UnexpectedVersionId):  # which tells nothing
                    client.put(key, "x", expected_version_id=1 << 40)
            elif chosen == 2:
                self._delete_range(client, key)
            else:
                self.put(client, key)

    def _delete_range(self, client, key):
        shard = self._random.randrange(self.shards)
        start, end = f"{key}-{len(self._ranges)}", f"key-{self._random.randrange(40):02}"
        client.delete_range(start, end, partition_key=key_on(shard, self.shards, "partition-"))
        gone = {k for k in self._live if start <= k < end and shard_of(k, self.shards) == shard}
        self._live -= gone
        self._ranges[start] = shard
        self._tell(shard, NotificationType.KEY_RANGE_DELETED, start, range_end=end)

    def _tell(self, shard, kind, key, version=0, range_end=None):
        self.told[shard].append((kind, key, version, range_end))

    def check(self, notifications):
        """Takes as many notifications as there must be and compares them shard by shard."""
        told, self.told = self.told, [[] for _ in range(self.shards)]
        got = [[] for _ in range(self.shards)]
        for _ in range(sum(map(len, told))):
            change = next(notifications)
            kind, key = change.notification_type(), change.key()
            ranged = kind == NotificationType.KEY_RANGE_DELETED
            shard = self._ranges[key] if ranged else shard_of(key, self.shards)
            got[shard].append((kind, key, change.version_id(), change.key_range_end()))
            at = len(got[shard]) - 1
            assert at < len(told[shard]), f"{got[shard][at]} on shard {shard}, which has told everything"
            assert got[shard][at] == told[shard][at], f"notification {at} of shard {shard}"
