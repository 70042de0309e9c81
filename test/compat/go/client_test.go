package compat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/oxia-db/oxia/common/constant"
	"github.com/oxia-db/oxia/common/hash"
	"github.com/oxia-db/oxia/common/proto"
	"github.com/oxia-db/oxia/oxia"
)

var hierarchicalOrder = []string{
	"a", "b", "z", "~", "é", "a/", "a/b", "/", "/a", "/b", "//",
	"/a/", "/a/x", "/a/y", "/a//", "/b/x", "/a/x/1", "/c/d/e",
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t *testing.T, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("got %#v, want %#v", got, want)
	}
}

func equalKeys(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got  %q\nwant %q", got, want)
	}
}

func isError(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("got error %v, want %v", got, want)
	}
}

func putAll(t *testing.T, client oxia.AsyncClient, keys []string, value func(string) []byte) {
	t.Helper()
	results := make([]<-chan oxia.PutResult, len(keys))
	for i, key := range keys {
		results[i] = client.Put(key, value(key))
	}
	for i, result := range results {
		if r := <-result; r.Err != nil {
			t.Fatalf("put %q: %v", keys[i], r.Err)
		}
	}
}

func keyBytes(key string) []byte { return []byte(key) }

func scan(t *testing.T, records <-chan oxia.GetResult) []oxia.GetResult {
	t.Helper()
	var all []oxia.GetResult
	for record := range records {
		must(t, record.Err)
		all = append(all, record)
	}
	return all
}

func keysOf(records []oxia.GetResult) []string {
	keys := make([]string, len(records))
	for i, record := range records {
		keys[i] = record.Key
	}
	return keys
}

func sorted(keys []string) []string {
	keys = slices.Clone(keys)
	slices.Sort(keys)
	return keys
}

func onShards(t *testing.T, test func(t *testing.T, s *server, shards int), counts ...int) {
	t.Helper()
	for _, shards := range counts {
		t.Run(strconv.Itoa(shards)+"-shards", func(t *testing.T) { test(t, startServer(t, shards), shards) })
	}
}

func TestFiveThousandKeys(t *testing.T) {
	onShards(t, func(t *testing.T, s *server, _ int) {
		client := s.asyncClient()
		keys := make([]string, 5000)
		for i := range keys {
			keys[i] = fmt.Sprintf("key-%d", i)
		}
		putAll(t, client, keys, func(key string) []byte { return []byte("value of " + key) })

		reader := s.asyncClient()
		// A get's channel may be unbuffered: each result is taken by a goroutine of its own, or the client stops.
		results := make([]chan oxia.GetResult, len(keys))
		for i := range results {
			results[i] = make(chan oxia.GetResult, 1)
		}
		go func() {
			for i, key := range keys {
				go func(result <-chan oxia.GetResult) { results[i] <- <-result }(reader.Get(key))
			}
		}()
		for i, result := range results {
			r := <-result
			must(t, r.Err)
			equal(t, string(r.Value), "value of "+keys[i])
			equal(t, r.Key, keys[i])
			equal(t, r.Version.ModificationsCount, 0)
		}
	}, 1, 4)
}

func TestPutGetDelete(t *testing.T) {
	onShards(t, func(t *testing.T, s *server, _ int) {
		ctx, client := testContext(t), s.syncClient()
		key, first, err := client.Put(ctx, "a", []byte("0"))
		must(t, err)
		equal(t, key, "a")
		equal(t, first.VersionId, 0)
		equal(t, first.ModificationsCount, 0)
		equal(t, first.Ephemeral, false)
		if age := time.Since(time.UnixMilli(int64(first.CreatedTimestamp))); age < -time.Minute || age > time.Minute {
			t.Fatalf("created %s ago", age)
		}
		_, second, err := client.Put(ctx, "a", []byte("1"))
		must(t, err)
		equal(t, second.VersionId, 1)
		equal(t, second.ModificationsCount, 1)
		equal(t, second.CreatedTimestamp, first.CreatedTimestamp)

		key, value, version, err := client.Get(ctx, "a")
		must(t, err)
		equal(t, key, "a")
		equal(t, string(value), "1")
		equal(t, version, second)
		_, value, version, err = client.Get(ctx, "a", oxia.IncludeValue(false))
		must(t, err)
		equal(t, len(value), 0)
		equal(t, version, second)

		must(t, client.Delete(ctx, "a"))
		_, _, _, err = client.Get(ctx, "a")
		isError(t, err, oxia.ErrKeyNotFound)
		isError(t, client.Delete(ctx, "a"), oxia.ErrKeyNotFound)

		_, third, err := client.Put(ctx, "a", []byte("2"))
		must(t, err)
		equal(t, third.VersionId, 2)
		equal(t, third.ModificationsCount, 0)
	}, 1, 4)
}

