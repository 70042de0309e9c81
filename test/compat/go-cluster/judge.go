package main

import (
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	// How long the search for an order of one key's operations may take.
	searchPatience = 60 * time.Second
	// Pauses between acknowledged writes that are worth a line.
	gapReported = time.Second
	// Violations of one kind that are told in words.
	violationsTold = 10
)

// verdict is what a run's histories prove.
type verdict struct {
	Operations   int            `json:"operations"`
	Acknowledged int            `json:"acknowledged"`
	Failed       int            `json:"failed"`
	Errors       map[string]int `json:"errors"`
	Ledger       int            `json:"ledger"`
	Probes       int            `json:"probes"`
	Notes        int            `json:"notes"`
	Ephemerals   int            `json:"ephemerals"`
	// Keys whose history is right only because the official client sends some requests twice.
	Repeated int `json:"repeated"`
	// Longest pause between acknowledged writes of one shard.
	GapMs      int64    `json:"gapMs"`
	Gaps       []gap    `json:"gaps"`
	Violations []string `json:"violations"`
}

// gap is a pause between two acknowledged writes of one shard.
type gap struct {
	Shard int64 `json:"shard"`
	// When the pause began, by the machine's monotonic clock.
	FromMs int64 `json:"fromMs"`
	Ms     int64 `json:"ms"`
}

func (v *verdict) violated(format string, values ...any) {
	v.Violations = append(v.Violations, fmt.Sprintf(format, values...))
}

// judge reads all that the processes of one run have recorded.
func judge(events []event) *verdict {
	v := &verdict{Errors: map[string]int{}, Gaps: []gap{}, Violations: []string{}}
	judgeRegisters(v, events)
	judgeLedger(v, events)
	judgeGaps(v, events)
	judgeNotes(v, events)
	judgeEphemerals(v, events)
	return v
}

func judgeRegisters(v *verdict, events []event) {
	keys := map[string][]*event{}
	for index := range events {
		it := &events[index]
		if it.Kind != kindRegister {
			continue
		}
		keys[it.Key] = append(keys[it.Key], it)
		switch {
		case it.Raw:
			v.Probes++
		case it.Outcome == outcomeUnknown:
			v.Operations++
			v.Failed++
			v.Errors[it.Error]++
		default:
			v.Operations++
			v.Acknowledged++
		}
	}
	for key, of := range keys {
		switch result, repeated := judgeRegister(of, searchPatience); {
		case result == porcupine.Unknown:
			v.violated("register %s: undecided after %s, %d operations", key, searchPatience, len(of))
		case result == porcupine.Illegal:
			v.violated("register %s: %d operations are not linearizable", key, len(of))
		case repeated:
			v.Repeated++
		}
	}
}

// judgeLedger looks for acknowledged writes that the audit did not find.
func judgeLedger(v *verdict, events []event) {
	found := map[string]bool{}
	audited := false
	for _, it := range events {
		if it.Kind == kindAudit {
			audited = true
			for _, keys := range it.Audit.Ledger {
				for _, key := range keys {
					found[key] = true
				}
			}
		}
	}
	if !audited {
		v.violated("nobody has looked at what the cluster holds in the end")
	}
	lost := 0
	for _, it := range events {
		if it.Kind != kindLedger || it.Outcome != outcomeOK {
			continue
		}
		v.Ledger++
		if audited && !found[it.Key] {
			if lost++; lost <= violationsTold {
				v.violated("acknowledged write lost: %s, version %d of shard %d, written at %d to %d", it.Key, it.Version, it.Shard, it.Start, it.End)
			}
		}
	}
	if lost > violationsTold {
		v.violated("%d acknowledged writes lost", lost)
	}
}

