package compat

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oxia-db/oxia/common/compare"
	"github.com/oxia-db/oxia/oxia"
)

// indexModel is the slow and obvious implementation that the server's indexes are compared with.
type indexModel struct {
	order   func(a, b string) int
	shards  int
	records map[string]indexedRecord
}

type indexedRecord struct {
	value   string
	version int64
	entries [][2]string // name of the index, secondary key
}

type indexEntry struct{ secondary, primary string }

func natural(a, b string) int { return strings.Compare(a, b) }

// hierarchical is the server's order: number of slashes, then the bytes with a slash as 0xFF.
func hierarchical(a, b string) int {
	return cmp.Or(
		cmp.Compare(slashes(a), slashes(b)),
		bytes.Compare(bytes.ReplaceAll([]byte(a), []byte("/"), []byte{0xFF}), bytes.ReplaceAll([]byte(b), []byte("/"), []byte{0xFF})),
	)
}

func slashes(key string) int {
	count := strings.Count(key, "/")
	if len(key) > 1 && strings.HasSuffix(key, "//") {
		count--
	}
	return count
}

// entries gives one shard's part of an index, in order.
func (m *indexModel) entries(index string, shard int) []indexEntry {
	set := map[indexEntry]bool{}
	for key, record := range m.records {
		for _, entry := range record.entries {
			if entry[0] == index && shardOf(key, m.shards) == shard {
				set[indexEntry{entry[1], key}] = true
			}
		}
	}
	var found []indexEntry
	for entry := range set {
		found = append(found, entry)
	}
	slices.SortFunc(found, func(a, b indexEntry) int {
		return cmp.Or(m.order(a.secondary, b.secondary), strings.Compare(url.PathEscape(a.primary), url.PathEscape(b.primary)))
	})
	return found
}

func (m *indexModel) list(index string, shard int, start, end string) []string {
	var keys []string
	for _, entry := range m.entries(index, shard) {
		if m.order(entry.secondary, start) >= 0 && m.order(entry.secondary, end) < 0 {
			keys = append(keys, entry.primary)
		}
	}
	return keys
}

const (
	equalTo = iota
	floor
	ceiling
	lower
	higher
)

var comparisons = []oxia.GetOption{
	equalTo: oxia.ComparisonEqual(), floor: oxia.ComparisonFloor(), ceiling: oxia.ComparisonCeiling(),
	lower: oxia.ComparisonLower(), higher: oxia.ComparisonHigher(),
}

// get gives one shard's answer, nil for none.
func (m *indexModel) get(index string, shard int, key string, comparison int) *indexEntry {
	var found *indexEntry
	for _, entry := range m.entries(index, shard) {
		order := m.order(entry.secondary, key)
		switch {
		case order == 0 && comparison <= ceiling, order > 0 && (comparison == ceiling || comparison == higher):
			return &entry
		case order < 0 && (comparison == floor || comparison == lower):
			found = &entry // the last one stands
		}
	}
	return found
}

// getAll gives what the client picks from the answers of all shards: for EQUAL it may be any of them.
func (m *indexModel) getAll(index, key string, comparison int) []string {
	var found []indexEntry
	for shard := range m.shards {
		if entry := m.get(index, shard, key, comparison); entry != nil {
			found = append(found, *entry)
		}
	}
	slices.SortFunc(found, func(a, b indexEntry) int {
		return cmp.Or(
			compare.CompareWithSlash([]byte(a.secondary), []byte(b.secondary)),
			compare.CompareWithSlash([]byte(a.primary), []byte(b.primary)),
		)
	})
	var keys []string
	for _, entry := range found {
		keys = append(keys, entry.primary)
	}
	switch {
	case len(keys) == 0 || comparison == equalTo:
		return keys
	case comparison == floor || comparison == lower:
		return keys[len(keys)-1:]
	default:
		return keys[:1]
	}
}

