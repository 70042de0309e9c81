package compat

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/oxia-db/oxia/common/hash"
	"github.com/oxia-db/oxia/common/proto"
	"github.com/oxia-db/oxia/common/proto/compat"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func pointer[T any](value T) *T { return &value }

func isStatus(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()
	got := status.Convert(err)
	if err == nil || got.Code() != code || !strings.Contains(got.Message(), text) {
		t.Fatalf("got %s %q, want %s %q", got.Code(), got.Message(), code, text)
	}
}

func isReason(t *testing.T, err error, code codes.Code, reason string) {
	t.Helper()
	isStatus(t, err, code, "")
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			equal(t, info.Reason, reason)
			equal(t, info.Domain, "oxia.io")
			return
		}
	}
	t.Fatalf("no ErrorInfo in %v", err)
}

type receiver[T any] interface{ Recv() (T, error) }

// drain gives what a stream sends and the error it ends with, nil for OK.
func drain[T any](stream receiver[T], err error) ([]T, error) {
	var messages []T
	for err == nil {
		var message T
		if message, err = stream.Recv(); err == nil {
			messages = append(messages, message)
		}
	}
	if err == io.EOF {
		err = nil
	}
	return messages, err
}

func put(key string) *proto.PutRequest {
	return &proto.PutRequest{Key: key, Value: []byte(key)}
}

func onShard0(puts ...*proto.PutRequest) *proto.WriteRequest {
	return &proto.WriteRequest{Shard: pointer[int64](0), Puts: puts}
}

func TestRawShardIsRequired(t *testing.T) {
	s := startServer(t, 1)
	ctx, stub := testContext(t), s.stub()
	const text = "shard id is required"
	_, err := stub.Write(ctx, &proto.WriteRequest{Puts: []*proto.PutRequest{put("a")}})
	isStatus(t, err, codes.InvalidArgument, text)
	reads, err := stub.Read(ctx, &proto.ReadRequest{Gets: []*proto.GetRequest{{Key: "a"}}})
	_, err = drain[*proto.ReadResponse](reads, err)
	isStatus(t, err, codes.InvalidArgument, text)
	lists, err := stub.List(ctx, &proto.ListRequest{})
	_, err = drain[*proto.ListResponse](lists, err)
	isStatus(t, err, codes.InvalidArgument, text)
	scans, err := stub.RangeScan(ctx, &proto.RangeScanRequest{})
	_, err = drain[*proto.RangeScanResponse](scans, err)
	isStatus(t, err, codes.InvalidArgument, text)
}

func TestRawUnknownShard(t *testing.T) {
	s := startServer(t, 1)
	ctx, stub := testContext(t), s.stub()
	const reason = "NODE_IS_NOT_LEADER"
	for _, shard := range []int64{1, 99, -1} {
		_, err := stub.Write(ctx, &proto.WriteRequest{Shard: &shard, Puts: []*proto.PutRequest{put("a")}})
		isReason(t, err, codes.Aborted, reason)
		reads, err := stub.Read(ctx, &proto.ReadRequest{Shard: &shard, Gets: []*proto.GetRequest{{Key: "a"}}})
		_, err = drain[*proto.ReadResponse](reads, err)
		isReason(t, err, codes.Aborted, reason)
		lists, err := stub.List(ctx, &proto.ListRequest{Shard: &shard})
		_, err = drain[*proto.ListResponse](lists, err)
		isReason(t, err, codes.Aborted, reason)
		scans, err := stub.RangeScan(ctx, &proto.RangeScanRequest{Shard: &shard})
		_, err = drain[*proto.RangeScanResponse](scans, err)
		isReason(t, err, codes.Aborted, reason)
	}
	stream, err := stub.WriteStream(metadata.AppendToOutgoingContext(ctx, "namespace", "default", "shard-id", "99"))
	must(t, err)
	_ = stream.Send(&proto.WriteRequest{Puts: []*proto.PutRequest{put("a")}})
	_, err = stream.Recv()
	isReason(t, err, codes.Aborted, reason)
}