func TestExpectedVersions(t *testing.T) {
	s := startServer(t, 1)
	ctx, client := testContext(t), s.syncClient()

	_, _, err := client.Put(ctx, "a", []byte("0"), oxia.ExpectedVersionId(1))
	isError(t, err, oxia.ErrUnexpectedVersionId)
	_, first, err := client.Put(ctx, "a", []byte("0"), oxia.ExpectedRecordNotExists())
	must(t, err)
	_, _, err = client.Put(ctx, "a", []byte("x"), oxia.ExpectedRecordNotExists())
	isError(t, err, oxia.ErrUnexpectedVersionId)
	_, second, err := client.Put(ctx, "a", []byte("1"), oxia.ExpectedVersionId(first.VersionId))
	must(t, err)
	_, _, err = client.Put(ctx, "a", []byte("x"), oxia.ExpectedVersionId(first.VersionId))
	isError(t, err, oxia.ErrUnexpectedVersionId)
	equal(t, second.VersionId, first.VersionId+1)

	isError(t, client.Delete(ctx, "a", oxia.ExpectedVersionId(first.VersionId)), oxia.ErrUnexpectedVersionId)
	isError(t, client.Delete(ctx, "a", oxia.ExpectedVersionId(oxia.VersionIdNotExists)), oxia.ErrUnexpectedVersionId)
	_, value, version, err := client.Get(ctx, "a")
	must(t, err)
	equal(t, string(value), "1")
	equal(t, version, second)
	must(t, client.Delete(ctx, "a", oxia.ExpectedVersionId(second.VersionId)))

	isError(t, client.Delete(ctx, "missing", oxia.ExpectedVersionId(oxia.VersionIdNotExists)), oxia.ErrKeyNotFound)
	isError(t, client.Delete(ctx, "missing", oxia.ExpectedVersionId(7)), oxia.ErrUnexpectedVersionId)
}

func TestCompareAndSwapHasOneWinner(t *testing.T) {
	s := startServer(t, 4)
	ctx, client := testContext(t), s.asyncClient()
	_ = ctx
	results := make([]<-chan oxia.PutResult, 100)
	for i := range results {
		results[i] = client.Put("lock", []byte(strconv.Itoa(i)), oxia.ExpectedRecordNotExists())
	}
	winners := 0
	for _, result := range results {
		if r := <-result; r.Err == nil {
			winners++
		} else {
			isError(t, r.Err, oxia.ErrUnexpectedVersionId)
		}
	}
	equal(t, winners, 1)
}

func TestListScanAndDeleteRange(t *testing.T) {
	onShards(t, func(t *testing.T, s *server, shards int) {
		ctx, client := testContext(t), s.syncClient()
		keys := []string{"a", "b", "c", "d", "e", "f"}
		for _, key := range keys {
			_, _, err := client.Put(ctx, key, []byte("value of "+key))
			must(t, err)
		}
		list := func(from, to string) []string {
			t.Helper()
			found, err := client.List(ctx, from, to)
			must(t, err)
			if shards > 1 {
				return sorted(found)
			}
			return found
		}
		equalKeys(t, list("b", "e"), []string{"b", "c", "d"})
		equalKeys(t, list("", ""), keys)
		equalKeys(t, list("", "c"), []string{"a", "b"})
		equalKeys(t, list("d", ""), []string{"d", "e", "f"})
		equalKeys(t, list("c", "c"), nil)
		equalKeys(t, list("e", "b"), nil)
		equalKeys(t, list("x", "z"), nil)

		records := scan(t, client.RangeScan(ctx, "b", "e"))
		equalKeys(t, sorted(keysOf(records)), []string{"b", "c", "d"})
		for _, record := range records {
			equal(t, string(record.Value), "value of "+record.Key)
		}
		equal(t, len(scan(t, client.RangeScan(ctx, "", ""))), 6)

		must(t, client.DeleteRange(ctx, "b", "e"))
		equalKeys(t, list("", ""), []string{"a", "e", "f"})
		must(t, client.DeleteRange(ctx, "b", "e"))
		equalKeys(t, list("", ""), []string{"a", "e", "f"})
		must(t, client.DeleteRange(ctx, "e", ""))
		equalKeys(t, list("", ""), []string{"a"})
	}, 1, 4)
}

