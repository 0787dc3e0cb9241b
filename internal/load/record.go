package load

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// MaxSamples bounds the samples that a Run keeps.
const MaxSamples = 100_000

// recorder counts finished samples. Its memory is bounded.
type recorder struct {
	start   time.Time
	uploads atomic.Uint64 // numbers the uploads

	mu      sync.Mutex
	end     time.Time
	samples []Sample
	counts  Report
	hists   map[Kind]*hist
}

func (c *recorder) add(s Sample) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.init()
	k := c.counts.Kinds[s.Kind]
	k.Counts.add(s.Err)
	c.counts.Kinds[s.Kind] = k
	c.counts.Counts.add(s.Err)
	if s.Release != "" {
		c.counts.Releases[s.Release]++
	}
	if s.Err != "" {
		c.counts.Errors[s.Err]++
	} else {
		c.hists[s.Kind].add(s.Latency)
	}
	if s.Kind == WebSocket && s.Code != 0 {
		c.counts.WSClosed[s.Code]++
		c.counts.WSUnanswered += s.Unheard
	}
	c.counts.WSMessages += messages(s)
	if s.Err == "" && !s.Kind.long() {
		return
	}
	if len(c.samples) == MaxSamples {
		c.counts.Forgotten++
		return
	}
	c.samples = append(c.samples, s)
}

func messages(s Sample) int {
	if s.Kind == WebSocket {
		return s.Messages
	}
	return 0
}

// init makes the maps; mu is held.
func (c *recorder) init() {
	if c.hists != nil {
		return
	}
	c.counts.Kinds = map[Kind]KindReport{}
	c.counts.Releases = map[string]int{}
	c.counts.Errors = map[string]int{}
	c.counts.WSClosed = map[int]int{}
	c.hists = map[Kind]*hist{}
	for _, k := range kinds {
		c.hists[k] = &hist{}
	}
}

func (c *recorder) late(skipped bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Late++
	if skipped {
		c.counts.Skipped++
	}
}

func (c *recorder) idleClosed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.IdleClosed++
}

// open counts WebSockets and event streams that are open now.
func (c *recorder) open(k Kind, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k == WebSocket {
		c.counts.WSOpen += n
	} else {
		c.counts.SSEOpen += n
	}
}

// finish stops the clock of the report.
func (c *recorder) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end.IsZero() {
		c.end = time.Now()
	}
}

func (c *recorder) report() Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.init()
	r := c.counts
	end := c.end
	if end.IsZero() {
		end = time.Now()
	}
	r.Seconds = end.Sub(c.start).Seconds()
	r.Releases, r.Errors, r.WSClosed = maps.Clone(r.Releases), maps.Clone(r.Errors), maps.Clone(r.WSClosed)
	r.Kinds = map[Kind]KindReport{}
	for kind, k := range c.counts.Kinds {
		h := *c.hists[kind]
		r.Kinds[kind] = k.with(&h)
	}
	return r
}

func (c *recorder) kept() []Sample {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Sample(nil), c.samples...)
}
