// Command witness records what clients of a cluster see, and judges whether it can be true.
//
//	witness record --servers a,b,c --name w0 --out w0.jsonl …   until its standard input ends
//	witness audit --servers a,b,c --names w0,w1 --out audit.jsonl
//	witness judge FILE…                                           prints a verdict; fails on a violation
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/oxia-db/oxia/common/proto"
)

func main() {
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil))) // the official client tells of each attempt
	commands := map[string]func([]string) error{"record": record, "audit": audit, "judge": judgeFiles}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: witness record|audit|judge")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type recordOptions struct {
	servers    []string
	name       string
	out        string
	clients    int
	keys       int
	pause      time.Duration
	timeout    time.Duration
	pulse      time.Duration
	probe      time.Duration
	ephemerals int
	subscribe  bool
	drain      time.Duration
	fillMiB    int
}

func recordFlags(arguments []string) (recordOptions, error) {
	var o recordOptions
	flags := flag.NewFlagSet("record", flag.ContinueOnError)
	servers := flags.String("servers", "", "public addresses, separated by commas")
	flags.StringVar(&o.name, "name", "w", "prefix of its clients' names")
	flags.StringVar(&o.out, "out", "", "file for the history")
	flags.IntVar(&o.clients, "clients", 4, "official clients that work on registers")
	flags.IntVar(&o.keys, "keys", 12, "registers")
	flags.DurationVar(&o.pause, "pause", 40*time.Millisecond, "between two operations of a client")
	flags.DurationVar(&o.timeout, "timeout", 3*time.Second, "of the official clients' requests")
	flags.DurationVar(&o.pulse, "pulse", 0, "between two writes to each shard that are found again in the end; 0: none")
	flags.DurationVar(&o.probe, "probe", 0, "between two reads from each server, whether it leads or not; 0: none")
	flags.IntVar(&o.ephemerals, "ephemerals", 0, "ephemeral records at a time")
	flags.BoolVar(&o.subscribe, "subscribe", false, "record notifications")
	flags.DurationVar(&o.drain, "drain", 40*time.Second, "how long the subscriber may take to hear of the last write")
	flags.IntVar(&o.fillMiB, "fill-mib", 0, "mebibytes written before anything else, so that a snapshot takes a while")
	err := flags.Parse(arguments)
	o.servers = strings.Split(*servers, ",")
	return o, err
}

