package h1

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net/netip"
	"strconv"
)

// Proxied is what a PROXY protocol header says. Zero addresses: the proxy
// speaks for itself (a health check), or does not know.
type Proxied struct {
	From, To netip.AddrPort
}

var errProxy = errors.New("malformed PROXY protocol header")

const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	maxProxyLine   = 107     // of version 1, as its text says
	maxProxyBlock  = 4 << 10 // of version 2, without its first 16 bytes
)

// ReadProxy reads a PROXY protocol header of version 1 or 2, and not a byte
// more. It refuses what is not exactly as the protocol has it.
func ReadProxy(r io.Reader) (Proxied, error) {
	var b [maxProxyLine]byte
	n := 15 // of the shortest line; version 2 has 16 and more
	if _, err := io.ReadFull(r, b[:n]); err != nil {
		return Proxied{}, err
	}
	if string(b[:12]) == proxySignature {
		if _, err := io.ReadFull(r, b[n:n+1]); err != nil {
			return Proxied{}, err
		}
		return readBlock(r, b[12:16])
	}
	if string(b[:6]) != "PROXY " {
		return Proxied{}, errProxy
	}
	for !bytes.HasSuffix(b[:n], []byte("\r\n")) {
		if n == len(b) || bytes.IndexByte(b[:n], '\n') >= 0 {
			return Proxied{}, errProxy
		}
		if _, err := io.ReadFull(r, b[n:n+1]); err != nil {
			return Proxied{}, err
		}
		n++
	}
	if bytes.IndexByte(b[:n-2], '\n') >= 0 || bytes.IndexByte(b[:n-2], '\r') >= 0 {
		return Proxied{}, errProxy
	}
	return readLine(string(b[6 : n-2]))
}

func readLine(s string) (Proxied, error) {
	if s == "UNKNOWN" || len(s) > 8 && s[:8] == "UNKNOWN " {
		return Proxied{}, nil
	}
	var part [5]string
	for k := range part {
		i := 0
		for i < len(s) && s[i] != ' ' {
			i++
		}
		if i == 0 || (i == len(s)) != (k == 4) {
			return Proxied{}, errProxy
		}
		if part[k] = s[:i]; k < 4 {
			s = s[i+1:]
		}
	}
	from, ok1 := proxyAddr(part[0], part[1], part[3])
	to, ok2 := proxyAddr(part[0], part[2], part[4])
	if !ok1 || !ok2 {
		return Proxied{}, errProxy
	}
	return Proxied{from, to}, nil
}

func proxyAddr(family, address, port string) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(address)
	if err != nil || a.Zone() != "" || !(family == "TCP4" && a.Is4() || family == "TCP6" && a.Is6()) {
		return netip.AddrPort{}, false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || port != strconv.FormatUint(n, 10) {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), true
}

// readBlock reads what follows the signature of version 2; head has the four
// bytes after it.
func readBlock(r io.Reader, head []byte) (Proxied, error) {
	size := int(binary.BigEndian.Uint16(head[2:]))
	if head[0] != 0x20 && head[0] != 0x21 || size > maxProxyBlock {
		return Proxied{}, errProxy
	}
	all := make([]byte, 16+size)
	copy(all, proxySignature)
	copy(all[12:], head)
	b := all[16:]
	if _, err := io.ReadFull(r, b); err != nil {
		return Proxied{}, err
	}
	local := head[0] == 0x20
	addresses := map[byte]int{0x00: 0, 0x11: 12, 0x21: 36, 0x31: 216, 0x32: 216, 0x12: 12, 0x22: 36}
	n, ok := addresses[head[1]]
	if !ok || len(b) < n && !local {
		return Proxied{}, errProxy
	}
	if local && len(b) < n {
		return Proxied{}, nil // its addresses are to be ignored, whatever they are
	}
	if !local && (head[1] == 0x12 || head[1] == 0x22 || head[1] == 0x32) {
		return Proxied{}, errProxy // datagrams: not on this connection
	}
	if !checkExtras(all, 16+n) {
		return Proxied{}, errProxy
	}
	var p Proxied
	switch port := binary.BigEndian.Uint16; {
	case local:
	case head[1] == 0x11:
		p.From = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[:4])), port(b[8:]))
		p.To = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), port(b[10:]))
	case head[1] == 0x21:
		p.From = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[:16])).Unmap(), port(b[32:]))
		p.To = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[16:32])).Unmap(), port(b[34:]))
	}
	return p, nil
}

// checkExtras goes through the type-length-value fields from offset p on, and
// compares the checksum if there is one.
func checkExtras(all []byte, p int) bool {
	for p < len(all) {
		if p+3 > len(all) {
			return false
		}
		n := int(binary.BigEndian.Uint16(all[p+1:]))
		if p+3+n > len(all) {
			return false
		}
		if all[p] == 0x03 { // CRC32C of the whole header, with zeros here
			if n != 4 {
				return false
			}
			want := binary.BigEndian.Uint32(all[p+3:])
			clear(all[p+3 : p+7])
			got := crc32.Checksum(all, crc32.MakeTable(crc32.Castagnoli))
			binary.BigEndian.PutUint32(all[p+3:], want)
			if got != want {
				return false
			}
		}
		p += 3 + n
	}
	return true
}
