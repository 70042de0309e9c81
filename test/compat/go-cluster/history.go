package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Outcomes of an operation. Unknown means that it may or may not have taken effect, at any time after it began.
const (
	outcomeOK      = "ok"
	outcomeRefused = "refused" // its condition did not hold, or a key that was to be deleted was not there
	outcomeUnknown = "unknown"
)

// Kinds of events.
const (
	kindRegister  = "register"
	kindLedger    = "ledger"
	kindEphemeral = "ephemeral"
	kindNote      = "note"
	kindSubscribe = "subscribe"
	kindLastNotes = "last notes" // what was acknowledged before it is heard before the subscriber ends
	kindAudit     = "audit"
)

// event is one line of a history. Times are of the machine's monotonic clock, in nanoseconds, so that the histories of
// several processes are of one time.
type event struct {
	Kind   string `json:"kind"`
	Client string `json:"client,omitempty"`
	Shard  int64  `json:"shard"`
	Start  int64  `json:"start"`
	End    int64  `json:"end"`

	// register, ledger
	Op       string `json:"op,omitempty"`
	Key      string `json:"key,omitempty"`
	Value    string `json:"value,omitempty"`
	Expected int64  `json:"expected,omitempty"`
	Outcome  string `json:"outcome,omitempty"`
	Error    string `json:"error,omitempty"`
	Found    bool   `json:"found,omitempty"`
	Version  int64  `json:"version,omitempty"`
	Count    int64  `json:"count,omitempty"`
	// Raw calls are sent once; the official client repeats some.
	Raw bool `json:"raw,omitempty"`

	// note
	Type string `json:"type,omitempty"`

	Life  *life     `json:"life,omitempty"`
	Audit *findings `json:"audit,omitempty"`
}

// life is what is known of one ephemeral record, from its client's side.
type life struct {
	TimeoutNs int64 `json:"timeout"`
	// Confirmed heartbeats and the creation of the session: when they were sent and when the answer came.
	Heartbeats [][2]int64 `json:"heartbeats"`
	// When the last heartbeat was sent, confirmed or not.
	LastSent int64 `json:"lastSent"`
	// When the session was asked to close; 0: it was abandoned.
	Closed       int64         `json:"closed"`
	Observations []observation `json:"observations"`
}

type observation struct {
	Start  int64 `json:"start"`
	End    int64 `json:"end"`
	Exists bool  `json:"exists"`
}

// findings is what an audit found in the cluster after the last write.
type findings struct {
	// Ledger keys by shard.
	Ledger map[int64][]string `json:"ledger"`
	// Ephemeral records that were still there when the audit's patience ended.
	Ephemerals []string `json:"ephemerals"`
	WaitedMs   int64    `json:"waitedMs"`
}

func now() int64 {
	var time unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &time); err != nil {
		panic(err)
	}
	return time.Nano()
}

// recorder writes a history into a file. It may be used by several goroutines.
type recorder struct {
	mutex  sync.Mutex
	file   *os.File
	buffer *bufio.Writer
}

func newRecorder(path string) (*recorder, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &recorder{file: file, buffer: bufio.NewWriterSize(file, 1<<20)}, nil
}

func (r *recorder) add(it event) {
	line, err := json.Marshal(it)
	if err != nil {
		panic(err)
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	_, _ = r.buffer.Write(append(line, '\n')) // an error stays in the buffer and is returned by close
}

func (r *recorder) close() error {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if err := r.buffer.Flush(); err != nil {
		return err
	}
	return r.file.Close()
}

func readHistory(path string) ([]event, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var events []event
	decoder := json.NewDecoder(bufio.NewReaderSize(file, 1<<20))
	for {
		var it event
		switch err := decoder.Decode(&it); err {
		case nil:
			events = append(events, it)
		case io.EOF:
			return events, nil
		default:
			return nil, fmt.Errorf("%s: event %d: %w", path, len(events)+1, err)
		}
	}
}
