package load

import (
	"math/bits"
	"time"
)

// hist counts latencies in microseconds, 32 buckets per power of two: a
// quantile is at most 3 % below the true one.
type hist struct {
	count [1024]uint32
	total uint64
	max   time.Duration
}

func bucket(us uint64) int {
	if us < 32 {
		return int(us)
	}
	shift := bits.Len64(us) - 6
	return min(32*(shift+1)+int(us>>shift)-32, len(hist{}.count)-1)
}

func bucketStart(b int) time.Duration {
	us := uint64(b)
	if b >= 32 {
		us = uint64(b%32+32) << (b/32 - 1)
	}
	return time.Duration(us) * time.Microsecond
}

func (h *hist) add(d time.Duration) {
	h.count[bucket(uint64(max(d, 0).Microseconds()))]++
	h.total++
	h.max = max(h.max, d)
}

// quantile returns the latency that a share q of the counted ones did not exceed.
func (h *hist) quantile(q float64) time.Duration {
	var n uint64
	for b, c := range h.count {
		n += uint64(c)
		if c > 0 && float64(n) >= q*float64(h.total) {
			return bucketStart(b)
		}
	}
	return 0
}

// sub returns h without what prev had counted; its max is that of h.
func (h *hist) sub(prev *hist) *hist {
	d := *h
	if prev == nil {
		return &d
	}
	for b, c := range prev.count {
		d.count[b] -= c
	}
	d.total -= prev.total
	return &d
}
