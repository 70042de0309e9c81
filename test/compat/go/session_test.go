package compat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/oxia-db/oxia/common/proto"
	"github.com/oxia-db/oxia/oxia"
	"google.golang.org/grpc/codes"
)

// The official clients send heartbeats two seconds apart, so theirs cannot be the shortest timeout.
const (
	shortestTimeout = 2 * time.Second
	clientTimeout   = 3 * time.Second
)

func numbered(prefix string, count int) []string {
	keys := make([]string, count)
	for i := range keys {
		keys[i] = fmt.Sprintf("%s%03d", prefix, i)
	}
	return keys
}

func putEphemerals(ctx context.Context, t *testing.T, client oxia.SyncClient, keys []string) {
	t.Helper()
	for _, key := range keys {
		_, version, err := client.Put(ctx, key, []byte(key), oxia.Ephemeral())
		must(t, err)
		equal(t, version.Ephemeral, true)
	}
}

func TestEphemeralsGoWithTheirClient(t *testing.T) {
	onShards(t, func(t *testing.T, s *server, shards int) {
		ctx, reader := testContext(t), s.syncClient()
		notifications := subscribe(t, reader)
		owner := s.syncClient(oxia.WithIdentity("the owner"))
		keys := numbered("ephemeral-", 100)
		putEphemerals(ctx, t, owner, keys)
		_, durable, err := owner.Put(ctx, "durable", nil)
		must(t, err)
		equal(t, durable.Ephemeral, false)
		equal(t, durable.ClientIdentity, "")

		sessions := map[int]map[int64]bool{}
		for _, record := range scan(t, reader.RangeScan(ctx, "ephemeral-", "ephemeral.")) {
			equal(t, record.Version.Ephemeral, true)
			equal(t, record.Version.ClientIdentity, "the owner")
			shard := shardOf(record.Key, shards)
			if sessions[shard] == nil {
				sessions[shard] = map[int64]bool{}
			}
			sessions[shard][record.Version.SessionId] = true
		}
		equal(t, len(sessions), shards)
		for shard, ids := range sessions {
			if len(ids) != 1 {
				t.Fatalf("%d sessions of one client on shard %d", len(ids), shard)
			}
		}

		must(t, owner.Close())
		listed, err := reader.List(ctx, "", "")
		must(t, err)
		equalKeys(t, listed, []string{"durable"})
		_, _, _, err = reader.Get(ctx, keys[0])
		isError(t, err, oxia.ErrKeyNotFound)

		var deleted []string
		for len(deleted) < len(keys) {
			if change := receive(t, notifications); change.Type == oxia.KeyDeleted {
				deleted = append(deleted, change.Key)
			}
		}
		equalKeys(t, sorted(deleted), keys)
	}, 1, 4)
}

// A record belongs to the session that wrote it last, or to none.
func TestEphemeralsChangeHands(t *testing.T) {
	s := startServer(t, 1)
	ctx, reader, first, second := testContext(t), s.syncClient(), s.syncClient(), s.syncClient()
	putEphemerals(ctx, t, first, []string{"kept", "made durable", "made durable by its owner", "taken", "deleted", "made again"})
	putEphemerals(ctx, t, second, []string{"taken"})
	_, version, err := second.Put(ctx, "made durable", nil)
	must(t, err)
	equal(t, version.Ephemeral, false)
	equal(t, version.SessionId, 0)
	_, _, err = first.Put(ctx, "made durable by its owner", nil)
	must(t, err)
	must(t, second.Delete(ctx, "deleted"))
	must(t, second.Delete(ctx, "made again"))
	_, _, err = reader.Put(ctx, "made again", nil)
	must(t, err)
	_, _, err = second.Put(ctx, "was durable", nil)
	must(t, err)
	putEphemerals(ctx, t, second, []string{"was durable"})

	for _, after := range []struct {
		closed oxia.SyncClient
		keys   []string
	}{
		{nil, []string{"kept", "made again", "made durable", "made durable by its owner", "taken", "was durable"}},
		{first, []string{"made again", "made durable", "made durable by its owner", "taken", "was durable"}},
		{second, []string{"made again", "made durable", "made durable by its owner"}},
	} {
		if after.closed != nil {
			must(t, after.closed.Close())
		}
		listed, err := reader.List(ctx, "", "")
		must(t, err)
		equalKeys(t, listed, after.keys)
	}
}

