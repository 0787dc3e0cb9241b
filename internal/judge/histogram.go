package judge

import (
	"time"

	"gapless"
)

// histogram counts latencies by gapless.LatencyBucket. Within a bucket they
// are taken to be spread evenly.
type histogram [gapless.LatencyBuckets]float64

// add adds counts; those of buckets that do not exist are left out.
func (h *histogram) add(counts []uint64) {
	for b, n := range counts[:min(len(counts), len(h))] {
		h[b] += float64(n)
	}
}

func (h *histogram) scale(by float64) {
	for b := range h {
		h[b] *= by
	}
}

func (h *histogram) total() (n float64) {
	for _, c := range h {
		n += c
	}
	return n
}

func edge(b int) time.Duration {
	return time.Duration(gapless.LatencyBucketStart(b)) * time.Microsecond
}

// quantile is the latency below which a share q of the requests ended, 0 if
// there are none.
func (h *histogram) quantile(q float64) time.Duration {
	want, before := q*h.total(), 0.0
	for b, n := range h {
		if n > 0 && before+n >= want {
			return edge(b) + time.Duration(float64(edge(b+1)-edge(b))*max(0, want-before)/n)
		}
		before += n
	}
	return 0
}

// over is the share of the requests that took longer than d, 0 if there are none.
func (h *histogram) over(d time.Duration) float64 {
	total := h.total()
	if total == 0 {
		return 0
	}
	at := min(gapless.LatencyBucket(uint64(max(d, 0)/time.Microsecond)), len(h)-1)
	below := h[at] * min(1, float64(d-edge(at))/float64(edge(at+1)-edge(at)))
	for _, n := range h[:at] {
		below += n
	}
	return 1 - below/total
}
