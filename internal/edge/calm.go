package edge

import (
	"encoding/binary"
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// A client that opens streams and resets them at once costs itself next to
// nothing and the edge the start of a request each. So many resets a
// connection may send beyond the streams that were answered, and so many more
// each second; then it is cut.
const (
	calmResets    = 200
	calmPerSecond = 100
)

var errRestless = errors.New("the client resets its streams faster than they can be answered")

// calm is the reading side of an HTTP/2 connection: it counts the resets.
type calm struct {
	net.Conn
	began    time.Time
	answered atomic.Int64
	resets   int64
	skip     int    // bytes until the next frame head: of the preface, or of a payload
	head     []byte // of a frame, as long as it is not whole
}

const prefaceSize = 24 // bytes that a client says before its first frame

func newCalm(c net.Conn) *calm { return &calm{Conn: c, began: time.Now(), skip: prefaceSize} }

func (k *calm) Read(b []byte) (int, error) {
	n, err := k.Conn.Read(b)
	if resets := k.follow(b[:n]); resets > 0 {
		k.resets += resets
		if k.resets > calmResets+k.answered.Load()+int64(time.Since(k.began)/time.Second)*calmPerSecond {
			k.Conn.Close()
			return 0, errRestless
		}
	}
	return n, err
}

// follow counts the RST_STREAM frames that begin in b.
func (k *calm) follow(b []byte) (resets int64) {
	const rstStream = 3
	for len(b) > 0 {
		if k.skip > 0 {
			n := min(k.skip, len(b))
			k.skip -= n
			b = b[n:]
			continue
		}
		n := min(frameHead-len(k.head), len(b))
		k.head = append(k.head, b[:n]...)
		b = b[n:]
		if len(k.head) == frameHead {
			k.skip = int(binary.BigEndian.Uint32(k.head) >> 8)
			if k.head[3] == rstStream {
				resets++
			}
			k.head = k.head[:0]
		}
	}
	return resets
}
