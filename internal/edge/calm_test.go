package edge

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

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

// TestCalmAllows: all streams may be reset at once, and any number of them in
// the course of time or among others that are answered; not more.
func TestCalmAllows(t *testing.T) {
	start := time.Now()
	k := newCalm(nil)
	k.last = start
	if !k.allows(calmResets, start) {
		t.Error("all at once: cut")
	}
	now := start.Add(time.Hour) // what was not used is not saved up
	if !k.allows(calmResets, now) || k.allows(1, now) {
		t.Error("one more than all, after an hour: not cut")
	}
	k.left, k.last = calmResets, start
	for i := range 10 * calmResets {
		if !k.allows(1, start.Add(time.Duration(i)*time.Second/calmPerSecond)) {
			t.Fatalf("slow: cut at reset %d", i)
		}
	}
	k.left, k.last = calmResets, start
	for i := range 10 * calmResets {
		k.answered.Add(1)
		if !k.allows(1, start) {
			t.Fatalf("among answered ones: cut at reset %d", i)
		}
	}
}

// TestCalmCuts: whoever resets streams without end loses the connection.
func TestCalmCuts(t *testing.T) {
	us, them := net.Pipe()
	defer us.Close()
	go func() {
		defer them.Close()
		io.WriteString(them, http2.ClientPreface)
		fr := http2.NewFramer(them, nil)
		for id := uint32(1); id < 1<<20 && fr.WriteRSTStream(id, http2.ErrCodeCancel) == nil; id += 2 {
		}
	}()
	if _, err := io.Copy(io.Discard, newCalm(us)); err != errRestless {
		t.Errorf("got %v", err)
	}
}
