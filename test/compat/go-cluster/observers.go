package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/oxia-db/oxia/common/proto"
	"github.com/oxia-db/oxia/oxia"
)

const (
	pulseTimeout     = time.Second
	pulsesInFlight   = 32
	probeTimeout     = 40 * time.Second
	probesInFlight   = 512
	heartbeatPause   = 400 * time.Millisecond
	observationPause = 200 * time.Millisecond
)

// pulse writes a key that nobody wrote before again and again, without waiting for the answers, to the shard's leader.
// What was acknowledged has to be there in the end, and the pause between acknowledgements is the shard's write gap.
func pulse(ctx context.Context, c *cluster, out *recorder, name string, shard int64, pause time.Duration) {
	var inFlight atomic.Int32
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		if inFlight.Load() < pulsesInFlight {
			inFlight.Add(1)
			go func() {
				defer inFlight.Add(-1)
				writeLedger(c, out, shard, fmt.Sprintf("l/%s/%d/%d", name, shard, n))
			}()
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
	for inFlight.Load() > 0 {
		time.Sleep(10 * time.Millisecond)
	}
}

func writeLedger(c *cluster, out *recorder, shard int64, key string) bool {
	it := event{Kind: kindLedger, Op: opPut, Shard: shard, Key: key, Raw: true, Start: now()}
	response, err := c.put(shard, pulseTimeout, &proto.PutRequest{Key: key, Value: []byte(key)})
	it.End = now()
	switch {
	case err != nil:
		it.Outcome, it.Error = outcomeUnknown, err.Error()
	case response.Status != proto.Status_OK:
		it.Outcome, it.Error = outcomeUnknown, response.Status.String()
	default:
		it.Outcome, it.Version = outcomeOK, response.Version.VersionId
	}
	out.add(it)
	return it.Outcome == outcomeOK
}

// probe reads registers from one server, whether it leads or not, without waiting for the answers: those that a server
// was sent while it was stopped or cut off are answered when it comes back, and must not be old.
func probe(ctx context.Context, c *cluster, out *recorder, address string, keys int, pause time.Duration) {
	var inFlight atomic.Int32
	random := rand.New(rand.NewPCG(rand.Uint64(), 1))
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for ctx.Err() == nil {
		if inFlight.Load() < probesInFlight {
			inFlight.Add(1)
			key := fmt.Sprintf("r/%d", random.IntN(keys))
			go func() {
				defer inFlight.Add(-1)
				probeOnce(ctx, c, out, address, key)
			}()
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
	for inFlight.Load() > 0 {
		time.Sleep(10 * time.Millisecond)
	}
}

func probeOnce(running context.Context, c *cluster, out *recorder, address, key string) {
	ctx, cancel := context.WithTimeout(running, probeTimeout)
	defer cancel()
	shard := c.shardOf(key)
	it := event{Kind: kindRegister, Op: opGet, Client: "probe of " + address, Shard: shard, Key: key, Raw: true, Start: now()}
	response, err := get(ctx, c.stubs[address], shard, key)
	it.End = now()
	if err != nil {
		return // a refusal tells nothing of the register
	}
	it.Outcome = outcomeOK
	switch response.Status {
	case proto.Status_OK:
		it.Found, it.Value, it.Version, it.Count = true, string(response.Value), response.Version.VersionId, response.Version.ModificationsCount
	case proto.Status_KEY_NOT_FOUND:
	default:
		panic("a get answers " + response.Status.String())
	}
	out.add(it)
}

// holdEphemerals keeps one ephemeral record after the other: heartbeats for a while, then none, or an orderly end.
func holdEphemerals(ctx context.Context, c *cluster, out *recorder, name string) {
	random := rand.New(rand.NewPCG(rand.Uint64(), 2))
	for n := 0; ctx.Err() == nil; n++ {
		key := fmt.Sprintf("e/%s/%d", name, n)
		holdOne(ctx, c, out, key, random)
	}
}

func holdOne(ctx context.Context, c *cluster, out *recorder, key string, random *rand.Rand) {
	shard := c.shards[random.IntN(len(c.shards))].Shard
	timeout := 2*time.Second + time.Duration(random.IntN(2000))*time.Millisecond
	held := &life{TimeoutNs: int64(timeout)}
	it := event{Kind: kindEphemeral, Key: key, Shard: shard, Life: held}
	var session int64
	sent := now()
	err := c.onLeader(shard, time.Second, func(ctx context.Context, stub proto.OxiaClientClient) error {
		response, err := stub.CreateSession(ctx, &proto.CreateSessionRequest{Shard: shard, SessionTimeoutMs: uint32(timeout.Milliseconds()), ClientIdentity: key})
		if err == nil {
			session = response.SessionId
		}
		return err
	})
	if err != nil {
		time.Sleep(100 * time.Millisecond)
		return
	}
	held.LastSent = sent
	held.Heartbeats = append(held.Heartbeats, [2]int64{sent, now()})
	it.Start = now()
	response, err := c.put(shard, time.Second, &proto.PutRequest{Key: key, Value: []byte(key), SessionId: &session})
	it.End = now()
	if err != nil || response.Status != proto.Status_OK {
		return // nothing is known of the record; the session ends by itself, and the audit looks at what it left
	}
	it.Outcome = outcomeOK
	heartbeats := time.Now().Add(time.Second + time.Duration(random.IntN(5000))*time.Millisecond)
	orderly := random.IntN(3) == 0
	watched := heartbeats.Add(timeout + time.Second)
	nextHeartbeat := time.Now()
	for ctx.Err() == nil && time.Now().Before(watched) {
		if time.Now().Before(heartbeats) && !time.Now().Before(nextHeartbeat) {
			nextHeartbeat = time.Now().Add(heartbeatPause)
			beat(c, shard, session, held)
		}
		if orderly && held.Closed == 0 && !time.Now().Before(heartbeats) {
			held.Closed = now()
			_ = c.onLeader(shard, time.Second, func(ctx context.Context, stub proto.OxiaClientClient) error {
				_, err := stub.CloseSession(ctx, &proto.CloseSessionRequest{Shard: shard, SessionId: session})
				return err
			})
		}
		observe(c, shard, key, held)
		time.Sleep(observationPause)
	}
	out.add(it)
}

func beat(c *cluster, shard, session int64, held *life) {
	held.LastSent = now()
	err := c.onLeader(shard, time.Second, func(ctx context.Context, stub proto.OxiaClientClient) error {
		_, err := stub.KeepAlive(ctx, &proto.SessionHeartbeat{Shard: shard, SessionId: session})
		return err
	})
	if err == nil {
		held.Heartbeats = append(held.Heartbeats, [2]int64{held.LastSent, now()})
	}
}

func observe(c *cluster, shard int64, key string, held *life) {
	seen := observation{Start: now()}
	err := c.onLeader(shard, time.Second, func(ctx context.Context, stub proto.OxiaClientClient) error {
		response, err := get(ctx, stub, shard, key)
		if err == nil {
			seen.Exists = response.Status == proto.Status_OK
		}
		return err
	})
	seen.End = now()
	if err == nil {
		held.Observations = append(held.Observations, seen)
	}
}

// subscription records all that a subscriber hears.
type subscription struct {
	feed    oxia.Notifications
	heard   chan string
	stopped chan struct{}
}

// subscribe begins after each shard has an entry: the official client cannot come back to a shard that has none.
func subscribe(client oxia.SyncClient, out *recorder, name string) (*subscription, error) {
	it := event{Kind: kindSubscribe, Client: name, Start: now()}
	feed, err := client.GetNotifications()
	if err != nil {
		return nil, err
	}
	it.End = now()
	out.add(it)
	s := &subscription{feed: feed, heard: make(chan string, 1024), stopped: make(chan struct{})}
	go func() {
		defer close(s.stopped)
		for note := range feed.Ch() {
			at := now()
			out.add(event{Kind: kindNote, Client: name, Type: note.Type.String(), Key: note.Key, Version: note.VersionId, Start: at, End: at})
			if note.Key[0] == 'm' {
				s.heard <- note.Key
			}
		}
	}()
	return s, nil
}

// drain writes a last key into each shard and waits until the subscriber has heard of all of them.
func (s *subscription) drain(c *cluster, name string, patience time.Duration) error {
	missing := map[string]bool{}
	deadline := time.Now().Add(patience)
	for _, shard := range c.shards {
		key := fmt.Sprintf("m/%s/%d", name, shard.Shard)
		for {
			response, err := c.put(shard.Shard, pulseTimeout, &proto.PutRequest{Key: key, Value: []byte(key)})
			if err == nil && response.Status == proto.Status_OK {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("shard %d takes no write in the end: %w", shard.Shard, err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		missing[key] = true
	}
	late := time.After(time.Until(deadline))
	for len(missing) > 0 {
		select {
		case key := <-s.heard:
			delete(missing, key)
		case <-late:
			return fmt.Errorf("the subscriber has not heard of %d shards within %s", len(missing), patience)
		}
	}
	return nil
}
