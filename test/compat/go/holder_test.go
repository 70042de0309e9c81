package compat

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/oxia-db/oxia/oxia"
)

// A holder is an official client in a process of its own, so that it can be killed or stopped as a whole.
// It puts the ephemeral records that it is told to, one key a line, and never closes its client.
type holder struct {
	t       *testing.T
	process *exec.Cmd
	orders  io.Writer
	answers *bufio.Reader
}

const (
	holderAddress = "VARIA_HOLDER_ADDRESS"
	holderTimeout = "VARIA_HOLDER_TIMEOUT"
)

func TestMain(m *testing.M) {
	if address := os.Getenv(holderAddress); address != "" {
		if err := hold(address, os.Getenv(holderTimeout)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func hold(address, timeout string) error {
	sessionTimeout, err := time.ParseDuration(timeout)
	if err != nil {
		return err
	}
	client, err := oxia.NewSyncClient(address, oxia.WithSessionTimeout(sessionTimeout), oxia.WithRequestTimeout(requestTimeout))
	if err != nil {
		return err
	}
	fmt.Println("connected")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		key := lines.Text()
		if _, _, err := client.Put(context.Background(), key, []byte(key), oxia.Ephemeral()); err != nil {
			fmt.Println("refused", err)
			continue
		}
		fmt.Println("held", key)
	}
	return lines.Err()
}

func startHolder(s *server, t *testing.T, sessionTimeout time.Duration) *holder {
	t.Helper()
	process := exec.Command(os.Args[0])
	process.Env = append(os.Environ(), holderAddress+"="+s.address, holderTimeout+"="+sessionTimeout.String())
	process.Stderr = os.Stderr
	orders, err := process.StdinPipe()
	must(t, err)
	answers, err := process.StdoutPipe()
	must(t, err)
	must(t, process.Start())
	h := &holder{t: t, process: process, orders: orders, answers: bufio.NewReader(answers)}
	t.Cleanup(h.kill)
	equal(t, h.answer(), "connected")
	return h
}

func (h *holder) answer() string {
	h.t.Helper()
	line, err := h.answers.ReadString('\n')
	must(h.t, err)
	return strings.TrimSpace(line)
}

// try tells whether the holder could put the record.
func (h *holder) try(key string) bool {
	h.t.Helper()
	_, err := fmt.Fprintln(h.orders, key)
	must(h.t, err)
	return h.answer() == "held "+key
}

// hold puts ephemeral records and gives the moments between which their sessions began.
func (h *holder) hold(keys ...string) span {
	h.t.Helper()
	began := time.Now()
	for _, key := range keys {
		if !h.try(key) {
			h.t.Fatalf("%q was not put", key)
		}
	}
	return span{began, time.Now()}
}

// kill sends SIGKILL and waits for the end; a second call does nothing.
func (h *holder) kill() {
	_ = h.process.Process.Kill()
	_ = h.process.Wait()
}

// span holds a moment that is known only as "between these two".
type span struct{ earliest, latest time.Time }

const (
	lateness = time.Second     // how late a session may expire: max(1 s, a tenth of its timeout)
	slack    = 2 * time.Second // what a busy machine may add to that
)

// vanishAfter fails unless all the keys stay for a whole session timeout from its last renewal and are gone soon after.
func vanishAfter(t *testing.T, renewed span, timeout time.Duration, client oxia.SyncClient, keys []string) {
	t.Helper()
	ctx := testContext(t)
	notBefore, notAfter := renewed.earliest.Add(timeout), renewed.latest.Add(timeout+max(lateness, timeout/10)+slack)
	seen := false
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		asked := time.Now()
		found := present(ctx, t, client, keys)
		if answered := time.Now(); len(found) < len(keys) && answered.Before(notBefore) {
			t.Fatalf("%d of %d records were gone %s before the timeout", len(keys)-len(found), len(keys), notBefore.Sub(answered))
		}
		if len(found) == 0 {
			break
		}
		if asked.After(notAfter) {
			t.Fatalf("%q are left %s after the timeout", found, asked.Sub(renewed.latest.Add(timeout)))
		}
		seen = seen || len(found) == len(keys)
		<-poll.C
	}
	if !seen {
		t.Fatal("the records were never seen together")
	}
}

// present gives those of the keys that have a record.
func present(ctx context.Context, t *testing.T, client oxia.SyncClient, keys []string) []string {
	t.Helper()
	listed, err := client.List(ctx, "", "")
	must(t, err)
	there := map[string]bool{}
	for _, key := range listed {
		there[key] = true
	}
	var found []string
	for _, key := range keys {
		if there[key] {
			found = append(found, key)
		}
	}
	return found
}

// stayFor fails unless all the keys are there all the time.
func stayFor(t *testing.T, duration time.Duration, client oxia.SyncClient, keys []string) {
	t.Helper()
	ctx, until := testContext(t), time.Now().Add(duration)
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for time.Now().Before(until) {
		equalKeys(t, present(ctx, t, client, keys), keys)
		<-poll.C
	}
}
