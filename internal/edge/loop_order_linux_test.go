package edge

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// byHand is a loop that no thread runs, so that a test can say which events
// come together. Its route leads to a unix socket of the test.
func byHand(t *testing.T) (*loop, *net.UnixListener) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "i.sock")
	backend, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { backend.Close() })
	e := &Edge{
		cfg: Config{Host: newHost(t, "web")}.withDefaults(), start: time.Now(), log: slog.New(slog.DiscardHandler),
		listeners: map[string]*listener{}, instances: map[target]*instance{}, budgets: map[string]*budget{},
		queues: map[string]*queue{}, pages: map[string]*page{},
	}
	e.ctx, e.kill = context.WithCancel(t.Context())
	e.state.Store(&state{changed: make(chan struct{})})
	e.setBounds()
	l, err := newLoop(e, 0)
	if err != nil {
		t.Fatal(err)
	}
	e.loops = []*loop{l}
	t.Cleanup(func() {
		e.kill()
		l.stop()
		unix.Close(l.ep)
		unix.Close(l.bell)
	})
	if err := e.serve(t.Context(), table1(1, "unix:"+path), nil, false); err != nil {
		t.Fatal(err)
	}
	l.answerBell() // the door
	return l, backend.(*net.UnixListener)
}

// client makes a connection of the loop's; far is its other end.
func (l *loop) client(t *testing.T) (c *loopClient, far net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	far = connect(t, ln.Addr().String())
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	fd := -1
	raw, _ := nc.(*net.TCPConn).SyscallConn()
	raw.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) })
	if err != nil {
		t.Fatal(err)
	}
	c = &loopClient{fd: fd, door: l.doors[0]}
	c.from(&unix.RawSockaddrInet6{Family: unix.AF_INET, Flowinfo: 0x0100007f})
	c.pass, _ = l.edge.admit(l.edge.gateOf("web"), c.addr)
	l.clients.Add(1)
	c.count = l.slot(c.fd, sock{c: c})
	l.idle(c)
	return c, far
}

// readable waits until there is something to read, and makes the event of it.
func readable(t *testing.T, fd int, count uint32) unix.EpollEvent {
	t.Helper()
	eventually(t, "something can be read", func() bool { return lookAt(fd) != quiet })
	return unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd), Pad: int32(count)}
}

// What an instance says after its answer, and before the next wait for events,
// is not taken for another answer: a connection whose answer came in a batch
// is not given a request of the same batch.
func TestAnsweredConnectionsAreLookedAtBeforeTheyAreUsedAgain(t *testing.T) {
	l, backend := byHand(t)
	backend.SetDeadline(time.Now().Add(10 * time.Second))
	asked := func(c net.Conn) string {
		b := make([]byte, 4096)
		c.SetDeadline(time.Now().Add(10 * time.Second))
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	accepted := func() net.Conn {
		c, err := backend.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	answer := func(s string) string { return "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + s }

	c1, far1 := l.client(t)
	far1.Write([]byte(get("/1")))
	l.serve([]unix.EpollEvent{readable(t, c1.fd, c1.count)})
	a := accepted()
	if q := asked(a); !strings.HasPrefix(q, "GET /1 ") {
		t.Fatalf("the instance was asked %q", q)
	}
	u := c1.u
	a.Write([]byte(answer("1")))

	c2, far2 := l.client(t)
	far2.Write([]byte(get("/2")))
	l.serve([]unix.EpollEvent{readable(t, u.fd, u.count), readable(t, c2.fd, c2.count)})
	if s := asked(far1); !strings.HasSuffix(s, "\r\n\r\n1") {
		t.Fatalf("the first client was told %q", s)
	}
	a.Write([]byte(answer("stray")))
	b := accepted() // or the second request went to where the first was answered just now
	if q := asked(b); !strings.HasPrefix(q, "GET /2 ") {
		t.Fatalf("the instance was asked %q", q)
	}
	b.Write([]byte(answer("2")))

	// The third request comes together with what was said unasked.
	c3, far3 := l.client(t)
	far3.Write([]byte(get("/3")))
	u2 := c2.u
	l.serve([]unix.EpollEvent{readable(t, c3.fd, c3.count), readable(t, u.fd, u.count), readable(t, u2.fd, u2.count)})
	if s := asked(far2); !strings.HasSuffix(s, "\r\n\r\n2") {
		t.Fatalf("the second client was told %q", s)
	}
	d := accepted()
	if q := asked(d); !strings.HasPrefix(q, "GET /3 ") {
		t.Fatalf("the instance was asked %q", q)
	}
	if _, err := a.Write([]byte("x")); err == nil {
		t.Error("a connection that talked unasked is open")
	}
	if got := c3.u; got == nil || got == u2 {
		t.Error("the third request has a connection that was in use in its batch")
	}
}
