package edge

import "encoding/binary"

const frameHead = 9 // of an HTTP/2 frame: length (3), type, flags, stream (4)

// frames2 follows one direction of an HTTP/2 connection from frame to frame.
type frames2 struct {
	head []byte // of the frame under way, as long as it is not whole
	left int    // bytes until the next head
}

// next goes on with b and returns what is left of it after the first frame
// head that ends in it; ok: there was one, kind is its type.
func (f *frames2) next(b []byte) (rest []byte, kind byte, ok bool) {
	n := min(f.left, len(b))
	f.left -= n
	b = b[n:]
	n = min(frameHead-len(f.head), len(b))
	f.head = append(f.head, b[:n]...)
	b = b[n:]
	if len(f.head) < frameHead {
		return b, 0, false
	}
	f.left = int(binary.BigEndian.Uint32(f.head) >> 8)
	kind = f.head[3]
	f.head = f.head[:0]
	return b, kind, true
}

// between reports whether no frame is under way.
func (f *frames2) between() bool { return f.left == 0 && len(f.head) == 0 }
