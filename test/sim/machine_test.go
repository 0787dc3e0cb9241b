package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"gapless"
	"gapless/internal/rollout"
)

// machine is what a runner acts on, in virtual time: processes, one edge and
// hooks. It outlives the runners that die at its calls.
type machine struct {
	mu     sync.Mutex
	rng    *rand.Rand
	dies   float64 // chance of a death per call
	dead   bool    // the engine is: all of its goroutines end at their next call
	procs  []*proc
	route  *gapless.Route
	counts []gapless.Counter // cumulative
	seq    uint64            // of the edge's reports
	tossed time.Time
	hooks  map[string]time.Time // of the present engine: when they end
	ran    map[string]int
	broken error

	sloppy map[string]bool // releases that give bad answers
	frail  map[string]bool // releases that crash after a while
}

type proc struct {
	in    gapless.Instance
	ready time.Time
	crash time.Time
	gone  time.Time
}

// die ends the engine here, perhaps: its goroutine runs no further.
func (m *machine) die() {
	if m.dead || m.dies > 0 && m.rng.Float64() < m.dies {
		m.dead = true
		runtime.Goexit()
	}
}

// enter is the begin of every call; what it returns is its end. The engine may
// die before the call has an effect and after.
func (m *machine) enter() func() {
	m.mu.Lock()
	done := false
	defer func() {
		if !done {
			m.mu.Unlock()
		}
	}()
	m.die()
	done = true
	return func() {
		defer m.mu.Unlock()
		m.die()
	}
}

func (m *machine) violate(format string, args ...any) {
	if m.broken == nil {
		m.broken = fmt.Errorf(format, args...)
	}
}

func (m *machine) upTo(d time.Duration) time.Duration { return time.Duration(m.rng.Int64N(int64(d))) }

func (m *machine) find(id string) *proc {
	for _, p := range m.procs {
		if p.in.ID == id {
			return p
		}
	}
	return nil
}

// Start implements rollout.Fleet.
func (m *machine) Start(_ context.Context, in gapless.Instance) error {
	defer m.enter()()
	if m.find(in.ID) != nil {
		return nil
	}
	now := time.Now()
	if in.Process == "clock" {
		for _, p := range m.procs {
			if p.in.Process == "clock" && p.state(now) != gapless.Stopped {
				m.violate("two of a singleton: %s starts while %s is %s", in.ID, p.in.ID, p.state(now))
			}
		}
	}
	in.PID, in.Address, in.Since = 1000+len(m.procs), "127.0.0.1:"+strconv.Itoa(20000+len(m.procs)), now
	p := &proc{in: in, ready: now.Add(m.upTo(time.Second))}
	if m.frail[in.Release] {
		p.crash = p.ready.Add(m.upTo(2 * time.Second))
	}
	m.procs = append(m.procs, p)
	return nil
}

func (p *proc) state(now time.Time) gapless.InstanceState {
	switch {
	case !p.gone.IsZero() && now.Before(p.gone):
		return gapless.Stopping
	case !p.gone.IsZero():
		return gapless.Stopped
	case !p.crash.IsZero() && !now.Before(p.crash):
		return gapless.Crashed
	case now.Before(p.ready):
		return gapless.Starting
	}
	return gapless.Ready
}

// Observe implements rollout.Fleet.
func (m *machine) Observe(context.Context, string) ([]gapless.Instance, error) {
	defer m.enter()()
	var out []gapless.Instance
	for _, p := range m.procs {
		if !p.crash.IsZero() && time.Since(p.crash) > time.Second { // it is started again, and runs
			p.in.Restarts++
			p.ready, p.crash = time.Now().Add(m.upTo(time.Second)), time.Time{}
		}
		in := p.in
		in.State = p.state(time.Now())
		out = append(out, in)
	}
	return out, nil
}

// Stop implements rollout.Fleet.
func (m *machine) Stop(_ context.Context, id string) error {
	defer m.enter()()
	if p := m.find(id); p != nil && p.gone.IsZero() {
		if m.route != nil {
			for _, t := range m.route.Targets {
				if t.Instance == id && !t.Draining {
					m.violate("%s is stopped while it is picked", id)
				}
			}
		}
		p.gone = time.Now().Add(m.upTo(time.Second))
	}
	return nil
}

// Forget implements rollout.Fleet.
func (m *machine) Forget(_ context.Context, id string) error {
	defer m.enter()()
	m.procs = slices.DeleteFunc(m.procs, func(p *proc) bool { return p.in.ID == id })
	return nil
}

// Apply implements rollout.Router.
func (m *machine) Apply(_ context.Context, _ string, r *gapless.Route) error {
	defer m.enter()()
	m.toss()
	if r != nil {
		if err := r.Validate(); err != nil {
			m.violate("%v", err)
		}
	}
	m.route = r
	return nil
}

// Observed implements rollout.Router.
func (m *machine) Observed(context.Context, string) (rollout.Served, error) {
	defer m.enter()()
	m.toss()
	return rollout.Served{Known: m.rng.IntN(10) > 0, Route: m.route}, nil
}

// toss brings the edge's counters up to now: 20 requests per second.
func (m *machine) toss() {
	now := time.Now()
	n := int(now.Sub(m.tossed) / (50 * time.Millisecond))
	m.tossed = m.tossed.Add(time.Duration(n) * 50 * time.Millisecond)
	if m.route == nil || len(m.route.Weights) != 2 {
		return
	}
	w := m.route.Weights[1]
	for range min(n, 200) {
		release := m.route.Weights[0].Release
		if m.rng.Float64() < w.Share {
			release = w.Release
		}
		bad := m.sloppy[release] && m.rng.IntN(2) == 0
		k := slices.IndexFunc(m.counts, func(c gapless.Counter) bool {
			return c.Release == release && c.Weight == w.Share && (c.Kind != "") == bad
		})
		if k < 0 {
			k = len(m.counts)
			c := gapless.Counter{Number: uint64(k + 1), App: app, Release: release, Weight: w.Share}
			if bad {
				c.Kind = "5xx"
			}
			m.counts = append(slices.Clone(m.counts), c)
		}
		m.counts[k].Requests++
		if bad {
			m.counts[k].Bad++
		}
	}
}

// Since implements rollout.Evidence.
func (m *machine) Since(_ context.Context, _ string, cursor rollout.Cursor) ([]gapless.Tally, rollout.Cursor, error) {
	defer m.enter()()
	m.toss()
	m.seq++
	out, next := rollout.Fold(app, cursor, []gapless.EdgeReport{{Start: "edge", Seq: m.seq, Counters: m.counts}})
	return out, next, nil
}

// hooks implements rollout.Hooks; what it knows dies with the engine.
type hooks struct{ *machine }

// Start implements rollout.Hooks.
func (h hooks) Start(_ context.Context, key string, _ *gapless.Release, command string) error {
	defer h.enter()()
	if command == "broken" {
		return errors.New("no such environment")
	}
	h.ran[key]++
	if h.ran[key] > 1 && command != rollout.OnResumeRerun {
		h.violate("hook %s runs twice", key)
	}
	h.hooks[key] = time.Now().Add(h.upTo(time.Second))
	return nil
}

// State implements rollout.Hooks.
func (h hooks) State(key string) (rollout.HookState, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	end, known := h.hooks[key]
	return rollout.HookState{Done: !end.After(time.Now()), OK: true}, known
}
