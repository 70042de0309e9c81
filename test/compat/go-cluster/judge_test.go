package main

import (
	"strings"
	"testing"
	"time"
)

const ms = int64(time.Millisecond)

var found = event{Kind: kindAudit, Audit: &findings{Ledger: map[int64][]string{0: {"l/a"}}}}

func op(name, value string, start, end int64) event {
	return event{Kind: kindRegister, Op: name, Key: "r", Value: value, Outcome: outcomeOK, Start: start * ms, End: end * ms}
}

func (it event) at(version, count int64) event {
	it.Version, it.Count, it.Found = version, count, it.Op == opGet
	return it
}

func (it event) ended(outcome string) event {
	it.Outcome = outcome
	return it
}

func (it event) expecting(version int64) event {
	it.Expected = version
	return it
}

// violations gives what the judge says of a history, with an audit that misses nothing.
func violations(events ...event) string {
	return strings.Join(judge(append(events, found)).Violations, "\n")
}

func TestRegisterHistories(t *testing.T) {
	first, second := op(opPut, "a", 0, 10).at(5, 0), op(opPut, "b", 20, 30).at(6, 1)
	lost := op(opPut, "b", 20, 30).ended(outcomeUnknown)
	for _, history := range []struct {
		name   string
		legal  bool
		events []event
	}{
		{"a read after a write", true, []event{first, op(opGet, "a", 11, 12).at(5, 0)}},
		{"an old value", false, []event{first, second, op(opGet, "a", 31, 32).at(5, 0)}},
		{"an old value while the new one is written", true, []event{first, second, op(opGet, "a", 25, 32).at(5, 0)}},
		{"a record that is gone", false, []event{first, op(opGet, "", 11, 12)}},
		{"a write that went unheard and was done", true, []event{first, lost, op(opGet, "b", 40, 41).at(9, 1)}},
		{"a write that went unheard and was not done", true, []event{first, lost, op(opGet, "a", 40, 41).at(5, 0)}},
		{"a write that is there and gone again", false,
			[]event{first, lost, op(opGet, "b", 40, 41).at(9, 1), op(opGet, "a", 42, 43).at(5, 0)}},
		{"a write that went unheard and was deleted before anybody read it", true,
			[]event{first, lost, op(opPut, "c", 40, 41).at(9, 2)}},
		{"a version that falls", false, []event{first, op(opPut, "b", 20, 30).at(4, 1)}},
		{"a write that counts as two", false, []event{first, op(opPut, "b", 20, 30).at(6, 2)}},
		{"a write that the client sent twice", true, []event{first, op(opPut, "b", 20, 120).at(7, 2)}},
		{"a condition that held", true, []event{first, op(opCompareAndSet, "c", 11, 12).expecting(5).at(6, 1)}},
		{"two that held on one version", false, []event{first,
			op(opCompareAndSet, "c", 11, 12).expecting(5).at(6, 1), op(opCompareAndSet, "d", 13, 14).expecting(5).at(7, 2)}},
		{"a condition that failed though it held", false,
			[]event{first, op(opCompareAndSet, "c", 11, 12).expecting(5).ended(outcomeRefused)}},
		{"one that failed when it was sent again", true,
			[]event{first, op(opCompareAndSet, "c", 11, 112).expecting(5).ended(outcomeRefused)}},
		{"a record created twice", false, []event{op(opCreate, "a", 0, 1).at(5, 0), op(opCreate, "b", 2, 3).at(6, 0)}},
		{"a record deleted and created", true, []event{first, op(opDelete, "", 11, 12), op(opCreate, "b", 13, 14).at(6, 0)}},
		{"a record deleted and still there", false, []event{first, op(opDelete, "", 11, 12), op(opGet, "a", 13, 14).at(5, 0)}},
		{"a delete of another version", false, []event{first, op(opDeleteExpected, "", 11, 12).expecting(4)}},
	} {
		if said := violations(history.events...); (said == "") != history.legal {
			t.Errorf("%s: %q", history.name, said)
		}
	}
}

