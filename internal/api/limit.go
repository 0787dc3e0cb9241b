package api

import (
	"math"
	"sync"
	"time"
)

// Limits of what the network may ask for. The unix socket has none: who may
// use it could do more harm in other ways.
const (
	callRate  = 20.0 // requests per second of one token
	callBurst = 60

	strangerRate  = 0.2 // requests per second of one address without a valid token
	strangerBurst = 10

	maxStreams    = 64 // at once, of all tokens
	maxPerCaller  = 16 // at once, of one token
	maxRemembered = 10_000
)

// bucket is a token bucket: it fills at a rate, and each request takes one.
type bucket struct {
	left float64
	at   time.Time // when left was true
}

// limiter holds one bucket per key. It is safe for concurrent use.
type limiter struct {
	rate, burst float64

	mu      sync.Mutex
	buckets map[string]bucket
}

func newLimiter(rate, burst float64) *limiter {
	return &limiter{rate: rate, burst: burst, buckets: map[string]bucket{}}
}

// take reports whether key may do one more thing at now; if not, when it may.
func (l *limiter) take(key string, now time.Time) (ok bool, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, known := l.buckets[key]
	if !known {
		l.makeRoom(now)
		b = bucket{left: l.burst, at: now}
	}
	if passed := now.Sub(b.at).Seconds(); passed > 0 {
		b.left, b.at = math.Min(l.burst, b.left+passed*l.rate), now
	}
	if b.left < 1 {
		l.buckets[key] = b
		return false, time.Duration((1 - b.left) / l.rate * float64(time.Second))
	}
	b.left--
	l.buckets[key] = b
	return true, 0
}

// makeRoom forgets full buckets, which are as good as none, and, where there
// are too many others, all: memory is bounded whoever knocks.
func (l *limiter) makeRoom(now time.Time) {
	if len(l.buckets) < maxRemembered {
		return
	}
	for key, b := range l.buckets {
		if b.left+now.Sub(b.at).Seconds()*l.rate >= l.burst {
			delete(l.buckets, key)
		}
	}
	if len(l.buckets) >= maxRemembered {
		clear(l.buckets)
	}
}

// streams counts the streams that are open.
type streams struct {
	mu  sync.Mutex
	all int
	of  map[string]int
}

// open reports whether key may have one more; each that was opened is closed.
func (s *streams) open(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= maxStreams || s.of[key] >= maxPerCaller {
		return false
	}
	s.all++
	s.of[key]++
	return true
}

func (s *streams) close(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.of[key]--; s.of[key] == 0 {
		delete(s.of, key)
	}
}