func TestTwentyThousandRecordScan(t *testing.T) {
	onShards(t, func(t *testing.T, s *server, _ int) {
		client := s.asyncClient()
		keys := make([]string, 20_000)
		for i := range keys {
			keys[i] = fmt.Sprintf("record-%06d", i)
		}
		putAll(t, client, keys, keyBytes)
		records := scan(t, client.RangeScan(testContext(t), "", ""))
		equal(t, len(records), len(keys))
		for i, record := range records {
			equal(t, record.Key, keys[i])
			equal(t, string(record.Value), keys[i])
		}
		equal(t, len(scan(t, client.RangeScan(testContext(t), keys[5000], keys[15_000]))), 10_000)
	}, 1, 4)
}

func TestPartitionKeys(t *testing.T) {
	s := startServer(t, 4)
	ctx, client := testContext(t), s.syncClient()
	partition := oxia.PartitionKey("together")
	keys := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	for i, key := range keys {
		_, version, err := client.Put(ctx, key, []byte(key), partition)
		must(t, err)
		equal(t, version.VersionId, int64(i)) // one shard counts all of them
	}
	listed, err := client.List(ctx, "", "", partition)
	must(t, err)
	equalKeys(t, listed, keys)
	equalKeys(t, keysOf(scan(t, client.RangeScan(ctx, "b", "e", partition))), []string{"b", "c", "d"})
	_, value, _, err := client.Get(ctx, "c", partition)
	must(t, err)
	equal(t, string(value), "c")
	key, _, _, err := client.Get(ctx, "c", partition, oxia.ComparisonHigher())
	must(t, err)
	equal(t, key, "d")

	home := hash.Xxh332("together") >> 30
	for _, key := range keys {
		_, _, _, err := client.Get(ctx, key)
		if hash.Xxh332(key)>>30 == home {
			must(t, err)
		} else {
			isError(t, err, oxia.ErrKeyNotFound)
		}
	}
	must(t, client.Delete(ctx, "a", partition))
	must(t, client.DeleteRange(ctx, "b", "g", partition))
	listed, err = client.List(ctx, "", "")
	must(t, err)
	equalKeys(t, listed, []string{"g", "h"})
}

func TestComparisonsInHierarchicalOrder(t *testing.T) {
	s := startServer(t, 1)
	ctx, client := testContext(t), s.syncClient()
	putAll(t, s.asyncClient(), hierarchicalOrder, keyBytes)
	listed, err := client.List(ctx, "", "")
	must(t, err)
	equalKeys(t, listed, hierarchicalOrder)
	equalKeys(t, keysOf(scan(t, client.RangeScan(ctx, "", ""))), hierarchicalOrder)
	checkComparisons(ctx, t, client, hierarchicalOrder)

	key, value, _, err := client.Get(ctx, "/a/z", oxia.ComparisonFloor())
	must(t, err)
	equal(t, key, "/a/y")
	equal(t, string(value), "/a/y")
	for _, children := range []struct {
		from, to string
		keys     []string
	}{
		{"/a/", "/a//", []string{"/a/", "/a/x", "/a/y"}},
		{"/", "//", []string{"/", "/a", "/b"}},
		{"a/", "a//", []string{"a/", "a/b"}},
	} {
		listed, err := client.List(ctx, children.from, children.to)
		must(t, err)
		equalKeys(t, listed, children.keys)
	}
	must(t, client.DeleteRange(ctx, "/a/", "/a//"))
	listed, err = client.List(ctx, "/a/", "/b/x")
	must(t, err)
	equalKeys(t, listed, []string{"/a//"})
}