func TestRawWriteStreamHeaders(t *testing.T) {
	s := startServer(t, 1)
	ctx, stub := testContext(t), s.stub()
	for _, wrong := range []struct {
		name    string
		headers []string
		text    string
	}{
		{"none", nil, "Request must include"},
		{"no shard", []string{"namespace", "default"}, "Request must include 'shard-id' metadata field"},
		{"no namespace", []string{"shard-id", "0"}, "'namespace'"},
		{"two shards", []string{"namespace", "default", "shard-id", "0", "shard-id", "0"}, "only once"},
		{"not a number", []string{"namespace", "default", "shard-id", "zero"}, "expected integer"},
	} {
		t.Run(wrong.name, func(t *testing.T) {
			stream, err := stub.WriteStream(metadata.AppendToOutgoingContext(ctx, wrong.headers...))
			must(t, err)
			_ = stream.Send(&proto.WriteRequest{Puts: []*proto.PutRequest{put("a")}})
			_, err = stream.Recv()
			isStatus(t, err, codes.Unknown, wrong.text)
		})
	}
}

func TestRawWriteStreamAnswersInOrder(t *testing.T) {
	s := startServer(t, 4)
	ctx, stub := testContext(t), s.stub()
	stream, err := stub.WriteStream(metadata.AppendToOutgoingContext(ctx, "namespace", "default", "shard-id", "2"))
	must(t, err)
	const count = 3000 // more than may be in flight
	sent := make(chan error, 1)
	go func() {
		for range count {
			// The shard in the body is ignored.
			if err := stream.Send(&proto.WriteRequest{Shard: pointer[int64](1), Puts: []*proto.PutRequest{put("a")}}); err != nil {
				sent <- err
				return
			}
		}
		sent <- stream.CloseSend() // answers still pending must arrive
	}()
	answers, err := drain[*proto.WriteResponse](stream, nil)
	must(t, err)
	must(t, <-sent)
	equal(t, len(answers), count)
	for i, answer := range answers {
		equal(t, answer.Puts[0].Status, proto.Status_OK)
		equal(t, answer.Puts[0].Version.VersionId, int64(i))
	}
	lists, err := stub.List(ctx, &proto.ListRequest{Shard: pointer[int64](2)})
	keys, err := drain[*proto.ListResponse](lists, err)
	must(t, err)
	equalKeys(t, keys[0].Keys, []string{"a"})
}

