package compat

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oxia-db/oxia/common/proto"
	"github.com/oxia-db/oxia/oxia"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// sequenceKey writes a sequence key as the server does: 20 digits a part.
func sequenceKey(prefix string, parts ...uint64) string {
	for _, part := range parts {
		prefix += fmt.Sprintf("-%020d", part)
	}
	return prefix
}

func TestSequenceKeys(t *testing.T) {
	onShards(t, func(t *testing.T, s *server, _ int) {
		ctx, client := testContext(t), s.syncClient()
		partition := oxia.PartitionKey("home")
		add := func(want string, deltas ...uint64) {
			t.Helper()
			key, version, err := client.Put(ctx, "a", []byte(want), partition, oxia.SequenceKeysDeltas(deltas...))
			must(t, err)
			equal(t, key, want)
			equal(t, version.ModificationsCount, 0)
			_, value, _, err := client.Get(ctx, key, partition)
			must(t, err)
			equal(t, string(value), want)
		}
		// Neighbours in the key order that are no part of the sequence.
		for _, key := range []string{"a+99", "a.99", "a0", "b-00000000000000000099"} {
			_, _, err := client.Put(ctx, key, nil, partition)
			must(t, err)
		}
		add(sequenceKey("a", 5), 5)
		add(sequenceKey("a", 8), 3)
		add(sequenceKey("a", 14, 9), 6, 9)
		add(sequenceKey("a", 20, 18, 15), 6, 9, 15)
		add(sequenceKey("a", 21, 18, 15), 1, 0, 0)
		_, _, _, err := client.Get(ctx, "a", partition)
		isError(t, err, oxia.ErrKeyNotFound)

		s.restart()
		client = s.syncClient()
		add(sequenceKey("a", 22, 20, 18), 1, 2, 3)
		listed, err := client.List(ctx, "a-", "a.", partition)
		must(t, err)
		equalKeys(t, listed, []string{
			sequenceKey("a", 5), sequenceKey("a", 8), sequenceKey("a", 14, 9),
			sequenceKey("a", 20, 18, 15), sequenceKey("a", 21, 18, 15), sequenceKey("a", 22, 20, 18),
		})
		// The highest key that exists counts, not the highest there ever was.
		must(t, client.DeleteRange(ctx, sequenceKey("a", 20), "a.", partition))
		add(sequenceKey("a", 15, 10), 1, 1)
		must(t, client.DeleteRange(ctx, "a-", "a.", partition))
		add(sequenceKey("a", 7), 7)
	}, 1, 4)
}

func TestSequenceKeysAreRefused(t *testing.T) {
	s := startServer(t, 1)
	ctx, stub := testContext(t), s.stub()
	write := func(change func(*proto.PutRequest)) (*proto.WriteResponse, error) {
		request := put("a")
		request.PartitionKey, request.SequenceKeyDelta = pointer("home"), []uint64{1, 1}
		change(request)
		return stub.Write(ctx, onShard0(request))
	}
	_, err := write(func(*proto.PutRequest) {})
	must(t, err)
	for text, change := range map[string]func(*proto.PutRequest){
		"requires partition key":       func(r *proto.PutRequest) { r.PartitionKey = nil },
		"requires first delta do be":   func(r *proto.PutRequest) { r.SequenceKeyDelta = []uint64{0, 1} },
		"missing some sequence deltas": func(r *proto.PutRequest) { r.SequenceKeyDelta = []uint64{1} },
	} {
		_, err := write(change)
		isRefused(t, err, text)
	}
	response, err := write(func(r *proto.PutRequest) { r.ExpectedVersionId = pointer[int64](0) })
	must(t, err)
	equal(t, response.Puts[0].Status, proto.Status_UNEXPECTED_VERSION_ID)

	// A refused put takes the whole request with it, and no part of a number.
	outOfRange := put("a")
	outOfRange.PartitionKey, outOfRange.SequenceKeyDelta = pointer("home"), []uint64{1}
	_, err = stub.Write(ctx, onShard0(put("beside"), outOfRange))
	isRefused(t, err, "missing some sequence deltas")
	response, err = write(func(*proto.PutRequest) {})
	must(t, err)
	equal(t, response.Puts[0].GetKey(), sequenceKey("a", 2, 2))
	listed, err := s.syncClient().List(ctx, "", "")
	must(t, err)
	equalKeys(t, listed, []string{sequenceKey("a", 1, 1), sequenceKey("a", 2, 2)})

	// The refused requests are in the log: a start passes over them, where the reference stops for good.
	s.restart()
	stub = s.stub()
	response, err = write(func(*proto.PutRequest) {})
	must(t, err)
	equal(t, response.Puts[0].GetKey(), sequenceKey("a", 3, 3))
}

