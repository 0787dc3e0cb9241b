package h1

import (
	"bytes"
	"io"
	"net/http/httputil"
	"strings"
	"testing"
)

func decode(b []byte, step int) (data []byte, used int, done bool, err *Refusal) {
	var c Chunk
	for used < len(b) && !done {
		part := b[used:min(used+step, len(b))]
		for len(part) > 0 && !done {
			var piece []byte
			var n int
			piece, n, done, err = c.Next(part)
			if err != nil {
				return data, used, false, err
			}
			data = append(data, piece...)
			part, used = part[n:], used+n
		}
	}
	return data, used, done, nil
}

func TestRefusesDoubtfulChunks(t *testing.T) {
	for _, s := range []string{
		"5\nhello\r\n0\r\n\r\n", "\r\nhello", "0x5\r\nhello\r\n", "+5\r\nhello\r\n", "-1\r\n", " 5\r\nhello\r\n",
		"5 \r\nhello\r\n", "5 ;x\r\nhello\r\n", "5;x\nhello\r\n", "5\r\nhelloX\r\n", "5\r\nhello\n0\r\n\r\n",
		"5;" + strings.Repeat("x", maxExtension+1) + "\r\nhello\r\n",
		"FFFFFFFFFFFFFFFF\r\n", "0000000000000005\r\nhello\r\n",
		"0\r\nX : y\r\n\r\n", "0\r\n x: y\r\n\r\n", "0\r\nx\r\n\r\n", "0\r\nx: \x00\r\n\r\n", "0\r\nx: y\n\r\n", "0\r\n\n",
		"0\r\n" + strings.Repeat("x: y\r\n", maxTrailer/6+1) + "\r\n",
	} {
		if data, _, done, err := decode([]byte(s), len(s)); err == nil {
			t.Errorf("%.60q: accepted as %q (done %v)", s, data, done)
		}
	}
}

func TestReadsChunks(t *testing.T) {
	in := "5;a=\"b\"\r\nhello\r\n1\r\n \r\n00a\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n"
	for step := 1; step <= len(in)+4; step++ {
		data, used, done, err := decode([]byte(in+"GET "), step)
		if err != nil || !done || used != len(in) || string(data) != "hello 0123456789" {
			t.Fatalf("step %d: %q, %d of %d, %v, %v", step, data, used, len(in), done, err)
		}
	}
	out := AppendChunk(AppendChunk(nil, nil), []byte("hello"))
	if string(out) != "5\r\nhello\r\n" {
		t.Errorf("own chunk: %q", out)
	}
}

// FuzzChunk: the same bytes mean the same however they are divided, and what
// is accepted means the same to net/http.
func FuzzChunk(f *testing.F) {
	f.Add([]byte("5\r\nhello\r\n0\r\n\r\n"), 3)
	f.Add([]byte("a;x=y\r\n0123456789\r\n0\r\nX: y\r\n\r\nrest"), 1)
	f.Fuzz(func(t *testing.T, in []byte, step int) {
		if step < 1 {
			step = 1
		}
		data, used, done, err := decode(in, len(in)+1)
		data2, used2, done2, err2 := decode(in, step)
		if (err == nil) != (err2 == nil) || done != done2 || err == nil && (used != used2 || !bytes.Equal(data, data2)) {
			t.Fatalf("%q in steps of %d: %q %d %v %v, whole: %q %d %v %v", in, step, data2, used2, done2, err2, data, used, done, err)
		}
		var c Chunk
		n, d, e := c.Feed(in)
		if (e == nil) != (err == nil) || d != done || e == nil && n != used {
			t.Fatalf("Feed and Next differ on %q", in)
		}
		if done && err == nil {
			b, e := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(in[:used])))
			if e != nil || !bytes.Equal(b, data) {
				t.Fatalf("net/http reads %q as %q, %v; not %q", in[:used], b, e, data)
			}
		}
	})
}

func TestFindsFrameBoundaries(t *testing.T) {
	var frames []byte
	var ends []int
	add := func(b ...byte) { frames = append(frames, b...); ends = append(ends, len(frames)) }
	add(append([]byte{0x81, 5}, "hello"...)...)
	add(0x89, 0)                                                  // ping without payload
	add(append([]byte{0x01, 126, 1, 0}, make([]byte, 256)...)...) // first fragment
	add(append([]byte{0x80, 127, 0, 0, 0, 0, 0, 1, 0, 0}, make([]byte, 65536)...)...)
	add(append([]byte{0x82, 0x80 | 3, 1, 2, 3, 4}, "abc"...)...) // masked
	add(AppendClose(nil, 1001, "bye", false)...)
	for _, step := range []int{1, 2, 3, 7, 1000, len(frames)} {
		var f Frames
		at := map[int]bool{}
		for from := 0; from < len(frames); {
			part := frames[from:min(from+step, len(frames))]
			for len(part) > 0 {
				n := f.Next(part)
				from, part = from+n, part[n:]
				if f.Boundary() {
					at[from] = true
				}
			}
		}
		if len(at) != len(ends) || !f.Closed {
			t.Errorf("step %d: %d boundaries, want %d; closed %v", step, len(at), len(ends), f.Closed)
		}
		for _, e := range ends {
			if !at[e] {
				t.Errorf("step %d: no boundary at %d", step, e)
			}
		}
	}
}