// The reference leaves the index entries of a closed session behind.
func TestEphemeralsLeaveNoIndexEntry(t *testing.T) {
	s := startServer(t, 1)
	ctx, reader, owner := testContext(t), s.syncClient(), s.syncClient()
	for i, key := range []string{"a", "b", "c"} {
		_, _, err := owner.Put(ctx, key, nil, oxia.Ephemeral(), oxia.SecondaryIndex("by-number", fmt.Sprint(i)))
		must(t, err)
	}
	_, _, err := owner.Put(ctx, "durable", nil, oxia.SecondaryIndex("by-number", "1"))
	must(t, err)
	listed, err := reader.List(ctx, "0", "9", oxia.UseIndex("by-number"))
	must(t, err)
	equalKeys(t, listed, []string{"a", "b", "durable", "c"})
	must(t, owner.Close())
	listed, err = reader.List(ctx, "0", "9", oxia.UseIndex("by-number"))
	must(t, err)
	equalKeys(t, listed, []string{"durable"})
	equalKeys(t, keysOf(scan(t, reader.RangeScan(ctx, "0", "9", oxia.UseIndex("by-number")))), []string{"durable"})
	key, _, _, err := reader.Get(ctx, "0", oxia.UseIndex("by-number"), oxia.ComparisonCeiling())
	must(t, err)
	equal(t, key, "durable")
}

// One client lives on and keeps its records over several timeouts; the records of one that is killed go in time.
func TestEphemeralsOfALivingAndOfAKilledClient(t *testing.T) {
	t.Parallel()
	s := startServer(t, 4)
	ctx, reader := testContext(t), s.syncClient()
	living := s.syncClient(oxia.WithSessionTimeout(clientTimeout))
	kept, lost := numbered("kept-", 20), numbered("lost-", 20)
	putEphemerals(ctx, t, living, kept)
	began := time.Now()

	killed := startHolder(s, t, clientTimeout)
	renewed := killed.hold(lost...)
	killed.kill()
	if time.Since(renewed.earliest) > 2*time.Second {
		renewed.latest = time.Now() // slow enough for a heartbeat
	}
	vanishAfter(t, renewed, clientTimeout, reader, lost)

	stayFor(t, time.Until(began.Add(3*clientTimeout+time.Second)), reader, kept)
	must(t, living.Close())
	equalKeys(t, present(ctx, t, reader, kept), nil)
}

// A client that was stopped for longer than its timeout has lost its records, and gets a new session.
func TestEphemeralsOfAStoppedClient(t *testing.T) {
	t.Parallel()
	s := startServer(t, 1)
	reader := s.syncClient()
	stopped := startHolder(s, t, clientTimeout)
	keys := numbered("stopped-", 5)
	renewed := stopped.hold(keys...)
	must(t, stopped.process.Process.Signal(syscall.SIGSTOP))
	if time.Since(renewed.earliest) > 2*time.Second {
		renewed.latest = time.Now()
	}
	vanishAfter(t, renewed, clientTimeout, reader, keys)

	must(t, stopped.process.Process.Signal(syscall.SIGCONT))
	eventually(t, 20*time.Second, func(context.Context) error {
		if !stopped.try("again") {
			return errors.New("still refused")
		}
		return nil
	})
	equalKeys(t, present(testContext(t), t, reader, append(keys, "again")), []string{"again"})
}

// The client lives while the server is killed: its heartbeats go on with the started one.
func TestEphemeralsOutliveTheServerWithTheirClient(t *testing.T) {
	t.Parallel()
	s := startServer(t, 4)
	ctx := testContext(t)
	const timeout = 5 * time.Second // of which a reconnecting client may lose more than half
	owner := s.syncClient(oxia.WithSessionTimeout(timeout))
	keys := numbered("kept-", 20)
	putEphemerals(ctx, t, owner, keys)
	before := map[string]oxia.Version{}
	for _, record := range scan(t, s.syncClient().RangeScan(ctx, "", "")) {
		before[record.Key] = record.Version
	}
	s.restart()
	reader := s.syncClient()
	for _, record := range scan(t, reader.RangeScan(ctx, "", "")) {
		equal(t, record.Version, before[record.Key])
	}
	stayFor(t, 2*timeout+time.Second, reader, keys)
	must(t, owner.Close())
	equalKeys(t, present(ctx, t, reader, keys), nil)
}

