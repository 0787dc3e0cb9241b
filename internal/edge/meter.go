package edge

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// pace is how many requests of one address are fine; every 0: any number.
type pace struct {
	every int64 // nanoseconds per request
	slack int64 // nanoseconds that a burst may be ahead of that
}

// paceOf is the pace of so many requests per second, after a burst of them.
// Without one it is what comes in two seconds.
func paceOf(perSecond float64, burst int) pace {
	if perSecond <= 0 {
		return pace{}
	}
	every := max(int64(float64(time.Second)/perSecond), 1)
	if burst <= 0 {
		burst = max(int(math.Ceil(2*perSecond)), 1)
	}
	return pace{every, int64(burst-1) * every}
}

const (
	meterSets = 4096 // a power of 2
	meterWays = 16   // addresses with one hash; 1 MiB in all
)

// meter is a token bucket per address in a table of fixed size. When a set is
// full, the address with the fullest bucket is forgotten, which costs it
// nothing: so many addresses cannot make one forgotten that asks too much.
// Instead of tokens it keeps when the bucket will be full again.
type meter struct {
	sets atomic.Pointer[[meterSets]meterSet] // made when it is needed
	once sync.Once
	hash maphash.Seed
}

type meterSet struct {
	mu   sync.Mutex
	key  [meterWays]uint64
	full [meterWays]int64 // edge clock
}

// take reports whether a request of an address at now is within its pace.
func (m *meter) take(p pace, seed uint64, a netip.Addr, now int64) bool {
	sets := m.sets.Load()
	if sets == nil {
		m.once.Do(func() {
			m.hash = maphash.MakeSeed()
			m.sets.Store(new([meterSets]meterSet))
		})
		sets = m.sets.Load()
	}
	var b [24]byte
	binary.LittleEndian.PutUint64(b[:], seed)
	a16 := group(a).As16()
	copy(b[8:], a16[:])
	key := maphash.Bytes(m.hash, b[:])
	s := &sets[key%meterSets]
	s.mu.Lock()
	defer s.mu.Unlock()
	at := 0
	for i := range s.key {
		if s.key[i] == key {
			at = i
			break
		}
		if s.full[i] < s.full[at] {
			at = i
		}
	}
	if s.key[at] != key {
		s.key[at], s.full[at] = key, 0
	}
	full := max(s.full[at], now)
	if full-now > p.slack {
		return false
	}
	s.full[at] = full + p.every
	return true
}

// group is what counts as one client: an IPv4 address, or the /64 of an IPv6
// address, of which everybody has more than enough.
func group(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

// seedOf makes apps differ in the meter.
func seedOf(app string) uint64 {
	h := uint64(14695981039346656037) // FNV-1a
	for i := range len(app) {
		h = (h ^ uint64(app[i])) * 1099511628211
	}
	return h
}