// checkComparisons looks at every key and its neighbours in the order given.
func checkComparisons(ctx context.Context, t *testing.T, client oxia.SyncClient, order []string) {
	t.Helper()
	look := func(key string, comparison oxia.GetOption, index int) {
		t.Helper()
		found, value, _, err := client.Get(ctx, key, comparison)
		if index < 0 || index >= len(order) {
			isError(t, err, oxia.ErrKeyNotFound)
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", key, err)
		}
		equal(t, found, order[index])
		equal(t, string(value), order[index])
	}
	for i, key := range order {
		look(key, oxia.ComparisonEqual(), i)
		look(key, oxia.ComparisonFloor(), i)
		look(key, oxia.ComparisonCeiling(), i)
		look(key, oxia.ComparisonLower(), i-1)
		look(key, oxia.ComparisonHigher(), i+1)
	}
}

func TestComparisonsOnFourShards(t *testing.T) {
	s := startServer(t, 4)
	ctx, client := testContext(t), s.syncClient()
	// No slashes: the client's merge order and the server's order agree.
	order := make([]string, 40)
	for i := range order {
		order[i] = fmt.Sprintf("key-%03d", i)
	}
	putAll(t, s.asyncClient(), order, keyBytes)
	checkComparisons(ctx, t, client, order)
	between := func(comparison oxia.GetOption, want string) {
		t.Helper()
		key, _, _, err := client.Get(ctx, "key-020-and-more", comparison)
		must(t, err)
		equal(t, key, want)
	}
	between(oxia.ComparisonFloor(), "key-020")
	between(oxia.ComparisonLower(), "key-020")
	between(oxia.ComparisonCeiling(), "key-021")
	between(oxia.ComparisonHigher(), "key-021")
	_, _, _, err := client.Get(ctx, "key-020-and-more", oxia.ComparisonEqual())
	isError(t, err, oxia.ErrKeyNotFound)
}

func TestNaturalSorting(t *testing.T) {
	s := startServer(t, 1, "--key-sorting", "natural")
	ctx, client := testContext(t), s.syncClient()
	order := sorted(hierarchicalOrder)
	putAll(t, s.asyncClient(), order, keyBytes)
	check := func() {
		t.Helper()
		listed, err := client.List(ctx, "", "")
		must(t, err)
		equalKeys(t, listed, order)
		checkComparisons(ctx, t, client, order)
		listed, err = client.List(ctx, "/a/", "/b")
		must(t, err)
		equalKeys(t, listed, []string{"/a/", "/a//", "/a/x", "/a/x/1", "/a/y"})
	}
	check()
	must(t, client.DeleteRange(ctx, "b", ""))
	listed, err := client.List(ctx, "", "")
	must(t, err)
	equalKeys(t, listed, order[:slices.Index(order, "b")])
}

func TestEmptyValueAndEmptyKey(t *testing.T) {
	s := startServer(t, 4)
	ctx, client := testContext(t), s.syncClient()
	for _, key := range []string{"empty", ""} {
		_, put, err := client.Put(ctx, key, nil)
		must(t, err)
		_, value, version, err := client.Get(ctx, key)
		must(t, err)
		equal(t, len(value), 0)
		equal(t, version, put)
	}
	listed, err := client.List(ctx, "", "")
	must(t, err)
	equalKeys(t, sorted(listed), []string{"", "empty"})
	for _, record := range scan(t, client.RangeScan(ctx, "", "")) {
		equal(t, len(record.Value), 0)
	}
}

// The Go client reads messages of at most 4 MiB, gRPC's default; a larger value is read back with a stub.
func TestFiveMebibyteValue(t *testing.T) {
	s := startServer(t, 1)
	ctx, client := testContext(t), s.syncClient()
	large := make([]byte, 5<<20)
	for i := range large {
		large[i] = byte(i * 31 >> 3)
	}
	if _, _, err := client.Put(ctx, "large", large); err != nil {
		t.Fatal(err)
	}
	read := func() {
		t.Helper()
		stream, err := s.stub().Read(ctx, &proto.ReadRequest{
			Shard: new(int64),
			Gets:  []*proto.GetRequest{{Key: "large", IncludeValue: true}},
		})
		must(t, err)
		response, err := stream.Recv()
		must(t, err)
		if !bytes.Equal(response.Gets[0].Value, large) {
			t.Fatal("the value differs")
		}
	}
	read()
	s.restart()
	read()

	medium := large[:3<<20]
	eventually(t, 30*time.Second, func(ctx context.Context) error {
		_, _, err := client.Put(ctx, "medium", medium)
		return err
	})
	_, value, _, err := client.Get(ctx, "medium")
	must(t, err)
	if !bytes.Equal(value, medium) {
		t.Fatal("the value differs")
	}
}