// The server is down for longer than the session may last, and then gives it its whole timeout again.
// With natural sorting the reference forgets its sessions at a start.
func TestEphemeralsOutliveTheServerForOneTimeout(t *testing.T) {
	t.Parallel()
	for sorting, shards := range map[string]int{"hierarchical": 4, "natural": 1} {
		t.Run(sorting, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, shards, "--key-sorting", sorting)
			owner := startHolder(s, t, clientTimeout)
			keys := append(numbered("lost-", 10), numbered("/lost/", 10)...)
			held := owner.hold(keys...)
			owner.kill()
			s.kill()
			<-time.After(time.Until(held.latest.Add(clientTimeout + 500*time.Millisecond)))
			began := time.Now()
			s.start()
			vanishAfter(t, span{began, time.Now()}, clientTimeout, s.syncClient(), keys)
		})
	}
}

func TestRawSessionTimeouts(t *testing.T) {
	s := startServer(t, 1)
	ctx, stub := testContext(t), s.stub()
	for milliseconds, accepted := range map[uint32]bool{
		0: false, 1: false, 1999: false, 2000: true, 300_000: true, 300_001: false, 1 << 31: false,
	} {
		_, err := stub.CreateSession(ctx, &proto.CreateSessionRequest{SessionTimeoutMs: milliseconds, ClientIdentity: "raw"})
		if accepted {
			must(t, err)
		} else {
			isReason(t, err, codes.InvalidArgument, "INVALID_SESSION_TIMEOUT")
			isStatus(t, err, codes.InvalidArgument, fmt.Sprintf("timeoutMs=%d", milliseconds))
		}
	}
}

func TestRawSessionLife(t *testing.T) {
	t.Parallel()
	s := startServer(t, 1)
	ctx, stub, reader := testContext(t), s.stub(), s.syncClient()
	create := func() int64 {
		t.Helper()
		created, err := stub.CreateSession(ctx, &proto.CreateSessionRequest{
			SessionTimeoutMs: uint32(shortestTimeout.Milliseconds()), ClientIdentity: "raw",
		})
		must(t, err)
		return created.SessionId
	}
	ephemeral := func(key string, session int64) proto.Status {
		t.Helper()
		request := put(key)
		request.SessionId, request.ClientIdentity = &session, pointer("raw")
		response, err := stub.Write(ctx, onShard0(request))
		must(t, err)
		return response.Puts[0].Status
	}
	beat := func(session int64) error {
		_, err := stub.KeepAlive(ctx, &proto.SessionHeartbeat{SessionId: session})
		return err
	}
	end := func(session int64) error {
		_, err := stub.CloseSession(ctx, &proto.CloseSessionRequest{SessionId: session})
		return err
	}

	closed, kept := create(), create()
	if kept <= closed {
		t.Fatalf("session %d follows session %d", kept, closed)
	}
	equal(t, ephemeral("closed", closed), proto.Status_OK)
	must(t, end(closed))
	equalKeys(t, present(ctx, t, reader, []string{"closed"}), nil)
	for _, session := range []int64{closed, 1 << 40, -1} {
		equal(t, ephemeral("refused", session), proto.Status_SESSION_DOES_NOT_EXIST)
		isReason(t, beat(session), codes.NotFound, "SESSION_NOT_FOUND")
		isReason(t, end(session), codes.NotFound, "SESSION_NOT_FOUND")
	}
	conditional := put("kept")
	conditional.SessionId, conditional.ExpectedVersionId = &closed, pointer[int64](77)
	response, err := stub.Write(ctx, onShard0(conditional))
	must(t, err)
	equal(t, response.Puts[0].Status, proto.Status_UNEXPECTED_VERSION_ID) // the version is looked at first

	// Heartbeats of one kind or the other keep the session; with the last of them its time begins anew.
	equal(t, ephemeral("kept", kept), proto.Status_OK)
	var renewed span
	for range 5 {
		renewed.earliest = time.Now()
		must(t, beat(kept))
		renewed.latest = time.Now()
		stayFor(t, shortestTimeout/2, reader, []string{"kept"})
	}
	vanishAfter(t, renewed, shortestTimeout, reader, []string{"kept"})
	isReason(t, beat(kept), codes.NotFound, "SESSION_NOT_FOUND")
	equal(t, ephemeral("kept", kept), proto.Status_SESSION_DOES_NOT_EXIST)
	listed, err := reader.List(ctx, "", "")
	must(t, err)
	if slices.Contains(listed, "refused") {
		t.Fatal("a record without a session was put")
	}
}