func TestRawRequestOrderAndStatuses(t *testing.T) {
	s := startServer(t, 1)
	ctx, stub := testContext(t), s.stub()
	refused := put("a")
	refused.ExpectedVersionId = pointer[int64](77)
	response, err := stub.Write(ctx, &proto.WriteRequest{
		Shard:        pointer[int64](0),
		Puts:         []*proto.PutRequest{put("a"), put("b"), refused, put("a"), put("c")},
		Deletes:      []*proto.DeleteRequest{{Key: "b"}, {Key: "b"}, {Key: "a", ExpectedVersionId: pointer[int64](0)}},
		DeleteRanges: []*proto.DeleteRangeRequest{{StartInclusive: "c", EndExclusive: "d"}},
	})
	must(t, err)
	var statuses []proto.Status
	for _, p := range response.Puts {
		statuses = append(statuses, p.Status)
		if p.Key != nil {
			t.Fatalf("key %q in an ordinary put's answer", *p.Key)
		}
	}
	for _, d := range response.Deletes {
		statuses = append(statuses, d.Status)
	}
	for _, d := range response.DeleteRanges {
		statuses = append(statuses, d.Status)
	}
	want := []proto.Status{
		proto.Status_OK, proto.Status_OK, proto.Status_UNEXPECTED_VERSION_ID, proto.Status_OK, proto.Status_OK,
		proto.Status_OK, proto.Status_KEY_NOT_FOUND, proto.Status_UNEXPECTED_VERSION_ID, proto.Status_OK,
	}
	if !slices.Equal(statuses, want) {
		t.Fatalf("got %v, want %v", statuses, want)
	}
	equal(t, response.Puts[3].Version.VersionId, 2)
	equal(t, response.Puts[3].Version.ModificationsCount, 1)
	equal(t, response.Puts[4].Version.VersionId, 3)
	equal(t, response.Puts[0].Version.ModifiedTimestamp, response.Puts[4].Version.ModifiedTimestamp)

	reads, err := stub.Read(ctx, &proto.ReadRequest{Shard: pointer[int64](0), Gets: []*proto.GetRequest{
		{Key: "a", IncludeValue: true}, {Key: "b"}, {Key: "a"}, {Key: "0", ComparisonType: proto.KeyComparisonType_HIGHER},
	}})
	messages, err := drain[*proto.ReadResponse](reads, err)
	must(t, err)
	equal(t, len(messages), 1)
	gets := messages[0].Gets
	equal(t, len(gets), 4)
	equal(t, string(gets[0].Value), "a")
	equal(t, gets[0].Key == nil, true)
	equal(t, gets[1].Status, proto.Status_KEY_NOT_FOUND)
	equal(t, gets[1].Version == nil, true)
	equal(t, gets[2].Value == nil, true)
	equal(t, gets[3].GetKey(), "a")

	empty, err := stub.Write(ctx, &proto.WriteRequest{Shard: pointer[int64](0)})
	must(t, err)
	equal(t, len(empty.Puts)+len(empty.Deletes)+len(empty.DeleteRanges), 0)
	reads, err = stub.Read(ctx, &proto.ReadRequest{Shard: pointer[int64](0)})
	messages, err = drain[*proto.ReadResponse](reads, err)
	must(t, err)
	equal(t, len(messages), 0)
}

func TestRawOverrides(t *testing.T) {
	s := startServer(t, 1)
	ctx, stub := testContext(t), s.stub()
	write := func(request *proto.PutRequest) *proto.Version {
		t.Helper()
		response, err := stub.Write(ctx, onShard0(request))
		must(t, err)
		equal(t, response.Puts[0].Status, proto.Status_OK)
		return response.Puts[0].Version
	}
	equal(t, write(put("a")).VersionId, 0)

	both := put("a")
	both.OverrideVersionId, both.OverrideModificationsCount = pointer[int64](1000), pointer[int64](50)
	version := write(both)
	equal(t, version.VersionId, 1000)
	equal(t, version.ModificationsCount, 50)

	version = write(put("a")) // the counter neither advanced nor jumped
	equal(t, version.VersionId, 1)
	equal(t, version.ModificationsCount, 51)

	id := put("b")
	id.OverrideVersionId = pointer[int64](7)
	version = write(id)
	equal(t, version.VersionId, 7)
	equal(t, version.ModificationsCount, 0)

	count := put("b")
	count.OverrideModificationsCount = pointer[int64](9)
	version = write(count)
	equal(t, version.VersionId, 2)
	equal(t, version.ModificationsCount, 9)

	s.restart()
	equal(t, write(put("c")).VersionId, 3)
}

