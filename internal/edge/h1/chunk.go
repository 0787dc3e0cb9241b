package h1

import "strconv"

var (
	errChunk   = &Refusal{400, "malformed chunked body"}
	errTrailer = &Refusal{400, "a trailer of a chunked body names a field that belongs before it"}
)

const (
	maxExtension = 256     // bytes of one chunk's extension
	maxTrailer   = 8 << 10 // bytes of all trailer fields
	maxKnown     = 19      // bytes of the longest name that classify knows
)

// Chunk follows the chunked framing of one body. Its zero value stands at
// the start of a body.
type Chunk struct {
	state  chunkState
	digits uint8
	count  int // bytes of the extension or the trailers so far
	left   int64
	data   int64          // bytes of data so far
	name   [maxKnown]byte // of the trailer
	named  uint8          // bytes in it; more than maxKnown: it is longer
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkExtension
	chunkSizeLF
	chunkData
	chunkDataCR
	chunkDataLF
	trailerStart
	trailerName
	trailerValue
	trailerLF
	lastLF
)

// Feed consumes framed bytes. It returns how many belong to this body, and
// whether the body ended with them.
func (c *Chunk) Feed(b []byte) (n int, done bool, err *Refusal) {
	for n < len(b) && !done {
		_, k, d, err := c.Next(b[n:])
		if err != nil {
			return n, false, err
		}
		n, done = n+k, d
	}
	return n, done, nil
}

// Data is how many bytes of the body, without its framing, were consumed.
func (c *Chunk) Data() int64 { return c.data }

// Boundary reports whether a whole chunk has just ended, or none has begun.
func (c *Chunk) Boundary() bool { return c.state == chunkSize && c.digits == 0 }

// InTrailer reports whether the next byte belongs to the trailers, or to the
// empty line after them.
func (c *Chunk) InTrailer() bool { return c.state >= trailerStart }

// Next consumes n bytes of b up to the end of the next piece of data, and
// returns that piece (nil if b ended before there was one).
func (c *Chunk) Next(b []byte) (data []byte, n int, done bool, err *Refusal) {
	for n < len(b) {
		ch := b[n]
		switch c.state {
		case chunkSize:
			switch d := hexDigit(ch); {
			case d >= 0:
				if c.digits == 15 {
					return nil, n, false, errChunk
				}
				c.digits++
				c.left = c.left<<4 | int64(d)
			case c.digits == 0:
				return nil, n, false, errChunk
			case ch == '\r':
				c.state = chunkSizeLF
			case ch == ';':
				c.state, c.count = chunkExtension, 0
			default:
				return nil, n, false, errChunk
			}
			n++
		case chunkExtension:
			c.count++
			switch {
			case ch == '\r':
				c.state = chunkSizeLF
			case c.count > maxExtension || ch == 0x7f || ch < 0x20 && ch != '\t':
				return nil, n, false, errChunk
			}
			n++
		case chunkSizeLF:
			if ch != '\n' {
				return nil, n, false, errChunk
			}
			n++
			c.digits = 0
			if c.left > 0 {
				c.state = chunkData
			} else {
				c.state, c.count = trailerStart, 0
				return nil, n, false, nil // so that callers see where the trailers begin
			}
		case chunkData:
			k := min(int64(len(b)-n), c.left)
			data = b[n : n+int(k)]
			n += int(k)
			c.left -= k
			c.data += k
			if c.left == 0 {
				c.state = chunkDataCR
			}
			return data, n, false, nil
		case chunkDataCR:
			if ch != '\r' {
				return nil, n, false, errChunk
			}
			n++
			c.state = chunkDataLF
		case chunkDataLF:
			if ch != '\n' {
				return nil, n, false, errChunk
			}
			n++
			c.state = chunkSize
		default:
			done, err = c.trailer(ch)
			if err != nil {
				return nil, n, false, err
			}
			n++
			if done {
				return nil, n, true, nil
			}
		}
	}
	return nil, n, false, nil
}

func (c *Chunk) trailer(ch byte) (done bool, err *Refusal) {
	if c.count++; c.count > maxTrailer {
		return false, errChunk
	}
	switch c.state {
	case trailerStart:
		switch {
		case ch == '\r':
			c.state = lastLF
		case token[ch] != 0:
			c.state, c.named = trailerName, 1
			c.name[0] = ch
		default:
			return false, errChunk
		}
	case trailerName:
		switch {
		case ch == ':':
			if c.named <= maxKnown && !belongsBehind(classify(c.name[:c.named])) {
				return false, errTrailer
			}
			c.state = trailerValue
		case token[ch] == 0:
			return false, errChunk
		case c.named < maxKnown:
			c.name[c.named] = ch
			c.named++
		default:
			c.named = maxKnown + 1
		}
	case trailerValue:
		switch {
		case ch == '\r':
			c.state = trailerLF
		case ch == 0x7f || ch < 0x20 && ch != '\t':
			return false, errChunk
		}
	case trailerLF:
		if ch != '\n' {
			return false, errChunk
		}
		c.state = trailerStart
	case lastLF:
		if ch != '\n' {
			return false, errChunk
		}
		*c = Chunk{data: c.data}
		return true, nil
	}
	return false, nil
}

// belongsBehind reports whether a field of that kind may be a trailer. One that
// frames, routes or says who asked may not: who reads trailers as if they had
// come before the body would be told something that nobody has looked at.
func belongsBehind(k kind) bool {
	switch k {
	case plain, contentType, cookie, requestID:
		return true
	}
	return false
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// LastChunk ends a chunked body that has no trailers.
const LastChunk = "0\r\n\r\n"

// AppendChunk appends data as one chunk; empty data appends nothing.
func AppendChunk(out, data []byte) []byte {
	if len(data) == 0 {
		return out
	}
	out = strconv.AppendInt(out, int64(len(data)), 16)
	out = append(out, "\r\n"...)
	out = append(out, data...)
	return append(out, "\r\n"...)
}