var (
	indexNames    = []string{"by-name", "by-names", "other"}
	secondaryKeys = []string{"a", "b", "c", "bb", "é", "~", "a/z", "b/x", "/a", "/a/1", "/a/2", "/b/1", "a%2Fz"}
	indexBounds   = append([]string{"0", "bc", "zz", "\U0010ffff", "/", "//", "/a/", "/a//", "/a/15", "/c/", "a/zz", "z/"}, secondaryKeys...)
)

func pick[T any](random *rand.Rand, from []T) T { return from[random.Intn(len(from))] }

// indexRun makes random changes and asks random questions of the server and of the model.
type indexRun struct {
	*indexModel
	t      *testing.T
	random *rand.Rand
	homes  []oxia.BaseOption // a partition key for each shard
}

func newIndexRun(t *testing.T, shards int, order func(a, b string) int) *indexRun {
	t.Helper()
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	run := &indexRun{
		indexModel: &indexModel{order: order, shards: shards, records: map[string]indexedRecord{}},
		t:          t, random: rand.New(rand.NewSource(seed)),
	}
	for shard := range shards {
		run.homes = append(run.homes, oxia.PartitionKey(keyOn(shard, shards, "partition-")))
	}
	return run
}

func (r *indexRun) key() string {
	return fmt.Sprintf("key%s%02d", pick(r.random, []string{"-", "/"}), r.random.Intn(25))
}

func (r *indexRun) change(client oxia.SyncClient) {
	r.t.Helper()
	ctx, key := testContext(r.t), r.key()
	switch r.random.Intn(12) {
	case 0, 1, 2:
		err := client.Delete(ctx, key)
		if _, exists := r.records[key]; exists {
			must(r.t, err)
			delete(r.records, key)
		} else {
			isError(r.t, err, oxia.ErrKeyNotFound)
		}
	case 3:
		start := fmt.Sprintf("key-%02d", r.random.Intn(25))
		end := fmt.Sprintf("%s-", start)
		must(r.t, client.DeleteRange(ctx, start, end))
		for found := range r.records {
			if r.order(found, start) >= 0 && r.order(found, end) < 0 {
				delete(r.records, found)
			}
		}
	default:
		record := indexedRecord{value: fmt.Sprint(r.random.Int63())}
		var options []oxia.PutOption
		for range r.random.Intn(4) {
			entry := [2]string{pick(r.random, indexNames), pick(r.random, secondaryKeys)}
			record.entries = append(record.entries, entry)
			options = append(options, oxia.SecondaryIndex(entry[0], entry[1]))
		}
		_, version, err := client.Put(ctx, key, []byte(record.value), options...)
		must(r.t, err)
		record.version = version.VersionId
		r.records[key] = record
	}
}

// sameRecords compares the records of a scan with the model's.
func (r *indexRun) sameRecords(found []oxia.GetResult) {
	r.t.Helper()
	for _, record := range found {
		r.sameRecord(record.Key, record.Value, record.Version)
	}
}

func (r *indexRun) sameRecord(key string, value []byte, version oxia.Version) {
	r.t.Helper()
	equal(r.t, string(value), r.records[key].value)
	equal(r.t, version.VersionId, r.records[key].version)
}

func (r *indexRun) ask(client oxia.SyncClient) {
	r.t.Helper()
	ctx, index := testContext(r.t), pick(r.random, indexNames)
	use, start, end := oxia.UseIndex(index), pick(r.random, indexBounds), pick(r.random, indexBounds)
	question := fmt.Sprintf("index %s from %q to %q", index, start, end)

	var all []string
	shard := r.random.Intn(r.shards)
	for i := range r.shards {
		all = append(all, r.list(index, i, start, end)...)
	}
	listed, err := client.List(ctx, start, end, use, r.homes[shard])
	must(r.t, err)
	r.same(question, listed, r.list(index, shard, start, end))
	listed, err = client.List(ctx, start, end, use)
	must(r.t, err)
	r.same(question, sorted(listed), sorted(all))
	records := scan(r.t, client.RangeScan(ctx, start, end, use, r.homes[shard]))
	r.same(question, keysOf(records), r.list(index, shard, start, end))
	r.sameRecords(records)
	records = scan(r.t, client.RangeScan(ctx, start, end, use))
	r.same(question, sorted(keysOf(records)), sorted(all))
	r.sameRecords(records)

	for comparison, option := range comparisons {
		question := fmt.Sprintf("comparison %d of index %s with %q", comparison, index, start)
		var want []string
		if entry := r.get(index, shard, start, comparison); entry != nil {
			want = []string{entry.primary}
		}
		r.found(question, client, start, want, use, option, r.homes[shard])
		r.found(question, client, start, r.getAll(index, start, comparison), use, option)
	}
}