func TestRawInternalKeys(t *testing.T) {
	s := startServer(t, 1)
	ctx, stub := testContext(t), s.stub()
	_, err := stub.Write(ctx, onShard0(put("a"), put("z/z/z/z")))
	must(t, err)
	list := func(internal bool) []string {
		t.Helper()
		stream, err := stub.List(ctx, &proto.ListRequest{Shard: pointer[int64](0), IncludeInternalKeys: internal})
		messages, err := drain[*proto.ListResponse](stream, err)
		must(t, err)
		var keys []string
		for _, message := range messages {
			keys = append(keys, message.Keys...)
		}
		return keys
	}
	equalKeys(t, list(false), []string{"a", "z/z/z/z"})
	all := list(true)
	equalKeys(t, all[:2], []string{"a", "z/z/z/z"})
	for _, key := range all[2:] {
		if !strings.HasPrefix(key, "__oxia/") {
			t.Fatalf("%q follows the internal keys", key)
		}
	}
	for _, key := range []string{"__oxia/commit-offset", "__oxia/last-version-id", "__oxia/term"} {
		if !slices.Contains(all, key) {
			t.Fatalf("no %q in %q", key, all)
		}
	}
	scans, err := stub.RangeScan(ctx, &proto.RangeScanRequest{Shard: pointer[int64](0), IncludeInternalKeys: true})
	records, err := drain[*proto.RangeScanResponse](scans, err)
	must(t, err)
	values := map[string]string{}
	for _, message := range records {
		for _, record := range message.Records {
			values[record.GetKey()] = string(record.Value)
			if record.GetKey() == "__oxia/term" {
				equal(t, record.Version.VersionId, -1)
			}
		}
	}
	equal(t, values["a"], "a")
	equal(t, values["__oxia/last-version-id"], "1")

	get := func(key string, comparison proto.KeyComparisonType) *proto.GetResponse {
		t.Helper()
		stream, err := stub.Read(ctx, &proto.ReadRequest{Shard: pointer[int64](0), Gets: []*proto.GetRequest{
			{Key: key, ComparisonType: comparison, IncludeValue: true},
		}})
		messages, err := drain[*proto.ReadResponse](stream, err)
		must(t, err)
		return messages[0].Gets[0]
	}
	equal(t, get("__oxia/term", proto.KeyComparisonType_EQUAL).Status, proto.Status_OK)
	equal(t, get("z/z/z/z", proto.KeyComparisonType_HIGHER).Status, proto.Status_KEY_NOT_FOUND)
	equal(t, get("__oxia/term", proto.KeyComparisonType_LOWER).GetKey(), "z/z/z/z")
	equal(t, get("__oxia/a", proto.KeyComparisonType_CEILING).Status, proto.Status_KEY_NOT_FOUND)

	_, err = stub.Write(ctx, onShard0(put("b"), put("__oxia/term")))
	isStatus(t, err, codes.InvalidArgument, "")
	_, err = stub.Write(ctx, &proto.WriteRequest{Shard: pointer[int64](0), Deletes: []*proto.DeleteRequest{{Key: "__oxia/term"}}})
	isStatus(t, err, codes.InvalidArgument, "")
	stream, err := stub.WriteStream(metadata.AppendToOutgoingContext(ctx, "namespace", "default", "shard-id", "0"))
	must(t, err)
	_ = stream.Send(&proto.WriteRequest{Puts: []*proto.PutRequest{put("__oxia/x")}})
	_, err = stream.Recv()
	isStatus(t, err, codes.InvalidArgument, "")
	equalKeys(t, list(false), []string{"a", "z/z/z/z"})
	equalKeys(t, list(true), all)
}

func TestRawUnknownComparison(t *testing.T) {
	s := startServer(t, 1)
	ctx, stub := testContext(t), s.stub()
	stream, err := stub.Read(ctx, &proto.ReadRequest{Shard: pointer[int64](0), Gets: []*proto.GetRequest{{Key: "a", ComparisonType: 17}}})
	_, err = drain[*proto.ReadResponse](stream, err)
	isStatus(t, err, codes.InvalidArgument, "")
	_, err = stub.Write(ctx, onShard0(put("a"))) // still alive
	must(t, err)
}