func record(arguments []string) error {
	o, err := recordFlags(arguments)
	if err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	c, err := connect(starting, o.servers)
	if err != nil {
		return err
	}
	out, err := newRecorder(o.out)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(context.Background())
	var loops sync.WaitGroup
	feed, err := start(starting, running, &loops, c, out, o)
	if err != nil {
		stop()
		return err
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	stop()
	loops.Wait()
	if feed != nil {
		out.add(event{Kind: kindLastNotes, Client: o.name, Start: now()})
		if err := feed.drain(c, o.name, o.drain); err != nil {
			out.add(event{Kind: kindNote, Client: o.name, Type: "end", Error: err.Error()})
			_ = out.close()
			return err
		}
	}
	return out.close()
}

// start returns once every shard has taken a write and all clients are connected.
func start(starting, running context.Context, loops *sync.WaitGroup, c *cluster, out *recorder, o recordOptions) (*subscription, error) {
	for _, shard := range c.shards {
		key := fmt.Sprintf("b/%s/%d", o.name, shard.Shard)
		for {
			response, err := c.put(shard.Shard, pulseTimeout, &proto.PutRequest{Key: key, Value: []byte(key)})
			if err == nil && response.Status == proto.Status_OK {
				break
			}
			select {
			case <-starting.Done():
				return nil, fmt.Errorf("shard %d takes no write: %w", shard.Shard, err)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	if err := fill(starting, c, o); err != nil {
		return nil, err
	}
	var feed *subscription
	if o.subscribe {
		client, err := officialClient(o.servers, 0, 20*time.Second)
		if err != nil {
			return nil, err
		}
		if feed, err = subscribe(client, out, o.name); err != nil {
			return nil, err
		}
	}
	for index := range o.clients {
		client, err := officialClient(o.servers, index, o.timeout)
		if err != nil {
			return nil, err
		}
		worker := &registerClient{
			name: fmt.Sprintf("%s.%d", o.name, index), client: client, out: out, cluster: c, keys: o.keys,
			pause: o.pause, random: rand.New(rand.NewPCG(rand.Uint64(), uint64(index))), known: map[string]int64{},
		}
		loops.Go(func() { worker.run(running) })
	}
	if o.pulse > 0 {
		for _, shard := range c.shards {
			loops.Go(func() { pulse(running, c, out, o.name, shard.Shard, o.pulse) })
		}
	}
	if o.probe > 0 {
		for _, address := range o.servers {
			loops.Go(func() { probe(running, c, out, address, o.keys, o.probe) })
		}
	}
	for index := range o.ephemerals {
		loops.Go(func() { holdEphemerals(running, c, out, fmt.Sprintf("%s-%d", o.name, index)) })
	}
	return feed, nil
}

const fillBytes = 64 << 10

// fill writes records that nobody reads.
func fill(starting context.Context, c *cluster, o recordOptions) error {
	value := make([]byte, fillBytes)
	for n := 0; n < o.fillMiB<<20/fillBytes; n++ {
		key := fmt.Sprintf("f/%s/%d", o.name, n)
		for {
			response, err := c.put(c.shardOf(key), pulseTimeout, &proto.PutRequest{Key: key, Value: value})
			if err == nil && response.Status == proto.Status_OK {
				break
			}
			if starting.Err() != nil {
				return fmt.Errorf("%s cannot be written: %w", key, err)
			}
		}
	}
	return nil
}

// How long after the last heartbeat all ephemeral records have to be gone: the longest timeout, what it may be late,
// and the pause of an election or two, after which sessions have their whole time again.
const ephemeralPatience = 15 * time.Second

// audit reads what the cluster holds after the last write.
func audit(arguments []string) error {
	flags := flag.NewFlagSet("audit", flag.ContinueOnError)
	servers := flags.String("servers", "", "public addresses, separated by commas")
	names := flags.String("names", "", "names of the processes that recorded, separated by commas")
	path := flags.String("out", "", "file for what was found")
	keys := flags.Int("keys", 12, "registers")
	ephemerals := flags.Int("ephemerals", 0, "ephemeral records at a time")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	began := time.Now()
	c, err := connect(ctx, strings.Split(*servers, ","))
	if err != nil {
		return err
	}
	out, err := newRecorder(*path)
	if err != nil {
		return err
	}
	found := &findings{Ledger: map[int64][]string{}, Ephemerals: []string{}}
	for _, name := range strings.Split(*names, ",") {
		for _, shard := range c.shards {
			prefix := fmt.Sprintf("l/%s/%d/", name, shard.Shard)
			listed, err := c.list(ctx, shard.Shard, prefix, prefix+"/")
			if err != nil {
				return err
			}
			found.Ledger[shard.Shard] = append(found.Ledger[shard.Shard], listed...)
		}
	}
	if err := auditRegisters(ctx, c, out, *keys); err != nil {
		return err
	}
	for {
		found.Ephemerals = []string{}
		for _, name := range strings.Split(*names, ",") {
			for index := range *ephemerals {
				prefix := fmt.Sprintf("e/%s-%d/", name, index)
				for _, shard := range c.shards {
					listed, err := c.list(ctx, shard.Shard, prefix, prefix+"/")
					if err != nil {
						return err
					}
					found.Ephemerals = append(found.Ephemerals, listed...)
				}
			}
		}
		found.WaitedMs = time.Since(began).Milliseconds()
		if len(found.Ephemerals) == 0 || time.Since(began) > ephemeralPatience {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	out.add(event{Kind: kindAudit, Audit: found})
	return out.close()
}

func auditRegisters(ctx context.Context, c *cluster, out *recorder, keys int) error {
	for index := range keys {
		key := fmt.Sprintf("r/%d", index)
		shard := c.shardOf(key)
		it := event{Kind: kindRegister, Op: opGet, Client: "audit", Shard: shard, Key: key, Raw: true}
		for it.Outcome == "" {
			it.Start = now()
			err := c.onLeader(shard, 5*time.Second, func(ctx context.Context, stub proto.OxiaClientClient) error {
				response, err := get(ctx, stub, shard, key)
				if err == nil && response.Status == proto.Status_OK {
					it.Found, it.Value, it.Version, it.Count = true, string(response.Value), response.Version.VersionId, response.Version.ModificationsCount
				}
				return err
			})
			it.End = now()
			if err == nil {
				it.Outcome = outcomeOK
				out.add(it)
				continue
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s cannot be read: %w", key, err)
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	return nil
}

func judgeFiles(paths []string) error {
	var events []event
	for _, path := range paths {
		history, err := readHistory(path)
		if err != nil {
			return err
		}
		events = append(events, history...)
	}
	v := judge(events)
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	fmt.Println(string(text))
	if len(v.Violations) > 0 {
		return fmt.Errorf("%d violations", len(v.Violations))
	}
	return nil
}
