package compat

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oxia-db/oxia/common/hash"
	"github.com/oxia-db/oxia/common/proto"
	"github.com/oxia-db/oxia/oxia"
	"google.golang.org/grpc"
)

// receive waits for the next notification.
func receive(t *testing.T, notifications oxia.Notifications) oxia.Notification {
	t.Helper()
	select {
	case change, open := <-notifications.Ch():
		if !open {
			t.Fatal("the notifications ended")
		}
		return *change
	case <-time.After(20 * time.Second):
		t.Fatal("no notification came")
		panic("unreachable")
	}
}

func subscribe(t *testing.T, client interface {
	GetNotifications() (oxia.Notifications, error)
}) oxia.Notifications {
	t.Helper()
	notifications, err := client.GetNotifications()
	must(t, err)
	return notifications
}

// shardOf is the shard that the client routes a key to, with 1, 2 or 4 shards.
func shardOf(key string, shards int) int {
	return int(uint64(hash.Xxh332(key)) * uint64(shards) >> 32)
}

// keyOn gives a key that is routed to the shard.
func keyOn(shard, shards int, prefix string) string {
	for i := 0; ; i++ {
		if key := fmt.Sprintf("%s%d", prefix, i); shardOf(key, shards) == shard {
			return key
		}
	}
}

// changes makes random changes and keeps what each shard has to tell of them, in order.
type changes struct {
	t      *testing.T
	shards int
	random *rand.Rand
	told   [][]oxia.Notification
	live   map[string]bool
	ranges int
	// Range deletes tell no shard, but each one here has a start of its own.
	shardOfRange map[string]int
}

func newChanges(t *testing.T, shards int) *changes {
	t.Helper()
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	return &changes{
		t: t, shards: shards, random: rand.New(rand.NewSource(seed)),
		told: make([][]oxia.Notification, shards), live: map[string]bool{}, shardOfRange: map[string]int{},
	}
}

func (c *changes) tell(shard int, change oxia.Notification) {
	c.told[shard] = append(c.told[shard], change)
}

func (c *changes) put(client oxia.SyncClient, key string) {
	c.t.Helper()
	_, version, err := client.Put(testContext(c.t), key, []byte(key))
	must(c.t, err)
	kind := oxia.KeyCreated
	if c.live[key] {
		kind = oxia.KeyModified
	}
	c.live[key] = true
	c.tell(shardOf(key, c.shards), oxia.Notification{Type: kind, Key: key, VersionId: version.VersionId})
}

func (c *changes) make(client oxia.SyncClient, count int) {
	c.t.Helper()
	ctx := testContext(c.t)
	for range count {
		key := fmt.Sprintf("key-%02d", c.random.Intn(40))
		switch c.random.Intn(6) {
		case 0:
			err := client.Delete(ctx, key)
			if !c.live[key] {
				isError(c.t, err, oxia.ErrKeyNotFound) // and tells nothing
				continue
			}
			must(c.t, err)
			delete(c.live, key)
			c.tell(shardOf(key, c.shards), oxia.Notification{Type: oxia.KeyDeleted, Key: key, VersionId: -1})
		case 1:
			_, _, err := client.Put(ctx, key, nil, oxia.ExpectedVersionId(1<<40))
			isError(c.t, err, oxia.ErrUnexpectedVersionId) // and tells nothing
		case 2:
			shard := c.random.Intn(c.shards)
			start, end := fmt.Sprintf("%s-%d", key, c.ranges), fmt.Sprintf("key-%02d", c.random.Intn(40))
			c.ranges++
			must(c.t, client.DeleteRange(ctx, start, end, oxia.PartitionKey(keyOn(shard, c.shards, "partition-"))))
			for found := range c.live {
				if found >= start && found < end && shardOf(found, c.shards) == shard {
					delete(c.live, found)
				}
			}
			c.shardOfRange[start] = shard
			c.tell(shard, oxia.Notification{Type: oxia.KeyRangeRangeDeleted, Key: start, VersionId: -1, KeyRangeEnd: end})
		default:
			c.put(client, key)
		}
	}
}

// check takes as many notifications as there must be and compares them shard by shard.
func (c *changes) check(notifications oxia.Notifications) {
	c.t.Helper()
	next := make([]int, c.shards)
	for range slices.Concat(c.told...) {
		got := receive(c.t, notifications)
		shard := shardOf(got.Key, c.shards)
		if got.Type == oxia.KeyRangeRangeDeleted {
			shard = c.shardOfRange[got.Key]
		}
		if next[shard] == len(c.told[shard]) {
			c.t.Fatalf("%v on shard %d, which has told everything", got, shard)
		}
		if want := c.told[shard][next[shard]]; got != want {
			c.t.Fatalf("notification %d of shard %d is %v, want %v", next[shard], shard, got, want)
		}
		next[shard]++
	}
	c.told = make([][]oxia.Notification, c.shards)
}

