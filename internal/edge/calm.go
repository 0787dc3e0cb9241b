package edge

import (
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// A client that opens streams and resets them at once costs itself next to
// nothing and the edge the start of a request each. So many resets at once a
// connection may send, which is as many as it can have streams open; each
// stream that is answered and each second give some back. Then it is cut.
const (
	calmResets    = 250
	calmPerSecond = 100
)

var errRestless = errors.New("the client resets its streams faster than they can be answered")

// calm is the reading side of an HTTP/2 connection: it counts the resets.
type calm struct {
	net.Conn
	answered atomic.Int64 // streams, since the last reset
	left     float64      // resets, as of last
	last     time.Time
	frames   frames2
}

const prefaceSize = 24 // bytes that a client says before its first frame

func newCalm(c net.Conn) *calm {
	return &calm{Conn: c, left: calmResets, last: time.Now(), frames: frames2{left: prefaceSize}}
}

func (k *calm) Read(b []byte) (int, error) {
	n, err := k.Conn.Read(b)
	if resets := k.follow(b[:n]); resets > 0 && !k.allows(resets, time.Now()) {
		k.Conn.Close()
		return 0, errRestless
	}
	return n, err
}

// allows takes resets from what is left and reports whether it was enough.
func (k *calm) allows(resets int64, now time.Time) bool {
	back := float64(k.answered.Swap(0)) + now.Sub(k.last).Seconds()*calmPerSecond
	k.left, k.last = min(k.left+back, calmResets)-float64(resets), now
	return k.left >= 0
}

// follow counts the RST_STREAM frames that begin in b.
func (k *calm) follow(b []byte) (resets int64) {
	const rstStream = 3
	for len(b) > 0 {
		rest, kind, ok := k.frames.next(b)
		if ok && kind == rstStream {
			resets++
		}
		b = rest
	}
	return resets
}