// judgeGaps measures how long no write of a shard was acknowledged.
func judgeGaps(v *verdict, events []event) {
	ends := map[int64][]int64{}
	for _, it := range events {
		if it.Kind == kindLedger && it.Outcome == outcomeOK {
			ends[it.Shard] = append(ends[it.Shard], it.End)
		}
	}
	for shard, times := range ends {
		slices.Sort(times)
		for index := 1; index < len(times); index++ {
			pause := time.Duration(times[index] - times[index-1])
			v.GapMs = max(v.GapMs, pause.Milliseconds())
			if pause >= gapReported {
				v.Gaps = append(v.Gaps, gap{shard, times[index-1] / 1e6, pause.Milliseconds()})
			}
		}
	}
	sort.Slice(v.Gaps, func(a, b int) bool { return v.Gaps[a].FromMs < v.Gaps[b].FromMs })
}

type written struct {
	key     string
	version int64
}

// judgeNotes: each subscriber hears of each write that began after it subscribed and was acknowledged before it ended,
// once, in order.
func judgeNotes(v *verdict, events []event) {
	since, until := map[string]int64{}, map[string]int64{}
	heard := map[string]map[written]int{}
	last := map[string]map[string]int64{}
	for _, it := range events {
		if it.Kind == kindLastNotes {
			until[it.Client] = it.Start
		}
		if it.Kind == kindSubscribe {
			since[it.Client], heard[it.Client], last[it.Client] = it.End, map[written]int{}, map[string]int64{}
		}
	}
	disorder := 0
	for _, it := range events {
		if it.Kind != kindNote {
			continue
		}
		v.Notes++
		if it.Type != "KeyCreated" && it.Type != "KeyModified" {
			continue
		}
		heard[it.Client][written{it.Key, it.Version}]++
		if before, ok := last[it.Client][it.Key]; ok && it.Version <= before {
			if disorder++; disorder <= violationsTold {
				v.violated("%s hears of version %d of %s after version %d", it.Client, it.Version, it.Key, before)
			}
		}
		last[it.Client][it.Key] = it.Version
	}
	missing := 0
	for client, from := range since {
		if _, ended := until[client]; !ended {
			v.violated("%s has not heard all that it had to", client)
		}
		for _, it := range events {
			if it.Outcome != outcomeOK || it.Start <= from || it.End >= until[client] || !writes(it) {
				continue
			}
			if heard[client][written{it.Key, it.Version}] != 1 {
				if missing++; missing <= violationsTold {
					v.violated("%s hears %d times of %s, version %d of shard %d, acknowledged at %d", client, heard[client][written{it.Key, it.Version}], it.Key, it.Version, it.Shard, it.End)
				}
			}
		}
	}
	if missing > violationsTold {
		v.violated("%d notifications are missing or doubled", missing)
	}
}

func writes(it event) bool {
	return it.Kind == kindLedger || it.Kind == kindRegister && (it.Op == opPut || it.Op == opCreate || it.Op == opCompareAndSet)
}

// judgeEphemerals: no record is gone before its session's time, and none is left in the end.
func judgeEphemerals(v *verdict, events []event) {
	for _, it := range events {
		switch {
		case it.Kind == kindAudit:
			for _, key := range it.Audit.Ephemerals {
				v.violated("ephemeral record %s is still there %d ms after the last heartbeat of all sessions", key, it.Audit.WaitedMs)
			}
		case it.Kind == kindEphemeral:
			v.Ephemerals++
			judgeLife(v, it)
		}
	}
}

func judgeLife(v *verdict, it event) {
	for _, seen := range it.Life.Observations {
		if seen.Exists || seen.Start < it.End || it.Life.Closed != 0 && seen.End >= it.Life.Closed {
			continue
		}
		for _, beat := range it.Life.Heartbeats {
			sent, confirmed := beat[0], beat[1]
			if seen.End < sent {
				v.violated("ephemeral record %s was gone at %d, and its session took a heartbeat sent at %d", it.Key, seen.End, sent)
				return
			}
			if seen.End < sent+it.Life.TimeoutNs {
				v.violated("ephemeral record %s was gone at %d, %d ms after a heartbeat was sent that was confirmed at %d; its session's timeout is %d ms",
					it.Key, seen.End, (seen.End-sent)/1e6, confirmed, it.Life.TimeoutNs/1e6)
				return
			}
		}
	}
}
