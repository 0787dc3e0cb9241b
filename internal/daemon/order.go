package daemon

import (
	"context"
	"maps"
	"sync"
	"time"

	"gapless"
	"gapless/internal/rollout"
)

// How long an app that starts from nothing keeps its order, and how long one
// attempt waits for its turn.
const (
	orderLimit = time.Minute
	orderWait  = 100 * time.Millisecond
)

// order makes an app of which nothing runs, as after a reboot, start in order:
// web first, workers when a web instance is ready, cron when the workers are.
type order struct {
	mu   sync.Mutex
	cold map[string]coldStart // by app
}

// coldStart is an app of which nothing ran when the daemon started.
type coldStart struct {
	since  time.Time
	counts map[string]int // wanted instances per process
}

// begin says that nothing of an app runs.
func (o *order) begin(app string, counts map[string]int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cold == nil {
		o.cold = map[string]coldStart{}
	}
	o.cold[app] = coldStart{time.Now(), maps.Clone(counts)}
}

// turn waits a moment for an instance's turn. Where it has not come, the
// runner asks again: what the fleet does not list it starts.
func (o *order) turn(ctx context.Context, in gapless.Instance, spec *gapless.App, observe func() []gapless.Instance) bool {
	for end := time.Now().Add(orderWait); ; {
		o.mu.Lock()
		start, cold := o.cold[in.App]
		if cold && time.Since(start.since) > orderLimit { // better out of order than never
			delete(o.cold, in.App)
			cold = false
		}
		o.mu.Unlock()
		if !cold || allowed(spec, start.counts, in, observe()) {
			return true
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return false
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// allowed reports whether every process that comes before this one is ready.
func allowed(spec *gapless.App, counts map[string]int, in gapless.Instance, running []gapless.Instance) bool {
	p := spec.Process(in.Process)
	if p == nil {
		return true
	}
	ready := map[string]bool{}
	for _, other := range running {
		if other.App == in.App && other.State == gapless.Ready {
			ready[other.Process] = true
		}
	}
	for i := range spec.Processes {
		before := &spec.Processes[i]
		if stage(before) < stage(p) && counts[before.Name] > 0 && !ready[before.Name] {
			return false
		}
	}
	return true
}

func stage(p *gapless.Process) int {
	switch {
	case p.Web():
		return 0
	case p.Cron == "":
		return 1
	}
	return 2
}

// sane takes times out of a state that lie in the future, because the clock
// was set back since: waits that count from them would be too long. Within one
// life of the daemon they carry a monotonic clock and need no help.
func sane(s rollout.State, now time.Time) rollout.State {
	s = s.Clone()
	past := func(t *time.Time) {
		if t.After(now) {
			*t = now
		}
	}
	past(&s.Since)
	past(&s.Folded)
	for i := range s.Members {
		m := &s.Members[i]
		if ahead := m.Since.Sub(now); ahead > 0 && !m.Until.IsZero() {
			m.Until = m.Until.Add(-ahead)
		}
		past(&m.Since)
		past(&m.SickAt)
		past(&m.Out)
	}
	return s
}