func TestUnicodeAndByteKeys(t *testing.T) {
	onShards(t, func(t *testing.T, s *server, _ int) {
		ctx, client := testContext(t), s.syncClient()
		keys := []string{
			"é", "e\u0301", "日本語/キー", "🦀", "\U0010ffff", "\x00", "a\x00b", " ", "%2F", "line\nbreak",
			"\xff", "\xff\xfe", "a\xc3", "\x80", "\xed\xa0\x80", "b\xff/c",
		}
		for _, key := range keys {
			stored, _, err := client.Put(ctx, key, []byte(key))
			must(t, err)
			equal(t, stored, key)
		}
		s.restart()
		eventually(t, 30*time.Second, func(ctx context.Context) error {
			_, _, _, err := client.Get(ctx, "é")
			return err
		})
		for _, key := range keys {
			_, value, _, err := client.Get(ctx, key)
			must(t, err)
			equal(t, string(value), key)
		}
		listed, err := client.List(ctx, "", "")
		must(t, err)
		equalKeys(t, sorted(listed), sorted(keys))
		for _, record := range scan(t, client.RangeScan(ctx, "", "")) {
			equal(t, string(record.Value), record.Key)
		}
		for _, key := range keys {
			must(t, client.Delete(ctx, key))
		}
		listed, err = client.List(ctx, "", "")
		must(t, err)
		equal(t, len(listed), 0)
	}, 1, 4)
}

func TestNamespaceNotFound(t *testing.T) {
	s := startServer(t, 1)
	client, err := oxia.NewSyncClient(s.address, oxia.WithNamespace("missing"), oxia.WithRequestTimeout(requestTimeout))
	if err == nil {
		_ = client.Close()
	}
	isError(t, err, constant.ErrNamespaceNotFound)

	_, _, err = s.syncClient(oxia.WithNamespace("default")).Put(testContext(t), "a", nil)
	must(t, err)
}

func TestReconnection(t *testing.T) {
	onShards(t, func(t *testing.T, s *server, _ int) {
		ctx, client := testContext(t), s.asyncClient()
		keys := make([]string, 500)
		for i := range keys {
			keys[i] = fmt.Sprintf("before-%d", i)
		}
		putAll(t, client, keys, keyBytes)
		address := s.address
		for round := range 2 {
			s.restart()
			equal(t, s.address, address)
			again := fmt.Sprintf("after-%d", round)
			eventually(t, 30*time.Second, func(context.Context) error { return (<-client.Put(again, []byte(again))).Err })
			eventually(t, 30*time.Second, func(context.Context) error { return (<-client.Get(again)).Err })
			for _, key := range keys {
				result := <-client.Get(key)
				must(t, result.Err)
				equal(t, string(result.Value), key)
			}
			equal(t, len(scan(t, client.RangeScan(ctx, "", ""))), len(keys)+round+1)
		}
	}, 1, 4)
}

// Every acknowledged write outlives SIGKILL while the client writes on.
func TestKillUnderLoad(t *testing.T) {
	s := startServer(t, 4)
	client := s.asyncClient()
	stop := make(chan struct{})
	acknowledged := make(chan string, 1<<20)
	progress := make(chan struct{}, 1)
	go func() {
		defer close(acknowledged)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			batch := make([]<-chan oxia.PutResult, 50)
			for j := range batch {
				key := fmt.Sprintf("load-%d-%d", i, j)
				batch[j] = client.Put(key, []byte(key))
			}
			for j, result := range batch {
				if r := <-result; r.Err == nil {
					acknowledged <- fmt.Sprintf("load-%d-%d", i, j)
				}
			}
			if i == 20 {
				progress <- struct{}{}
			}
		}
	}()
	<-progress
	s.kill()
	close(stop)
	s.start()
	reader := s.asyncClient()
	count := 0
	for key := range acknowledged {
		result := <-reader.Get(key)
		if result.Err != nil {
			t.Fatalf("acknowledged %q: %v", key, result.Err)
		}
		equal(t, string(result.Value), key)
		count++
	}
	if count < 1000 {
		t.Fatalf("only %d writes were acknowledged", count)
	}
}
