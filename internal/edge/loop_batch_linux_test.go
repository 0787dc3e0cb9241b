package edge

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Requests and answers of all sizes that come together go where they belong,
// byte by byte, whether the batch has room for them or not.
func TestBatchesCarryAllSizes(t *testing.T) {
	l, backend := byHand(t)
	backend.SetDeadline(time.Now().Add(10 * time.Second))
	body := func(k, n int) []byte { return bytes.Repeat([]byte{byte('a' + k)}, n) }
	const n = 20
	asks := func(k int) int { return k * 700 % 15_000 }
	gets := func(k int) int { return []int{0, 1, 1000, 3000, 9000, 15_000, 19_900, 30_000, 70_000, 120_000}[k%10] }

	var events []unix.EpollEvent
	var clients []*loopClient
	got := make(chan error, n)
	for k := range n {
		c, far := l.client(t)
		clients = append(clients, c)
		fmt.Fprintf(far, "POST /%d HTTP/1.1\r\nHost: shop.test\r\nContent-Length: %d\r\n\r\n%s", k, asks(k), body(k, asks(k)))
		go func() {
			far.SetDeadline(time.Now().Add(20 * time.Second))
			r, err := http.ReadResponse(bufio.NewReader(far), nil)
			if err != nil {
				got <- fmt.Errorf("client %d: %w", k, err)
				return
			}
			b, err := io.ReadAll(r.Body)
			if err != nil || !bytes.Equal(b, body(k, gets(k))) {
				err = fmt.Errorf("client %d: %d bytes of %d, as it should be: %v, %v", k, len(b), gets(k), bytes.Equal(b, body(k, len(b))), err)
			}
			got <- err
		}()
		events = append(events, readable(t, c.fd, c.count))
	}
	eventually(t, "the requests have arrived", func() bool {
		for k, c := range clients {
			b := make([]byte, 20_000)
			if n, _, _ := unix.Recvfrom(c.fd, b, unix.MSG_PEEK|unix.MSG_DONTWAIT); n < asks(k) {
				return false
			}
		}
		return true
	})
	l.serve(events)

	for range n {
		c, err := backend.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			t.Fatal(err)
		}
		var k int
		fmt.Sscanf(r.URL.Path, "/%d", &k)
		if b, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(b, body(k, asks(k))) {
			t.Fatalf("the instance got %d bytes of request %d: %v", len(b), k, err)
		}
		go fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", gets(k), body(k, gets(k)))
	}
	events = events[:0]
	for _, c := range clients {
		events = append(events, readable(t, c.u.fd, c.u.count))
	}
	l.serve(events)
	if u := len(l.batch.answers) + len(l.batch.requests) + l.batch.inUsed + len(l.batch.out); u != 0 {
		t.Errorf("the batch is not empty: %+v", u)
	}
	for left, end := n, time.Now().Add(20*time.Second); left > 0; {
		if time.Now().After(end) {
			t.Fatalf("%d clients have no answer", left)
		}
		select {
		case err := <-got:
			if err != nil {
				t.Error(err)
			}
			left--
			continue
		case <-time.After(time.Millisecond):
		}
		for _, c := range clients {
			if c.u != nil && lookAt(c.u.fd) != quiet {
				l.serve([]unix.EpollEvent{{Events: unix.EPOLLIN, Fd: int32(c.u.fd), Pad: int32(c.u.count)}})
			}
		}
	}
}

// The head of an answer may grow by more than there is room for before it.
func TestHeadsOfAnswersMayGrow(t *testing.T) {
	for _, room := range []int{0, 10, growRoom} {
		l, backend := byHand(t)
		backend.SetDeadline(time.Now().Add(10 * time.Second))
		c, far := l.client(t)
		io.WriteString(far, get("/"))
		l.serve([]unix.EpollEvent{readable(t, c.fd, c.count)})
		nc, err := backend.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		c.x.close = true // another line
		in := append(make([]byte, room), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"...)
		if w := l.answer(c, in, room); (w != nil) != (room == growRoom) {
			t.Errorf("room for %d more: %q is to be delivered", room, w)
		} else if w != nil {
			l.deliver(c, w, true)
		}
		far.SetDeadline(time.Now().Add(10 * time.Second))
		r, err := http.ReadResponse(bufio.NewReader(far), nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r.Body); string(b) != "hello" || err != nil || c.u != nil {
			t.Errorf("room for %d more: %q, %v", room, b, err)
		}
	}
}

// A loop that is stopped between taking in a request and sending it sends it
// to nobody, and keeps nothing.
func TestStopInTheMiddleOfABatch(t *testing.T) {
	l, backend := byHand(t)
	c, far := l.client(t)
	io.WriteString(far, get("/"))
	asked := readable(t, c.fd, c.count)
	l.post(l.stop)
	l.serve([]unix.EpollEvent{asked, {Events: unix.EPOLLIN, Fd: int32(l.bell)}})
	backend.SetDeadline(time.Now().Add(10 * time.Second))
	nc, err := backend.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for who, x := range map[string]net.Conn{"client": far, "instance": nc} {
		x.SetDeadline(time.Now().Add(10 * time.Second))
		if n, err := x.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("the %s was sent something: %v", who, err)
		}
	}
	if c.u != nil || c.i != nil || len(l.batch.requests) > 0 || l.clients.Load() != 0 {
		t.Errorf("left: %+v", c)
	}
}

// Of what comes together only that waits which may: not a request that must not
// be repeated and whose connection was looked at. An instance's first answer on
// a TCP connection comes with the news that it can be written to.
func TestWhatWaitsInABatch(t *testing.T) {
	l, backend := byHand(t)
	backend.SetDeadline(time.Now().Add(10 * time.Second))
	b := &l.batch
	var instance net.Conn
	for _, x := range []struct {
		request string
		waits   bool
	}{
		{get("/1"), true},
		{"POST /2 HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 1\r\n\r\nx", false},
		{get("/3"), true},
	} {
		c, far := l.client(t)
		io.WriteString(far, x.request)
		readable(t, c.fd, c.count)
		b.asking, b.unseen = true, false
		l.clientEvent(c, unix.EPOLLIN)
		if got := len(b.requests) == 1; got != x.waits {
			t.Errorf("%.7q waits: %v", x.request, got)
		}
		l.serve(nil)
		var err error
		if instance == nil {
			if instance, err = backend.Accept(); err != nil {
				t.Fatal(err)
			}
			defer instance.Close()
		}
		for _, s := range []net.Conn{instance, far} {
			s.SetDeadline(time.Now().Add(10 * time.Second))
		}
		if _, err := http.ReadRequest(bufio.NewReader(instance)); err != nil {
			t.Fatal(err)
		}
		io.WriteString(instance, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
		u := c.u
		readable(t, u.fd, u.count)
		l.readAheadUpstream(u, unix.EPOLLIN|unix.EPOLLOUT)
		if !u.ahead.ready {
			t.Error("the answer is not read ahead")
		}
		l.upstreamEvent(u, unix.EPOLLIN|unix.EPOLLOUT)
		if len(b.answers) != 1 {
			t.Errorf("%d answers wait", len(b.answers))
		}
		l.serve(nil)
		if r, err := http.ReadResponse(bufio.NewReader(far), nil); err != nil || r.StatusCode != 200 {
			t.Fatalf("%v, %v", r, err)
		}
	}
}
