package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/oxia-db/oxia/common/constant"
	"github.com/oxia-db/oxia/common/hash"
	"github.com/oxia-db/oxia/common/proto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

const namespace = "default"

// cluster sends calls to servers of its own choice: each call once, so that it is known what was sent.
type cluster struct {
	addresses []string
	stubs     map[string]proto.OxiaClientClient
	shards    []*proto.ShardAssignment

	mutex  sync.Mutex
	leader map[int64]string
}

// connect waits until a server says which shards there are.
func connect(ctx context.Context, addresses []string) (*cluster, error) {
	c := &cluster{addresses: addresses, stubs: map[string]proto.OxiaClientClient{}, leader: map[int64]string{}}
	for _, address := range addresses {
		parameters := grpc.ConnectParams{Backoff: backoff.Config{
			BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: 200 * time.Millisecond,
		}, MinConnectTimeout: time.Second}
		connection, err := grpc.NewClient(address,
			grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithConnectParams(parameters))
		if err != nil {
			return nil, err
		}
		c.stubs[address] = proto.NewOxiaClientClient(connection)
	}
	for {
		for _, address := range addresses {
			if err := c.assigned(ctx, address); err == nil {
				return c, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no server says which shards there are: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c *cluster) assigned(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	stream, err := c.stubs[address].GetShardAssignments(ctx, &proto.ShardAssignmentsRequest{Namespace: namespace})
	if err != nil {
		return err
	}
	assignments, err := stream.Recv()
	if err != nil {
		return err
	}
	c.shards = assignments.Namespaces[namespace].GetAssignments()
	if len(c.shards) == 0 {
		return errors.New("no shards")
	}
	for _, shard := range c.shards {
		c.leader[shard.Shard] = shard.Leader
	}
	return nil
}

func (c *cluster) shardOf(key string) int64 {
	code := hash.Xxh332(key)
	for _, shard := range c.shards {
		bounds := shard.GetInt32HashRange()
		if code >= bounds.MinHashInclusive && code <= bounds.MaxHashInclusive {
			return shard.Shard
		}
	}
	panic("the shards do not cover all keys")
}

// onLeader makes one call to the server that is thought to lead the shard. When it fails another one is thought to.
func (c *cluster) onLeader(shard int64, timeout time.Duration, call func(context.Context, proto.OxiaClientClient) error) error {
	c.mutex.Lock()
	leader := c.leader[shard]
	c.mutex.Unlock()
	stub, ok := c.stubs[leader]
	if !ok {
		stub = c.stubs[c.addresses[0]]
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	err := call(ctx, stub)
	if err != nil {
		c.notLeader(shard, leader, err)
	}
	return err
}

func (c *cluster) notLeader(shard int64, asked string, err error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.leader[shard] != asked {
		return
	}
	_, details := constant.FromGrpcError(err)
	if _, hinted, ok := details.GetLeaderHint(); ok && c.stubs[hinted] != nil && hinted != asked {
		c.leader[shard] = hinted
		return
	}
	for index, address := range c.addresses {
		if address == asked {
			c.leader[shard] = c.addresses[(index+1)%len(c.addresses)]
			return
		}
	}
	c.leader[shard] = c.addresses[0]
}

func (c *cluster) put(shard int64, timeout time.Duration, put *proto.PutRequest) (*proto.PutResponse, error) {
	var response *proto.PutResponse
	err := c.onLeader(shard, timeout, func(ctx context.Context, stub proto.OxiaClientClient) error {
		written, err := stub.Write(ctx, &proto.WriteRequest{Shard: &shard, Puts: []*proto.PutRequest{put}})
		if err == nil {
			response = written.Puts[0]
		}
		return err
	})
	return response, err
}

func get(ctx context.Context, stub proto.OxiaClientClient, shard int64, key string) (*proto.GetResponse, error) {
	stream, err := stub.Read(ctx, &proto.ReadRequest{Shard: &shard, Gets: []*proto.GetRequest{{Key: key, IncludeValue: true}}})
	if err != nil {
		return nil, err
	}
	response, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	if len(response.Gets) != 1 {
		return nil, fmt.Errorf("%d answers to one get", len(response.Gets))
	}
	return response.Gets[0], nil
}

// list gives all keys of a shard from minimum on that are less than maximum, asked of its leader until there is an answer.
func (c *cluster) list(ctx context.Context, shard int64, minimum, maximum string) ([]string, error) {
	for {
		var keys []string
		err := c.onLeader(shard, 10*time.Second, func(ctx context.Context, stub proto.OxiaClientClient) error {
			stream, err := stub.List(ctx, &proto.ListRequest{Shard: &shard, StartInclusive: minimum, EndExclusive: maximum})
			for err == nil {
				var response *proto.ListResponse
				if response, err = stream.Recv(); err == nil {
					keys = append(keys, response.Keys...)
				}
			}
			if err == io.EOF {
				return nil
			}
			return err
		})
		if err == nil {
			return keys, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("shard %d cannot be listed: %w", shard, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