// found asks for one record, which is one of those wanted; none if none is.
func (r *indexRun) found(question string, client oxia.SyncClient, key string, want []string, options ...oxia.GetOption) {
	r.t.Helper()
	got, value, version, err := client.Get(testContext(r.t), key, options...)
	if len(want) == 0 {
		isError(r.t, err, oxia.ErrKeyNotFound)
		return
	}
	if err != nil || !slices.Contains(want, got) {
		r.t.Fatalf("%s: got %q and %v, want one of %q", question, got, err, want)
	}
	r.sameRecord(got, value, version)
}

func (r *indexRun) same(question string, got, want []string) {
	r.t.Helper()
	if !slices.Equal(got, want) {
		r.t.Fatalf("%s\ngot  %q\nwant %q", question, got, want)
	}
}

func TestIndexesAnswerAsTheModel(t *testing.T) {
	for _, on := range []struct {
		sorting string
		shards  int
		order   func(a, b string) int
	}{{"hierarchical", 1, hierarchical}, {"hierarchical", 4, hierarchical}, {"natural", 1, natural}} {
		t.Run(fmt.Sprintf("%s-%d-shards", on.sorting, on.shards), func(t *testing.T) {
			s := startServer(t, on.shards, "--key-sorting", on.sorting)
			run, client := newIndexRun(t, on.shards, on.order), s.syncClient()
			for range 300 {
				run.change(client)
				run.ask(client)
			}
			s.restart()
			client = s.syncClient()
			for range 50 {
				run.ask(client)
				run.change(client)
			}
		})
	}
}

// Empty bounds reach to the ends of an index; the reference finds nothing below an empty end.
func TestIndexBoundsMayBeEmpty(t *testing.T) {
	s := startServer(t, 1)
	ctx, client := testContext(t), s.syncClient()
	for i, secondary := range []string{"a", "b", "~", "x/y", "/a/b/c"} {
		_, _, err := client.Put(ctx, fmt.Sprint(i), nil, oxia.SecondaryIndex("m", secondary))
		must(t, err)
		for _, neighbour := range []string{"l", "m0", "n"} {
			_, _, err := client.Put(ctx, neighbour+fmt.Sprint(i), nil, oxia.SecondaryIndex(neighbour, secondary))
			must(t, err)
		}
	}
	for _, bounds := range []struct {
		start, end string
		keys       []string
	}{
		{"", "", []string{"0", "1", "2", "3", "4"}},
		{"b", "", []string{"1", "2", "3", "4"}},
		{"", "b", []string{"0"}},
		{"//////", "", nil},
		{"", "//////", []string{"0", "1", "2", "3", "4"}},
	} {
		listed, err := client.List(ctx, bounds.start, bounds.end, oxia.UseIndex("m"))
		must(t, err)
		equalKeys(t, listed, bounds.keys)
		equalKeys(t, keysOf(scan(t, client.RangeScan(ctx, bounds.start, bounds.end, oxia.UseIndex("m")))), bounds.keys)
	}
	listed, err := client.List(ctx, "a", "z", oxia.UseIndex("none of this name"))
	must(t, err)
	equalKeys(t, listed, nil)
}
