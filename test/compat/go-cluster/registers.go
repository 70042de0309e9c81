package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/oxia-db/oxia/oxia"
)

// Operations on a register.
const (
	opPut            = "put"
	opCompareAndSet  = "cas"
	opCreate         = "create"
	opDelete         = "delete"
	opDeleteExpected = "cas-delete"
	opGet            = "get"
)

// resolver gives the official client all servers to begin with, where a deployment has a load balancer.
type resolver struct{ addresses []string }

func (resolver) Scheme() string { return "all" }

func (r resolver) Resolve(_ string, updater oxia.AddressUpdater) { _ = updater(r.addresses) }

func officialClient(addresses []string, first int, timeout time.Duration) (oxia.SyncClient, error) {
	rotated := append(append([]string{}, addresses[first%len(addresses):]...), addresses[:first%len(addresses)]...)
	return oxia.NewSyncClient("all:///"+rotated[0],
		oxia.WithDialResolver(resolver{rotated}), oxia.WithNamespace(namespace), oxia.WithRequestTimeout(timeout))
}

// registerClient makes one operation after the other on a few keys that all clients share.
type registerClient struct {
	name    string
	client  oxia.SyncClient
	out     *recorder
	cluster *cluster
	keys    int
	pause   time.Duration
	random  *rand.Rand
	known   map[string]int64
	counter int
}

func (c *registerClient) run(ctx context.Context) {
	for ctx.Err() == nil {
		done := c.operate()
		pause := c.pause/2 + time.Duration(c.random.Int64N(int64(c.pause)))
		if done.Outcome == outcomeUnknown {
			pause += 100 * time.Millisecond // a server that is away fails calls at once: each would be in doubt for ever
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (c *registerClient) operate() event {
	c.counter++
	key := fmt.Sprintf("r/%d", c.random.IntN(c.keys))
	it := event{Kind: kindRegister, Client: c.name, Key: key, Shard: c.cluster.shardOf(key), Value: fmt.Sprintf("%s#%d", c.name, c.counter)}
	expected, known := c.known[key]
	switch draw := c.random.IntN(100); {
	case draw < 35:
		it.Op = opGet
		it.Value = ""
	case draw < 60:
		it.Op = opPut
	case draw < 85 && known:
		it.Op, it.Expected = opCompareAndSet, expected
	case draw < 91:
		it.Op = opCreate
	case draw < 96 && known:
		it.Op, it.Expected = opDeleteExpected, expected
	default:
		it.Op = opDelete
	}
	it.Start = now()
	version, err := c.call(&it)
	it.End = now()
	c.judged(&it, version, err)
	c.out.add(it)
	return it
}

func (c *registerClient) call(it *event) (oxia.Version, error) {
	ctx, value := context.Background(), []byte(it.Value)
	var version oxia.Version
	var err error
	switch it.Op {
	case opGet:
		var read []byte
		_, read, version, err = c.client.Get(ctx, it.Key)
		it.Value, it.Found = string(read), err == nil
	case opPut:
		_, version, err = c.client.Put(ctx, it.Key, value)
	case opCompareAndSet:
		_, version, err = c.client.Put(ctx, it.Key, value, oxia.ExpectedVersionId(it.Expected))
	case opCreate:
		_, version, err = c.client.Put(ctx, it.Key, value, oxia.ExpectedRecordNotExists())
	case opDelete:
		err = c.client.Delete(ctx, it.Key)
	case opDeleteExpected:
		err = c.client.Delete(ctx, it.Key, oxia.ExpectedVersionId(it.Expected))
	}
	return version, err
}

// judged fills in what the answer says.
func (c *registerClient) judged(it *event, version oxia.Version, err error) {
	switch {
	case err == nil:
		it.Outcome, it.Version, it.Count = outcomeOK, version.VersionId, version.ModificationsCount
		if it.Op == opDelete || it.Op == opDeleteExpected {
			delete(c.known, it.Key)
		} else {
			c.known[it.Key] = version.VersionId
		}
	case it.Op == opGet && errors.Is(err, oxia.ErrKeyNotFound):
		it.Outcome = outcomeOK
		delete(c.known, it.Key)
	case errors.Is(err, oxia.ErrUnexpectedVersionId) || errors.Is(err, oxia.ErrKeyNotFound):
		it.Outcome = outcomeRefused
		delete(c.known, it.Key)
	default:
		it.Outcome, it.Error = outcomeUnknown, err.Error()
	}
}

// notDone says that a failed operation of the official client cannot have taken effect: it took too short for a second
// attempt, and the first found nobody who listens, or was refused before anything was written.
func notDone(it event) bool {
	if mayBeRepeated(it) {
		return false
	}
	for _, text := range []string{"connection refused", "code = ResourceExhausted", "code = InvalidArgument"} {
		if strings.Contains(it.Error, text) {
			return true
		}
	}
	return false
}

// The official client waits at least half of 100 ms before it sends a request again.
const repeatedAfter = 45 * time.Millisecond

// mayBeRepeated says that the official client may have sent it more than once.
func mayBeRepeated(it event) bool {
	return !it.Raw && it.End-it.Start > int64(repeatedAfter)
}