func TestRawAssignments(t *testing.T) {
	onShards(t, func(t *testing.T, s *server, shards int) {
		ctx, stub := testContext(t), s.stub()
		for _, namespace := range []string{"", "default"} {
			stream, err := stub.GetShardAssignments(ctx, &proto.ShardAssignmentsRequest{Namespace: namespace})
			must(t, err)
			message, err := stream.Recv()
			must(t, err)
			equal(t, len(message.Namespaces), 1)
			equal(t, len(message.AllowedAuthorities), 0)
			assigned := message.Namespaces["default"]
			equal(t, assigned.ShardKeyRouter, proto.ShardKeyRouter_XXHASH3)
			equal(t, len(assigned.Assignments), shards)
			list := slices.Clone(assigned.Assignments)
			slices.SortFunc(list, func(a, b *proto.ShardAssignment) int { return int(a.Shard - b.Shard) })
			bucket := uint64(0xFFFFFFFF)/uint64(shards) + 1
			for i, shard := range list {
				equal(t, shard.Shard, int64(i))
				equal(t, shard.Leader, s.address)
				equal(t, uint64(shard.GetInt32HashRange().MinHashInclusive), uint64(i)*bucket)
				equal(t, uint64(shard.GetInt32HashRange().MaxHashInclusive), min(uint64(i+1)*bucket-1, 0xFFFFFFFF))
			}
		}
		stream, err := stub.GetShardAssignments(ctx, &proto.ShardAssignmentsRequest{Namespace: "missing"})
		_, err = drain[*proto.ShardAssignments](stream, err)
		isReason(t, err, codes.NotFound, "NAMESPACE_NOT_FOUND")
	}, 1, 3, 4)
	equal(t, hash.Xxh332("é"), 1827736755)
}

func TestHealth(t *testing.T) {
	s := startServer(t, 1)
	ctx, health := testContext(t), grpc_health_v1.NewHealthClient(s.connection())
	const serving = grpc_health_v1.HealthCheckResponse_SERVING
	for _, service := range []string{"", "oxia-readiness"} {
		checked, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
		must(t, err)
		equal(t, checked.Status, serving)
		watching, cancel := context.WithCancel(ctx)
		watch, err := health.Watch(watching, &grpc_health_v1.HealthCheckRequest{Service: service})
		must(t, err)
		watched, err := watch.Recv()
		must(t, err)
		equal(t, watched.Status, serving)
		cancel()
		_, err = watch.Recv()
		isStatus(t, err, codes.Canceled, "")
	}
	listed, err := health.List(ctx, &grpc_health_v1.HealthListRequest{})
	must(t, err)
	for _, service := range []string{"", "oxia-readiness"} {
		if listed.Statuses[service] == nil || listed.Statuses[service].Status != serving {
			t.Fatalf("%q is %v", service, listed.Statuses[service])
		}
	}
	_, err = health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "other"})
	isStatus(t, err, codes.NotFound, "")
	// The health protocol: Watch answers SERVICE_UNKNOWN for a name it does not know and stays open.
	watch, err := health.Watch(ctx, &grpc_health_v1.HealthCheckRequest{Service: "other"})
	must(t, err)
	watched, err := watch.Recv()
	if err == nil {
		equal(t, watched.Status, grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN)
	} else {
		isStatus(t, err, codes.NotFound, "")
	}
}

func TestLegacyServiceName(t *testing.T) {
	s := startServer(t, 1)
	ctx := testContext(t)
	legacy := compat.NewOxiaClientClient(s.connection())
	written, err := legacy.Write(ctx, onShard0(put("a")))
	must(t, err)
	equal(t, written.Puts[0].Status, proto.Status_OK)
	stream, err := legacy.Read(ctx, &proto.ReadRequest{Shard: pointer[int64](0), Gets: []*proto.GetRequest{{Key: "a", IncludeValue: true}}})
	messages, err := drain[*proto.ReadResponse](stream, err)
	must(t, err)
	equal(t, string(messages[0].Gets[0].Value), "a")
	lists, err := legacy.List(ctx, &proto.ListRequest{Shard: pointer[int64](0)})
	keys, err := drain[*proto.ListResponse](lists, err)
	must(t, err)
	equalKeys(t, keys[0].Keys, []string{"a"})
}