// isRefused wants INVALID_ARGUMENT, where the reference says UNKNOWN.
func isRefused(t *testing.T, err error, text string) {
	t.Helper()
	code := codes.InvalidArgument
	if status.Code(err) == codes.Unknown {
		code = codes.Unknown
	}
	isStatus(t, err, code, text)
}

// Many writers at once get every number once.
func TestSequenceKeysOfManyWriters(t *testing.T) {
	s := startServer(t, 4)
	var results []<-chan oxia.PutResult
	writers := []oxia.AsyncClient{s.asyncClient(), s.asyncClient(), s.asyncClient()}
	for _, writer := range writers { // a first batch alone, or the client could send one twice
		results = append(results, writer.Put("job", nil, oxia.PartitionKey("home"), oxia.SequenceKeysDeltas(1)))
		r := <-results[len(results)-1]
		must(t, r.Err)
		results[len(results)-1] = ready(r)
	}
	for range 200 {
		for _, writer := range writers {
			results = append(results, writer.Put("job", nil, oxia.PartitionKey("home"), oxia.SequenceKeysDeltas(1)))
		}
	}
	got, want := make([]string, len(results)), make([]string, len(results))
	for i, result := range results {
		r := <-result
		must(t, r.Err)
		got[i], want[i] = r.Key, sequenceKey("job", uint64(i+1))
	}
	equalKeys(t, sorted(got), want)
}

func ready[T any](value T) <-chan T {
	channel := make(chan T, 1)
	channel <- value
	return channel
}

// The client asks shard 0 whatever the partition key; the reference then tells nothing of what other shards hold.
func TestSequenceUpdates(t *testing.T) {
	t.Parallel()
	onShards(t, func(t *testing.T, s *server, shards int) {
		ctx, client := testContext(t), s.syncClient()
		partition := oxia.PartitionKey(keyOn(shards-1, shards, "partition-"))
		following, cancel := context.WithCancel(ctx)
		updates, err := client.GetSequenceUpdates(following, "a", partition)
		must(t, err)
		var assigned []string
		add := func(client oxia.SyncClient, prefix string) {
			t.Helper()
			key, _, err := client.Put(ctx, prefix, nil, partition, oxia.SequenceKeysDeltas(1, 2))
			must(t, err)
			if prefix == "a" {
				assigned = append(assigned, key)
			}
		}
		// follow reads until the last key comes; keys between may be left out.
		follow := func(updates <-chan string, from int) int {
			t.Helper()
			for {
				select {
				case key, open := <-updates:
					at := slices.Index(assigned, key)
					if !open || at < from {
						t.Fatalf("%q after number %d of %q (open: %v)", key, from-1, assigned, open)
					}
					if from = at + 1; from == len(assigned) {
						return from
					}
				case <-time.After(20 * time.Second):
					t.Fatalf("no update to %q came", assigned[len(assigned)-1])
				}
			}
		}
		add(client, "ab") // another sequence is not told
		add(client, "a")
		known := follow(updates, 0)
		for range 50 {
			add(client, "a")
		}
		known = follow(updates, known)

		late, err := s.syncClient().GetSequenceUpdates(following, "a", partition)
		must(t, err)
		equal(t, follow(late, known-1), known) // a new subscriber is told the highest key at once

		s.restart()
		add(s.syncClient(), "a")
		follow(updates, known-1) // and a subscriber that comes back as well
		cancel()
		for key := range updates {
			if !strings.HasPrefix(key, "a-") {
				t.Fatalf("%q is no key of the sequence", key)
			}
		}
	}, 1, 4)
}
