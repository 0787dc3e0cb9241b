//go:build linux

package keeper

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gapless"
)

// A process with a socket of its own has it as descriptor 3, and it is closed
// when the process ends: keeper keeps no copy. What a dead process left is
// replaced, what somebody listens on is not.
func TestHandedSocket(t *testing.T) {
	r := start(t)
	path := filepath.Join(r.dir, "s")
	left, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	if _, err := r.Start(t.Context(), Spec{ID: "taken", Argv: []string{self(t), "role:handed"}, Listen: path}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a socket that somebody listens on: %v", err)
	}
	left.Close()
	if _, err := r.Start(t.Context(), Spec{ID: "relative", Argv: []string{"/bin/true"}, Listen: "s"}); gapless.CodeOf(err) != gapless.Invalid {
		t.Errorf("a relative path: %v", err)
	}
	if _, err := r.Start(t.Context(), Spec{ID: "nobody", Argv: []string{"/no/such/program"}, Listen: path}); err == nil {
		t.Error("a program that is not there was started")
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket of a process that was not started: %v", err)
	}
	p, err := r.Start(t.Context(), Spec{ID: "a", Argv: []string{self(t), "role:handed"}, Env: os.Environ(), Listen: path})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", path) // it waits in the queue if the process is not there yet
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if b, err := io.ReadAll(conn); err != nil || string(b) != fmt.Sprintln(p.PID) {
		t.Errorf("answer %q, %v, from pid %d", b, err, p.PID)
	}
	if err := r.Signal(t.Context(), "a", 9); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("unix", path)
		if err != nil {
			break // refused: nobody holds it
		}
		c.Close()
		if time.Now().After(end) {
			t.Fatal("the socket outlives its process")
		}
	}
}

// A keeper of protocol 2 must not start a process without the socket that it
// is to have: it is asked in protocol 3, refuses, and the hint says what to do.
func TestOlderKeeperHandsNothingOver(t *testing.T) {
	dir, err := os.MkdirTemp("", "keeper")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asked := make(chan request, 8)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		for in := bufio.NewReader(conn); ; {
			line, err := readLine(in)
			var req request
			if err != nil || decode(line, &req) != nil {
				return
			}
			asked <- req
			if req.V > 2 { // as handle does
				fmt.Fprintf(conn, `{"v":2,"id":%d,"error":{"code":"unsupported","message":"keeper speaks protocol 2, not %d"}}`+"\n", req.ID, req.V)
				continue
			}
			fmt.Fprintf(conn, `{"v":2,"id":%d,"result":{"id":"a","pid":1}}`+"\n", req.ID)
		}
	}()
	c, err := Dial(t.Context(), SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Start(t.Context(), Spec{ID: "a", Argv: []string{"/bin/true"}}); err != nil {
		t.Errorf("what it knows: %v", err)
	}
	_, err = c.Start(t.Context(), Spec{ID: "b", Argv: []string{"/bin/true"}, Listen: filepath.Join(dir, "s")})
	var e *gapless.Error
	if !errors.As(err, &e) || e.Code != gapless.Unsupported || !strings.Contains(e.Hint, "gapless upgrade") {
		t.Errorf("what it does not know: %v", err)
	}
	first, second := <-asked, <-asked
	if first.V != 1 || second.V != 3 {
		t.Errorf("asked in protocol %d and %d", first.V, second.V)
	}
}
