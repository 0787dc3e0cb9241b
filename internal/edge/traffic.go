package edge

import (
	"sync/atomic"
	"time"

	"gapless"
)

// traffic counts what the coin gave to one release. Counts only grow for the
// life of the generation, whatever tables come and go.
type traffic struct {
	app, release string

	requests, failed, aborted, retried, held atomic.Uint64

	spent, over atomic.Uint64
	tempo       tempo
	failing     failing

	heldMax atomic.Int64              // nanoseconds
	log     atomic.Pointer[accessLog] // nil: none is written
	status  [6]atomic.Uint64
	latency [gapless.LatencyBuckets]atomic.Uint64
}

// answered counts the head of an instance's answer. The latency is the time
// to that head, without the time the request was held: how long a body takes
// is often the client's doing.
func (t *traffic) answered(i *instance, status int, took time.Duration) {
	t.status[min(status/100, 5)].Add(1)
	b := gapless.LatencyBucket(uint64(max(took, 0) / time.Microsecond))
	t.latency[b].Add(1)
	i.latency[b].Add(1)
	if status >= 500 {
		i.bad.Add(1)
	}
}

// waited keeps the longest time that a request was held.
func (t *traffic) waited(d time.Duration) {
	for {
		old := t.heldMax.Load()
		if int64(d) <= old || t.heldMax.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

func (t *traffic) report() gapless.ReleaseTraffic {
	r := gapless.ReleaseTraffic{
		App: t.app, Release: t.release,
		Requests: t.requests.Load(), Failed: t.failed.Load(), Aborted: t.aborted.Load(),
		Retried: t.retried.Load(), Held: t.held.Load(), HeldMax: gapless.Duration(t.heldMax.Load()),
		Spent: t.spent.Load(), Over: t.over.Load(),
		Latency: make([]uint64, gapless.LatencyBuckets), Failing: t.failing.report(),
	}
	for i := range r.Status {
		r.Status[i] = t.status[i].Load()
	}
	for i := range r.Latency {
		r.Latency[i] = t.latency[i].Load()
	}
	return r
}
