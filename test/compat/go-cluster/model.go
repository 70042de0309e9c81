package main

import (
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// unknownVersion stands for the version of a record whose write was never answered.
const unknownVersion = -1

// register is the state of one key: what its record holds, and how often it was written since it was created.
type register struct {
	exists  bool
	value   string
	version int64
	count   int64
	// The highest version id of this key that is known; those of later writes are above it.
	last int64
}

// registers is the sequential specification of one key.
var registers = porcupine.Model{
	Init: func() any { return register{version: unknownVersion, last: math.MinInt64} },
	Step: func(state, input, _ any) (bool, any) {
		return step(state.(register), input.(*event))
	},
}

func step(before register, it *event) (bool, register) {
	switch it.Op {
	case opGet:
		return read(before, it)
	case opPut:
		return write(before, it)
	case opCreate:
		return conditional(before, it, !before.exists, true, write)
	case opCompareAndSet:
		holds, certain := expected(before, it)
		return conditional(before, it, holds, certain, write)
	case opDelete:
		return conditional(before, it, before.exists, true, remove)
	case opDeleteExpected:
		holds, certain := expected(before, it)
		return conditional(before, it, holds, certain, remove)
	}
	panic("unknown operation " + it.Op)
}

// expected says whether the record has the version that is asked for, and whether that is certain.
func expected(before register, it *event) (holds, certain bool) {
	if before.exists && before.version == unknownVersion {
		return it.Expected > before.last, it.Expected <= before.last
	}
	return before.exists && before.version == it.Expected, true
}

func conditional(before register, it *event, holds, certain bool, effect func(register, *event) (bool, register)) (bool, register) {
	switch it.Outcome {
	case outcomeOK:
		if !holds {
			return false, before
		}
		return effect(before, it)
	case outcomeRefused:
		return !holds || !certain, before
	}
	if !holds {
		return true, before
	}
	return effect(before, it)
}

func write(before register, it *event) (bool, register) {
	after := register{exists: true, value: it.Value, version: unknownVersion, last: before.last}
	if before.exists {
		after.count = before.count + 1
	}
	if it.Outcome != outcomeOK {
		return true, after
	}
	after.version, after.last = it.Version, it.Version
	return it.Version > before.last && it.Count == after.count, after
}

func remove(before register, _ *event) (bool, register) {
	return true, register{version: unknownVersion, last: before.last}
}

func read(before register, it *event) (bool, register) {
	if !it.Found || !before.exists {
		return it.Found == before.exists, before
	}
	if it.Value != before.value || it.Count != before.count {
		return false, before
	}
	if before.version != unknownVersion {
		return it.Version == before.version, before
	}
	after := before
	after.version, after.last = it.Version, it.Version
	return it.Version > before.last, after
}

// reading says how much an interpretation of a history allows for.
type reading struct {
	// Writes that nobody heard of may have taken effect though nobody read them; otherwise they have not.
	unread bool
	// What the official client may have sent twice may have taken effect twice, and a refusal may be the answer to the
	// second attempt.
	repeats bool
}

// The interpretations, from the one that is searched fastest to the one that allows for everything. A history is right
// if it is by one of them, since each allows for less than the next; it is wrong if it is by the last.
var readings = []reading{{}, {unread: true}, {unread: true, repeats: true}}

// operations makes one key's history ready to be judged.
func operations(events []*event, by reading) []porcupine.Operation {
	firstRead := map[string]int64{}
	for _, it := range events {
		if at, ok := firstRead[it.Value]; it.Op == opGet && it.Found && (!ok || it.End < at) {
			firstRead[it.Value] = it.End
		}
	}
	var all []porcupine.Operation
	add := func(it *event, until int64) {
		all = append(all, porcupine.Operation{ClientId: len(all), Input: it, Call: it.Start, Return: until})
	}
	for _, it := range events {
		mutates := it.Op != opGet
		readAt, wasRead := firstRead[it.Value]
		switch {
		case it.Outcome == outcomeUnknown && (!mutates || notDone(*it)):
			continue
		case it.Outcome == outcomeUnknown && wasRead && !by.repeats:
			add(it, readAt) // it took effect before that read ended
		case it.Outcome == outcomeUnknown && !by.unread:
			continue
		case it.Outcome == outcomeUnknown:
			add(it, math.MaxInt64)
		case it.Outcome == outcomeRefused && by.repeats && mayBeRepeated(*it):
			unknown := *it
			unknown.Outcome = outcomeUnknown
			add(&unknown, math.MaxInt64)
			continue
		default:
			add(it, it.End)
		}
		if by.repeats && mutates && mayBeRepeated(*it) {
			again := *it
			again.Outcome = outcomeUnknown
			add(&again, math.MaxInt64)
		}
	}
	return all
}

// judgeRegister says whether one key's history is linearizable, and whether only with writes that were sent twice.
func judgeRegister(events []*event, patience time.Duration) (result porcupine.CheckResult, repeated bool) {
	for _, by := range readings {
		result = porcupine.CheckOperationsTimeout(registers, operations(events, by), patience)
		if result == porcupine.Ok {
			return result, by.repeats
		}
	}
	return result, false
}
