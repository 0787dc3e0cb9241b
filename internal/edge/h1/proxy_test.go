package h1

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func block(command, family byte, body string) string {
	return proxySignature + string([]byte{command, family, byte(len(body) >> 8), byte(len(body))}) + body
}

// summed is a block with its checksum, which is added to by off.
func summed(command, family byte, body string, off byte) string {
	b := []byte(block(command, family, body+"\x03\x00\x04\x00\x00\x00\x00"))
	sum := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(b[len(b)-4:], sum)
	b[len(b)-1] += off
	return string(b)
}

func TestReadProxy(t *testing.T) {
	const v4 = "\x01\x02\x03\x04\x0a\x00\x00\x01\x10\x00\x00\x50"
	v6 := "\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01" + strings.Repeat("\x00", 15) + "\x01" + "\x10\x00\x01\xbb"
	for in, want := range map[string]string{
		"PROXY TCP4 1.2.3.4 10.0.0.1 4096 80\r\n":          "1.2.3.4:4096 10.0.0.1:80",
		"PROXY TCP6 2001:db8::1 ::1 4096 443\r\n":          "[2001:db8::1]:4096 [::1]:443",
		"PROXY UNKNOWN\r\n":                                "invalid AddrPort invalid AddrPort",
		"PROXY UNKNOWN what ever\r\n":                      "invalid AddrPort invalid AddrPort",
		block(0x21, 0x11, v4):                              "1.2.3.4:4096 10.0.0.1:80",
		block(0x21, 0x11, v4+"\x04\x00\x02ab\x05\x00\x00"): "1.2.3.4:4096 10.0.0.1:80",
		block(0x21, 0x21, v6):                              "[2001:db8::1]:4096 [::1]:443",
		block(0x20, 0x00, ""):                              "invalid AddrPort invalid AddrPort",
		block(0x20, 0x11, v4):                              "invalid AddrPort invalid AddrPort",
		block(0x21, 0x00, ""):                              "invalid AddrPort invalid AddrPort",
		block(0x21, 0x31, strings.Repeat("a", 216)):        "invalid AddrPort invalid AddrPort",
		summed(0x21, 0x11, v4, 0):                          "1.2.3.4:4096 10.0.0.1:80",
	} {
		r := strings.NewReader(in + "GET / HTTP/1.1")
		p, err := ReadProxy(iotest.OneByteReader(r))
		if got := p.From.String() + " " + p.To.String(); err != nil || got != want {
			t.Errorf("%q: %s, %v", in, got, err)
		}
		if rest, _ := io.ReadAll(r); string(rest) != "GET / HTTP/1.1" {
			t.Errorf("%q: %q is left", in, rest)
		}
	}
	for _, in := range []string{
		"", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "PROXY TCP4 1.2.3.4 10.0.0.1 4096 80\n", "PROXY TCP4 1.2.3.4 10.0.0.1 4096 80 \r\n",
		"PROXY TCP4  1.2.3.4 10.0.0.1 4096 80\r\n", "PROXY TCP4 1.2.3.4 10.0.0.1 4096\r\n", "PROXY TCP4 1.2.3.4 10.0.0.1 04096 80\r\n", "PROXY TCP4 1.2.3.4 10.0.0.1 65536 80\r\n",
		"PROXY TCP4 ::1 ::1 1 2\r\n", "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", "PROXY TCP6 fe80::1%lo ::1 1 2\r\n", "PROXY UDP4 1.2.3.4 10.0.0.1 1 2\r\n", "proxy TCP4 1.2.3.4 10.0.0.1 4096 80\r\n",
		"PROXY TCP4 1.2.3.4 10.0.0.1 +4 80\r\n", "PROXY UNKNOWNX\r\n", "PROXY UNKNOWN " + strings.Repeat("x", 100) + "\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4\r 1 2\r\n",
		block(0x22, 0x11, v4), block(0x11, 0x11, v4), block(0x21, 0x11, v4[:11]), block(0x21, 0x12, v4), block(0x21, 0x13, v4), block(0x21, 0x11, v4+"\x04\x00"), block(0x21, 0x11, v4+"\x04\x00\x09ab"),
		block(0x21, 0x11, v4+strings.Repeat("\x04\x00\x00", 1500)), block(0x21, 0x11, v4)[:20], summed(0x21, 0x11, v4, 1),
	} {
		if p, err := ReadProxy(strings.NewReader(in)); err == nil {
			t.Errorf("%q was read as %v", in, p)
		}
	}
}

func FuzzReadProxy(f *testing.F) {
	f.Add([]byte("PROXY TCP4 1.2.3.4 10.0.0.1 4096 80\r\nrest"))
	f.Add([]byte(block(0x21, 0x11, "\x01\x02\x03\x04\x0a\x00\x00\x01\x10\x00\x00\x50\x04\x00\x00")))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		p, err := ReadProxy(r)
		if read := len(in) - r.Len(); read > 16+maxProxyBlock {
			t.Fatalf("%d bytes were read", read)
		}
		if err != nil {
			return
		}
		head := in[:len(in)-r.Len()]
		again, err := ReadProxy(iotest.OneByteReader(bytes.NewReader(head))) // what it needs is what it took
		if err != nil || again != p {
			t.Fatalf("%v %v, then %v", p, err, again)
		}
		if p.From.IsValid() != p.To.IsValid() {
			t.Fatalf("%v", p)
		}
		if head[0] == 'P' && p.From.IsValid() { // of a line there is one way to write it, but for IPv6
			if p.From.Addr().Is4() && !bytes.Contains(head, []byte("TCP6")) {
				want := "PROXY TCP4 " + p.From.Addr().String() + " " + p.To.Addr().String()
				if !bytes.HasPrefix(head, []byte(want)) {
					t.Fatalf("%q is read as %v", head, p)
				}
			}
		}
	})
}
