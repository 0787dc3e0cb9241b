package edge

import (
	"net"
	"sync"
)

// farewell is an HTTP/2 connection that can be told to leave before it has to.
// net/http says GOAWAY once, with the last stream that it has seen: a request
// that a client sends at that moment is refused, and only a client that repeats
// it loses nothing. RFC 9113 (6.8) wants a GOAWAY that refuses nothing first,
// and the real one when the client had time to hear it. The first one is put
// between two frames here.
type farewell struct {
	net.Conn
	first []byte // were read before, and are given back

	mu      sync.Mutex
	begun   bool // a frame was written: SETTINGS comes before all else
	frames  frames2
	leaving bool // the GOAWAY is due at the end of the frame under way
}

// goAway has the highest stream there can be, and no error.
var goAway = []byte{0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0}

func (f *farewell) Read(b []byte) (int, error) {
	if len(f.first) > 0 {
		n := copy(b, f.first)
		f.first = f.first[n:]
		return n, nil
	}
	return f.Conn.Read(b)
}

func (f *farewell) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.Conn.Write(b)
	f.follow(b[:n])
	if err == nil && f.leaving {
		err = f.sayGoAway()
	}
	return n, err
}

// leave asks the client to send its next requests elsewhere. Those that it has
// sent, and sends before it hears of it, are answered.
func (f *farewell) leave() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leaving = true
	return f.sayGoAway()
}

// sayGoAway says it if no frame is under way; mu is held.
func (f *farewell) sayGoAway() error {
	if !f.begun || !f.frames.between() {
		return nil
	}
	f.leaving = false
	_, err := f.Conn.Write(goAway)
	return err
}

// follow keeps track of where frames end; mu is held.
func (f *farewell) follow(b []byte) {
	for len(b) > 0 {
		rest, _, ok := f.frames.next(b)
		f.begun = f.begun || ok
		b = rest
	}
}
