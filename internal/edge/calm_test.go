package edge

import (
	"bytes"
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"
)

// TestCalmCounts: resets are found however the frames are divided.
func TestCalmCounts(t *testing.T) {
	var b bytes.Buffer
	io.WriteString(&b, http2.ClientPreface)
	fr := http2.NewFramer(&b, nil)
	fr.WriteSettings()
	for id := uint32(1); id < 100; id += 2 {
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{3, 3, 3, 3, 3}, EndHeaders: true})
		fr.WriteData(id, false, bytes.Repeat([]byte{3}, 100))
		fr.WriteRSTStream(id, http2.ErrCodeCancel)
		fr.WritePing(false, [8]byte{3, 3, 3, 3})
	}
	for step := 1; step < 200; step++ {
		k, n := newCalm(nil), int64(0)
		for rest := b.Bytes(); len(rest) > 0; {
			part := rest[:min(step, len(rest))]
			n += k.follow(part)
			rest = rest[len(part):]
		}
		if n != 50 {
			t.Fatalf("%d bytes at a time: %d resets, want 50", step, n)
		}
	}
}

// TestCalmCuts: whoever resets streams without end loses the connection, and
// whoever resets some of those that were answered does not.
func TestCalmCuts(t *testing.T) {
	const resets = calmResets + 2
	connection := func() (*calm, net.Conn) {
		us, them := net.Pipe()
		t.Cleanup(func() { us.Close(); them.Close() })
		return newCalm(us), them
	}
	send := func(them net.Conn) {
		io.WriteString(them, http2.ClientPreface)
		fr := http2.NewFramer(them, nil)
		for i := range uint32(resets) {
			if fr.WriteRSTStream(2*i+1, http2.ErrCodeCancel) != nil {
				return
			}
		}
		them.Close()
	}
	restless, them := connection()
	restless.began = restless.began.Add(1 << 40) // no second passes
	go send(them)
	if _, err := io.Copy(io.Discard, restless); err != errRestless {
		t.Errorf("after %d resets: %v", resets, err)
	}
	good, them := connection()
	good.answered.Store(resets)
	go send(them)
	if _, err := io.Copy(io.Discard, good); err != nil {
		t.Errorf("%d resets and as many answers: %v", resets, err)
	}
	slow, them := connection()
	slow.began = slow.began.Add(-1 << 40) // a quarter of an hour
	go send(them)
	if _, err := io.Copy(io.Discard, slow); err != nil {
		t.Errorf("%d resets in a long time: %v", resets, err)
	}
}
