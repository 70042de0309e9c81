// Package compat runs the official Go client against the built server.
//
// VARIA_EXECUTABLE is the absolute path of the executable under test.
package compat

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oxia-db/oxia/common/proto"
	"github.com/oxia-db/oxia/oxia"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	startTimeout   = 30 * time.Second
	requestTimeout = 20 * time.Second
	messageLimit   = 64 << 20
)

// server is one running executable. It keeps its port and directories over restarts.
type server struct {
	t         *testing.T
	directory string
	flags     []string
	address   string
	process   *exec.Cmd
	exited    chan struct{}
	errors    *lockedBuffer
}

type lockedBuffer struct {
	mutex  sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.buffer.String()
}

func startServer(t *testing.T, shards int, flags ...string) *server {
	t.Helper()
	s := &server{
		t:         t,
		directory: t.TempDir(),
		flags:     append([]string{"-s", strconv.Itoa(shards)}, flags...),
		address:   "127.0.0.1:0",
	}
	s.start()
	t.Cleanup(s.kill)
	return s
}

func (s *server) start() {
	s.t.Helper()
	executable := os.Getenv("VARIA_EXECUTABLE")
	if executable == "" {
		s.t.Fatal("VARIA_EXECUTABLE is not set: give the absolute path of the executable under test")
	}
	arguments := append([]string{
		"standalone",
		"-p", s.address,
		"-m", "127.0.0.1:0",
		"--data-dir", filepath.Join(s.directory, "db"),
		"--wal-dir", filepath.Join(s.directory, "wal"),
	}, s.flags...)
	process := exec.Command(executable, arguments...)
	s.errors = &lockedBuffer{}
	process.Stderr = s.errors
	output, err := process.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.process = process
	exited := make(chan struct{})
	s.exited = exited
	public := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(output)
		for lines.Scan() {
			if fields := strings.Fields(lines.Text()); len(fields) == 2 && fields[0] == "public" {
				select {
				case public <- fields[1]:
				default:
				}
			}
		}
		_ = process.Wait()
		close(exited)
	}()
	select {
	case s.address = <-public:
	case <-exited:
		s.t.Fatalf("the server ended before it served:\n%s", s.errors)
	case <-time.After(startTimeout):
		_ = process.Process.Kill()
		s.t.Fatalf("the server did not serve within %s:\n%s", startTimeout, s.errors)
	}
}

// kill sends SIGKILL and waits for the end; a second call does nothing.
func (s *server) kill() {
	_ = s.process.Process.Kill()
	<-s.exited
}

func (s *server) restart() {
	s.t.Helper()
	s.kill()
	s.start()
}

func (s *server) syncClient(options ...oxia.ClientOption) oxia.SyncClient {
	s.t.Helper()
	client, err := oxia.NewSyncClient(s.address, append([]oxia.ClientOption{oxia.WithRequestTimeout(requestTimeout)}, options...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = client.Close() })
	return client
}

func (s *server) asyncClient(options ...oxia.ClientOption) oxia.AsyncClient {
	s.t.Helper()
	client, err := oxia.NewAsyncClient(s.address, append([]oxia.ClientOption{oxia.WithRequestTimeout(requestTimeout)}, options...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = client.Close() })
	return client
}

func (s *server) connection() *grpc.ClientConn {
	s.t.Helper()
	connection, err := grpc.NewClient(s.address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageLimit), grpc.MaxCallSendMsgSize(messageLimit)))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = connection.Close() })
	return connection
}

func (s *server) stub() proto.OxiaClientClient {
	s.t.Helper()
	return proto.NewOxiaClientClient(s.connection())
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// eventually calls attempt until it gives no error; each attempt waits for the server, so there is no pause to choose.
func eventually(t *testing.T, within time.Duration, attempt func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		err := attempt(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %v", within, err)
		case <-poll.C:
		}
	}
}
