package h1

import "encoding/binary"

// Frames follows the frames of one direction of a WebSocket, so that a close
// frame of our own can be put between two of them. It does not look into them.
type Frames struct {
	head   [14]byte
	have   int    // bytes of head so far
	left   uint64 // payload bytes to come
	opcode byte
	Closed bool // a close frame went through
}

// Boundary reports whether no frame is under way. Control frames are allowed
// here even between the fragments of one message.
func (f *Frames) Boundary() bool { return f.have == 0 && f.left == 0 }

// Next consumes the bytes of b that belong to the frame under way, or to the
// next one, and returns how many there were. At most one frame ends in it.
func (f *Frames) Next(b []byte) (n int) {
	for n < len(b) {
		if f.left > 0 {
			k := min(uint64(len(b)-n), f.left)
			f.left -= k
			n += int(k)
			if f.left == 0 {
				f.end()
			}
			return n
		}
		f.head[f.have] = b[n]
		f.have++
		n++
		if f.have < 2 || f.have < headSize(f.head[1]) {
			continue
		}
		f.opcode = f.head[0] & 0x0f
		switch l := f.head[1] & 0x7f; l {
		case 126:
			f.left = uint64(binary.BigEndian.Uint16(f.head[2:]))
		case 127:
			f.left = binary.BigEndian.Uint64(f.head[2:])
		default:
			f.left = uint64(l)
		}
		f.have = 0
		if f.left == 0 {
			f.end()
			return n
		}
	}
	return n
}

func (f *Frames) end() { f.Closed = f.Closed || f.opcode == opClose }

func headSize(second byte) int {
	n := 2
	switch second & 0x7f {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if second&0x80 != 0 {
		n += 4
	}
	return n
}

const opClose = 8

// AppendClose appends a close frame with a status and a reason (at most 123
// bytes); masked as clients must send it, with a zero mask.
func AppendClose(out []byte, status uint16, reason string, masked bool) []byte {
	reason = reason[:min(len(reason), 123)]
	second := byte(2 + len(reason))
	if masked {
		out = append(out, 0x80|opClose, second|0x80, 0, 0, 0, 0)
	} else {
		out = append(out, 0x80|opClose, second)
	}
	out = binary.BigEndian.AppendUint16(out, status)
	return append(out, reason...)
}