func TestNotificationsAreCompleteAndInOrder(t *testing.T) {
	onShards(t, func(t *testing.T, s *server, shards int) {
		client := s.syncClient()
		_, _, err := client.Put(testContext(t), "before the subscription", nil)
		must(t, err)
		first, second := subscribe(t, client), subscribe(t, s.syncClient())
		made := newChanges(t, shards)
		made.make(client, 300)
		told := slices.Clone(made.told)
		made.check(first)
		made.told = told
		made.check(second)

		// A range that is given no partition key is deleted on every shard.
		must(t, client.DeleteRange(testContext(t), "", "zzz"))
		for range shards {
			equal(t, receive(t, first), oxia.Notification{Type: oxia.KeyRangeRangeDeleted, VersionId: -1, KeyRangeEnd: "zzz"})
		}
		must(t, first.Close())
		if _, open := <-first.Ch(); open {
			t.Fatal("a notification after the close")
		}
		made.live = map[string]bool{}
		for range shards {
			equal(t, receive(t, second).Type, oxia.KeyRangeRangeDeleted)
		}
		made.make(client, 20)
		made.check(second)
	}, 1, 4)
}

// The subscriber is connected, the server is killed and started twice, and no change is missed or told twice.
func TestNotificationsAcrossRestarts(t *testing.T) {
	t.Parallel()
	onShards(t, func(t *testing.T, s *server, shards int) {
		notifications := subscribe(t, s.syncClient())
		made := newChanges(t, shards)
		made.make(s.syncClient(), 150)
		for range 2 {
			s.restart()
			made.make(s.syncClient(), 150) // faster than the subscriber comes back
		}
		made.check(notifications)
		client := s.syncClient()
		for shard := range shards {
			made.put(client, keyOn(shard, shards, "last-"))
		}
		made.check(notifications) // nothing lay between
	}, 1, 4)
}

// SIGKILL in the middle of a load: told is exactly what the database has afterwards.
func TestNotificationsOfWritesCutByAKill(t *testing.T) {
	onShards(t, func(t *testing.T, s *server, shards int) {
		notifications := subscribe(t, s.syncClient())
		told := map[string]int64{}
		take := func() (oxia.Notification, bool) {
			got := receive(t, notifications)
			equal(t, got.Type, oxia.KeyCreated)
			if _, twice := told[got.Key]; twice {
				t.Fatalf("%q was told twice", got.Key)
			}
			told[got.Key] = got.VersionId
			return got, strings.HasPrefix(got.Key, "last-")
		}
		writer := s.asyncClient(oxia.WithRequestTimeout(2 * time.Second))
		results := make([]<-chan oxia.PutResult, 20_000)
		for i := range results {
			// Conditional, since the client may send again what it has no answer for.
			results[i] = writer.Put(fmt.Sprintf("load-%05d", i), nil, oxia.ExpectedRecordNotExists())
			if i == len(results)/2 {
				take() // some are committed
				s.kill()
			}
		}
		s.start()
		acknowledged := map[string]int64{}
		for _, result := range results {
			if r := <-result; r.Err == nil {
				acknowledged[r.Key] = r.Version.VersionId
			}
		}
		must(t, writer.Close())

		client := s.syncClient()
		for shard := range shards {
			_, _, err := client.Put(testContext(t), keyOn(shard, shards, "last-"), nil)
			must(t, err)
		}
		for last := 0; last < shards; {
			if _, isLast := take(); isLast {
				last++
			}
		}
		records := scan(t, client.RangeScan(testContext(t), "", ""))
		equal(t, len(told), len(records))
		for _, record := range records {
			equal(t, told[record.Key], record.Version.VersionId)
			delete(acknowledged, record.Key)
		}
		equal(t, len(acknowledged), 0)
	}, 1, 4)
}

// A subscriber that reads nothing for a while gets everything later.
func TestNotificationsWaitForASlowReader(t *testing.T) {
	s := startServer(t, 4)
	client := s.asyncClient()
	for shard := range 4 { // the client's first two batches at once could both be sent twice
		must(t, (<-client.Put(keyOn(shard, 4, "first-"), nil)).Err)
	}
	notifications := subscribe(t, client)
	keys := numbered("key-", 20_000)
	putAll(t, client, keys, keyBytes)
	got := make([]string, len(keys))
	for i := range got {
		got[i] = receive(t, notifications).Key
	}
	equalKeys(t, sorted(got), sorted(keys))
}

