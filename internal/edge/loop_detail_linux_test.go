package edge

import (
	"io"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A connection to an instance that says something unasked is not given to a
// client whose request came in the same batch of events.
func TestIdleConnectionsThatSpeakAreClosedFirst(t *testing.T) {
	e := &Edge{log: slog.New(slog.DiscardHandler)}
	l, err := newLoop(e, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l.ep)
	defer unix.Close(l.bell)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	i := newInstance(target{app: "shop", id: "i1", release: "v1", address: "127.0.0.1:1"})
	i.pools = make([]loopPool, 1)
	u := &loopUpstream{fd: pair[0], i: i, limit: 1 << 40}
	u.count = l.slot(u.fd, sock{u: u})
	l.put(i, u)
	ev := []unix.EpollEvent{{Events: unix.EPOLLOUT, Fd: int32(u.fd), Pad: int32(u.count)}}
	l.weedOut(ev)
	if len(i.pools[0].idle) != 1 {
		t.Fatal("a connection that says nothing is not kept")
	}
	ev[0].Events |= unix.EPOLLIN
	l.weedOut(ev)
	if u := l.get(i); u != nil {
		t.Error("the connection can be had")
	}
	l.weedOut(ev) // whoever has its descriptor now is not meant
	if _, err := unix.Write(pair[1], []byte("x")); err != unix.EPIPE {
		t.Errorf("it is not closed: %v", err)
	}
}

// A hand-over that fails closes both connections.
func TestHandOverThatFailsLeavesNoDescriptor(t *testing.T) {
	e := &Edge{log: slog.New(slog.DiscardHandler)}
	var client, instance [2]int // pipes: no connections can be made of them
	for _, p := range []*[2]int{&client, &instance} {
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(p[1])
	}
	x := exchanges.Get().(*exchange)
	e.takeOver(nil, &loopClient{fd: client[0], pass: pass{gate: &gate{}}}, x, handover{u: &loopUpstream{fd: instance[0]}})
	for what, fd := range map[string]int{"client": client[1], "instance": instance[1]} {
		if _, err := unix.Write(fd, []byte("x")); err != unix.EPIPE {
			t.Errorf("the connection of the %s is open: %v", what, err)
		}
	}
}

// The kernel looks whether clients are still there, as with Go's connections.
func TestLoopsKeepAlive(t *testing.T) {
	drivers(t, func(t *testing.T, cfg Config) {
		begun := make(chan bool)
		_, _, addr := setup(t, cfg, app(t, func(w http.ResponseWriter, q *http.Request) {
			begun <- true
			<-begun
		}))
		c := connect(t, addr)
		io.WriteString(c, get("/"))
		<-begun
		defer func() { begun <- true }()
		_, port, _ := strings.Cut(addr, ":")
		n, _ := strconv.Atoi(port)
		// local address, remote, state, queues, timer: 02 is that of keep-alive
		line := regexp.MustCompile(`: \w+:` + strings.ToUpper(strconv.FormatInt(1<<16|int64(n), 16)[1:]) + ` \w+:\w+ 01 \w+:\w+ 02:`)
		eventually(t, "its timer runs", func() bool {
			b, err := os.ReadFile("/proc/self/net/tcp")
			if err != nil {
				t.Fatal(err)
			}
			return line.Match(b)
		})
	})
}
