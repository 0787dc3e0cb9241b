package edge

import "strings"

// The begin of every HTTP/2 connection; the first four bytes are the begin of
// no other request: RFC 9113 3.4.
const prefaceMethod = "PRI "

// notHTTP2 is a GOAWAY for a connection that does not begin as HTTP/2 does:
// nothing was done, PROTOCOL_ERROR.
const notHTTP2 = "\x00\x00\x08\x07\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x01"

func beginsHTTP2(b []byte) bool {
	return len(b) >= len(prefaceMethod) && string(b[:len(prefaceMethod)]) == prefaceMethod
}

// undecided reads on while the n bytes in buf may still become either protocol.
// An error is met again by whoever reads next.
func (c *conn) undecided(buf *buffer, n int) int {
	for n < len(prefaceMethod) && strings.HasPrefix(prefaceMethod, string(buf[:n])) {
		if c.watch.readDue.Load() == 0 {
			c.watch.readDue.Store(c.edge.now() + int64(c.edge.cfg.HeaderTimeout))
		}
		k, err := c.Read(buf[n:])
		n += k
		if err != nil {
			break
		}
	}
	return n
}