func TestRawNotificationsFromAnyOffset(t *testing.T) {
	s := startServer(t, 1)
	ctx, stub := testContext(t), s.stub()
	batches := func(after *int64, count int) []*proto.NotificationBatch {
		t.Helper()
		stream, err := stub.GetNotifications(ctx, &proto.NotificationsRequest{StartOffsetExclusive: after})
		must(t, err)
		return next(t, stream, count)
	}
	write := func(request *proto.WriteRequest) {
		t.Helper()
		request.Shard = pointer[int64](0)
		_, err := stub.Write(ctx, request)
		must(t, err)
	}
	fresh, err := stub.GetNotifications(ctx, &proto.NotificationsRequest{})
	must(t, err)
	first := next(t, fresh, 1)[0]
	equal(t, len(first.Notifications), 0)
	equal(t, first.Timestamp, 0)

	write(onShard0(put("b"), put("a"), put("b"), put("c")))
	refused := put("a")
	refused.ExpectedVersionId = pointer[int64](77)
	write(onShard0(refused))
	_, err = stub.CreateSession(ctx, &proto.CreateSessionRequest{SessionTimeoutMs: 300_000})
	must(t, err)
	write(&proto.WriteRequest{
		Puts: []*proto.PutRequest{put("d"), put("a")}, Deletes: []*proto.DeleteRequest{{Key: "c"}, {Key: "missing"}},
		DeleteRanges: []*proto.DeleteRangeRequest{{StartInclusive: "x", EndExclusive: "z"}},
	})
	want := []string{"a created 1, b modified 2, c created 3", "", "", "a modified 6, c deleted, d created 5, x range z"}
	describe := func(found []*proto.NotificationBatch) []string {
		described := make([]string, len(found))
		for i, batch := range found {
			described[i] = describeBatch(batch)
		}
		return described
	}
	live := next(t, fresh, 4)
	equalKeys(t, describe(live), want)
	for i, batch := range live {
		if before := append([]*proto.NotificationBatch{first}, live...)[i]; batch.Offset <= before.Offset {
			t.Fatalf("offset %d follows %d", batch.Offset, before.Offset)
		}
		if age := time.Since(time.UnixMilli(int64(batch.Timestamp))); age < -time.Minute || age > time.Minute {
			t.Fatalf("a batch is %s old", age)
		}
	}
	check := func() {
		t.Helper()
		equalKeys(t, describe(batches(pointer[int64](-1), 4)), want)
		for i, batch := range live[:3] {
			equalKeys(t, describe(batches(&batch.Offset, 3-i)), want[i+1:])
		}
	}
	check()
	s.restart()
	stub = s.stub()
	check()
	dummy := batches(nil, 1)[0]
	equal(t, len(dummy.Notifications), 0)
	if dummy.Offset < live[3].Offset {
		t.Fatalf("a new subscription begins at %d, before %d", dummy.Offset, live[3].Offset)
	}
	// An offset that is not there yet is waited for.
	later := dummy.Offset + 3
	stream, err := stub.GetNotifications(ctx, &proto.NotificationsRequest{StartOffsetExclusive: &later})
	must(t, err)
	for i := range 6 {
		write(onShard0(put(fmt.Sprintf("later-%d", i))))
	}
	if batch := next(t, stream, 1)[0]; batch.Offset <= later {
		t.Fatalf("offset %d was sent to a reader from %d", batch.Offset, later)
	}
}

func next(t *testing.T, stream grpc.ServerStreamingClient[proto.NotificationBatch], count int) []*proto.NotificationBatch {
	t.Helper()
	found := make([]*proto.NotificationBatch, count)
	for i := range found {
		batch, err := stream.Recv()
		must(t, err)
		found[i] = batch
	}
	return found
}

func describeBatch(batch *proto.NotificationBatch) string {
	var parts []string
	for _, entry := range batch.Notifications {
		change := entry.Value
		switch change.Type {
		case proto.NotificationType_KEY_CREATED:
			parts = append(parts, fmt.Sprintf("%s created %d", entry.GetKey(), change.GetVersionId()))
		case proto.NotificationType_KEY_MODIFIED:
			parts = append(parts, fmt.Sprintf("%s modified %d", entry.GetKey(), change.GetVersionId()))
		case proto.NotificationType_KEY_DELETED:
			parts = append(parts, fmt.Sprintf("%s deleted", entry.GetKey()))
		case proto.NotificationType_KEY_RANGE_DELETED:
			parts = append(parts, fmt.Sprintf("%s range %s", entry.GetKey(), change.GetKeyRangeLast()))
		}
	}
	return strings.Join(parts, ", ")
}
