package load

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// frame is one whole WebSocket message or control frame (RFC 6455).
type frame struct {
	op      byte
	payload []byte
}

// write sends one masked frame of less than 64 KiB in one piece, so that
// frames of the two goroutines that write never mix.
func (c *conn) write(op byte, payload []byte) error {
	b := make([]byte, 0, len(payload)+8)
	if n := len(payload); n < 126 {
		b = append(b, 0x80|op, 0x80|byte(n))
	} else {
		b = append(b, 0x80|op, 0x80|126, byte(n>>8), byte(n))
	}
	var mask [4]byte
	binary.LittleEndian.PutUint32(mask[:], rand.Uint32())
	b = append(b, mask[:]...)
	for i, v := range payload {
		b = append(b, v^mask[i&3])
	}
	c.SetWriteDeadline(time.Now().Add(goodbye))
	_, err := c.Write(b)
	return err
}

// readFrame reads one message, put together if it comes in fragments, or one
// control frame. Whatever RFC 6455 forbids a server is Malformed.
func (c *conn) readFrame() (frame, error) {
	var message *frame
	for {
		op, final, payload, err := c.readPiece()
		if err != nil {
			return frame{}, err
		}
		switch {
		case op >= opClose:
			if !final || len(payload) > 125 {
				return frame{}, failf(Malformed, "control frame %d is fragmented or too long", op)
			}
			if message == nil {
				return frame{op, payload}, nil
			}
			if op == opPing { // between the fragments of a message
				c.write(opPong, payload)
			} else if op == opClose {
				return frame{op, payload}, nil
			}
			continue
		case op == 0 && message == nil, op != 0 && message != nil, op > 2:
			return frame{}, failf(Malformed, "unexpected WebSocket opcode %d", op)
		case message == nil:
			message = &frame{op, payload}
		default:
			message.payload = append(message.payload, payload...)
		}
		if final {
			return *message, nil
		}
	}
}

func (c *conn) readPiece() (op byte, final bool, payload []byte, err error) {
	var h [2]byte
	if _, err = io.ReadFull(c.in, h[:]); err != nil {
		return 0, false, nil, err
	}
	if h[0]&0x70 != 0 || h[1]&0x80 != 0 {
		return 0, false, nil, failf(Malformed, "frame head %x: reserved bits or a mask from the server", h)
	}
	n := uint64(h[1])
	var ext [8]byte
	switch n {
	case 126:
		_, err = io.ReadFull(c.in, ext[:2])
		n = uint64(binary.BigEndian.Uint16(ext[:2]))
	case 127:
		_, err = io.ReadFull(c.in, ext[:])
		n = binary.BigEndian.Uint64(ext[:])
	}
	if err == nil && n > maxBody {
		err = failf(Malformed, "frame of %d bytes", n)
	}
	if err != nil {
		return 0, false, nil, err
	}
	payload = make([]byte, n)
	if _, err = io.ReadFull(c.in, payload); err != nil {
		return 0, false, nil, fmt.Errorf("within a frame: %w", err)
	}
	return h[0] & 0x0f, h[0]&0x80 != 0, payload, nil
}