func TestLedger(t *testing.T) {
	kept := event{Kind: kindLedger, Key: "l/a", Outcome: outcomeOK}
	unheard := event{Kind: kindLedger, Key: "l/b", Outcome: outcomeUnknown}
	if said := violations(kept, unheard); said != "" {
		t.Error(said)
	}
	lost := event{Kind: kindLedger, Key: "l/c", Outcome: outcomeOK}
	if said := violations(kept, lost); !strings.Contains(said, "lost: l/c") {
		t.Error(said)
	}
	if said := judge([]event{kept}).Violations; len(said) != 1 {
		t.Error("without an audit nothing is proved", said)
	}
}

func TestGaps(t *testing.T) {
	at := func(shard, time int64) event {
		return event{Kind: kindLedger, Key: "l/a", Outcome: outcomeOK, Shard: shard, End: time * ms}
	}
	v := judge([]event{at(0, 10), at(1, 20), at(1, 900), at(0, 1500), found})
	if v.GapMs != 1490 || len(v.Gaps) != 1 || v.Gaps[0] != (gap{0, 10, 1490}) {
		t.Error(v.GapMs, v.Gaps)
	}
}

func TestNotifications(t *testing.T) {
	since := event{Kind: kindSubscribe, Client: "s", End: 10}
	note := func(version int64) event {
		return event{Kind: kindNote, Client: "s", Type: "KeyModified", Key: "l/a", Version: version}
	}
	early := event{Kind: kindLedger, Key: "l/a", Outcome: outcomeOK, Start: 5, Version: 1}
	later := event{Kind: kindLedger, Key: "l/a", Outcome: outcomeOK, Start: 15, End: 16, Version: 2}
	late := event{Kind: kindLedger, Key: "l/a", Outcome: outcomeOK, Start: 15, End: 20, Version: 4}
	last := event{Kind: kindLastNotes, Client: "s", Start: 20}
	for _, history := range []struct {
		name  string
		legal bool
		notes []event
	}{
		{"heard once", true, []event{note(2), note(3)}},
		{"not heard", false, []event{note(3)}},
		{"heard twice", false, []event{note(2), note(2)}},
		{"out of order", false, []event{note(3), note(2)}},
	} {
		if said := violations(append(history.notes, since, early, later, late, last)...); (said == "") != history.legal {
			t.Errorf("%s: %q", history.name, said)
		}
	}
}

func TestEphemerals(t *testing.T) {
	record := func(closed int64, seen observation) event {
		return event{Kind: kindEphemeral, Key: "e/a", Start: 1 * ms, End: 2 * ms, Outcome: outcomeOK, Life: &life{
			TimeoutNs: 2000 * ms, Closed: closed * ms, Heartbeats: [][2]int64{{0, 1 * ms}, {1000 * ms, 1001 * ms}},
			Observations: []observation{{seen.Start * ms, seen.End * ms, seen.Exists}},
		}}
	}
	for _, history := range []struct {
		name   string
		legal  bool
		closed int64
		seen   observation
	}{
		{"there while heartbeats come", true, 0, observation{1500, 1501, true}},
		{"gone after the timeout", true, 0, observation{3000, 3001, false}},
		{"gone before the timeout", false, 0, observation{2900, 2999, false}},
		{"gone, and a heartbeat confirmed later", false, 0, observation{500, 501, false}},
		{"gone after an orderly end", true, 1100, observation{1200, 1201, false}},
		{"gone before an orderly end", false, 1300, observation{1200, 1201, false}},
		{"not yet there", true, 0, observation{0, 1, false}},
	} {
		if said := violations(record(history.closed, history.seen)); (said == "") != history.legal {
			t.Errorf("%s: %q", history.name, said)
		}
	}
	left := event{Kind: kindAudit, Audit: &findings{Ephemerals: []string{"e/a"}}}
	if said := violations(left); !strings.Contains(said, "e/a") {
		t.Error(said)
	}
}
