package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gapless"
)

// temper is what a release is like.
type temper string

const (
	good   temper = "good"
	stormy temper = "crashes at start"
	mute   temper = "never ready"
	flaky  temper = "crashes after a while"
	hungry temper = "uses too much memory"
	sloppy temper = "gives bad answers"
)

type proc struct {
	in      gapless.Instance
	due     time.Time // of then
	then    gapless.InstanceState
	first   bool
	unnamed bool      // nobody can tell what it is
	out     time.Time // when every edge had it out of the pick; zero: some has it in
}

func (p *proc) alive() bool {
	switch p.in.State {
	case gapless.Starting, gapless.Ready, gapless.Stopping, gapless.Crashed:
		return true // a crashed one is started again
	}
	return false
}

func (w *world) find(id string) *proc {
	for _, p := range w.procs {
		if p.in.ID == id {
			return p
		}
	}
	return nil
}

func (w *world) spec(in gapless.Instance) *gapless.Process {
	return w.releases[in.Release].Spec.Process(in.Process)
}

// Start implements Fleet.
func (w *world) Start(_ context.Context, in gapless.Instance) error {
	w.die()
	w.at(ActStart, beforeEffect)
	if w.find(in.ID) != nil {
		return nil
	}
	if w.gone[in.Release] {
		w.violate("%s is to start, and its release is gone", in.ID)
		return errors.New("no such directory")
	}
	switch {
	case w.chance(w.faults.lost):
		w.log("start %s is lost", in.ID)
		return nil
	case w.chance(w.faults.refuse):
		w.log("start %s is refused", in.ID)
		return errors.New("no such file")
	}
	w.log("start %s", in.ID)
	if s := w.runner.state; w.saved.member(in.ID) == nil && in.Release != s.Stable && !(s.Known && in.Release == s.Rollout.To) {
		w.violate("%s is started before it was saved", in.ID)
	}
	if proc := w.spec(in); proc.Singleton {
		for _, p := range w.procs {
			if p.in.Process == in.Process && p.alive() && w.spec(p.in).Singleton {
				w.violate("two of a singleton: %s starts while %s is %s", in.ID, p.in.ID, p.in.State)
			}
		}
	}
	if w.warm != nil && in.Process == gapless.WebProcess && in.Release == w.runner.state.Rollout.To && w.allWarm() {
		w.violate("%s is started although the kept set is warm", in.ID)
	}
	in.Since = w.clock()
	p := &proc{in: in, first: true, out: w.now}
	w.procs = append(w.procs, p)
	w.launch(p)
	p.unnamed = w.anonymous
	w.did(ActStart)
	w.die()
	p.unnamed = false
	return nil
}

// launch is the start of one process of an instance.
func (w *world) launch(p *proc) {
	p.in.State, p.in.Since, p.in.PID = gapless.Starting, w.clock(), 1000+len(w.procs)
	if p.in.Process == gapless.WebProcess {
		p.in.Address = "127.0.0.1:" + fmt.Sprint(20000+p.in.Restarts)
	}
	p.then, p.due = gapless.Ready, w.now.Add(w.between(50*time.Millisecond, 2*time.Second))
	switch t := w.temperOf(p); {
	case t == stormy:
		p.then = gapless.Crashed
	case t == mute, p.first && w.chance(w.faults.hang):
		p.then, p.due = gapless.Failed, w.now.Add(10*time.Second)
	}
}

// temperOf is good for what only runs at its time.
func (w *world) temperOf(p *proc) temper {
	if w.spec(p.in).Cron != "" {
		return good
	}
	return w.temper[p.in.Release]
}

// live lets a process do what is due.
func (w *world) live(p *proc) {
	if p.in.State == gapless.Ready && w.chance(w.faults.die) {
		p.then, p.due = gapless.Crashed, w.now
	}
	if p.then == "" || p.due.After(w.now) {
		return
	}
	from := p.in.State
	p.in.State, p.in.Since, p.then = p.then, w.clock(), ""
	w.log("%s: %s → %s", p.in.ID, from, p.in.State)
	switch p.in.State {
	case gapless.Ready:
		if from == gapless.Ready { // it grew
			p.in.OverMem, p.in.Memory = true, 1<<30
			return
		}
		p.in.Reason = ""
		switch t := w.temperOf(p); {
		case t == flaky && p.first && w.chance(0.7):
			p.then, p.due = gapless.Crashed, w.now.Add(w.between(0, 6*time.Second))
		case t == hungry && p.first && w.chance(0.7):
			p.then, p.due = gapless.Ready, w.now.Add(w.between(0, 6*time.Second))
		}
	case gapless.Crashed:
		p.first = false
		p.in.PID, p.in.OverMem, p.in.Exit = 0, false, &gapless.Exit{Code: 1, At: w.now}
		p.then, p.due = gapless.Starting, w.now.Add(w.between(time.Second, 5*time.Second))
		w.hangUp(p.in.ID)
	case gapless.Starting:
		p.in.Restarts++
		w.launch(p)
	case gapless.Stopped, gapless.Failed:
		if p.in.PID != 0 {
			p.in.Exit = &gapless.Exit{Code: -1, Signal: "SIGKILL", At: w.now}
		}
		p.in.PID, p.in.OverMem = 0, false
		w.hangUp(p.in.ID)
	}
}

// hangUp ends the requests of an instance that is gone.
func (w *world) hangUp(id string) {
	for _, e := range w.edges {
		delete(e.flight, id)
		delete(e.long, id)
	}
}

// Observe implements Fleet.
func (w *world) Observe(context.Context, string) ([]gapless.Instance, error) {
	w.die()
	if w.stale && w.now.Sub(w.lookedAt) < 2*time.Second && w.chance(w.faults.stale) {
		return w.looked, nil
	}
	before := w.looked
	w.looked, w.stale, w.lookedAt = make([]gapless.Instance, 0, len(w.procs)), true, w.now
	for _, p := range w.procs {
		if !p.unnamed {
			w.looked = append(w.looked, p.in)
		}
	}
	return w.twice(before), nil
}

// twice is what the fleet tells: some instances twice, in two minds.
func (w *world) twice(before []gapless.Instance) []gapless.Instance {
	if len(w.looked) == 0 || !w.chance(w.faults.double) {
		return w.looked
	}
	told := slices.Clone(w.looked)
	i := w.rng.IntN(len(told))
	in := &w.looked[i]
	at := []int{0, len(told)}[w.rng.IntN(2)]
	switch w.rng.IntN(3) {
	case 0: // the same again
		return slices.Insert(told, at, *in)
	case 1: // what it was before
		if old := lookUp(before, in.ID); old.ID != "" {
			if in.State == gapless.Ready && old.State != gapless.Ready {
				*in, w.warm = old, nil // the one that is not ready is to be believed
			}
			return slices.Insert(told, at, old)
		}
	default: // two things at once
		if in.State == gapless.Ready && in.Process == gapless.WebProcess {
			in.State, w.warm = gapless.Starting, nil
			return slices.Insert(told, at, *in)
		}
	}
	return told
}

// collect throws releases away that neither the engine nor the disk needs, as
// the daemon does when a rollout is over.
func (w *world) collect() {
	used := map[string]bool{}
	for _, s := range []State{w.runner.state, w.saved, w.before} {
		for name := range w.inUse(s) {
			used[name] = true
		}
	}
	for name := range w.releases {
		if !used[name] {
			w.gone[name] = true
		}
	}
}

// Stop implements Fleet.
func (w *world) Stop(_ context.Context, id string) error {
	w.die()
	w.at(ActStop, beforeEffect)
	p := w.find(id)
	if p == nil || p.in.State == gapless.Stopping || p.in.State == gapless.Stopped {
		return nil
	}
	if p.in.Process == gapless.WebProcess {
		w.mayStop(p)
	}
	if w.chance(w.faults.lost) {
		w.log("stop %s is lost", id)
		return nil
	}
	w.log("stop %s", id)
	p.then, p.due = gapless.Stopped, w.now
	if p.in.PID != 0 {
		p.in.State, p.in.Since = gapless.Stopping, w.clock()
		if w.faults.slowStop {
			p.due = w.now.Add(w.between(0, 3*time.Second))
		}
	}
	w.did(ActStop)
	w.die()
	return nil
}

// mayStop checks that stopping a web instance now loses no request.
func (w *world) mayStop(p *proc) {
	m := w.runner.state.member(p.in.ID)
	patience := simDrain + StuckLimit
	if m != nil && m.Role == Leaving && w.clock().Sub(m.Since) >= patience {
		return // the edges were out of reach for minutes
	}
	if w.picked(p.in.ID) {
		w.violate("%s is stopped while an edge still picks it", p.in.ID)
		return
	}
	n := 0
	for _, e := range w.edges {
		n += e.flight[p.in.ID]
	}
	if n > 0 && w.now.Sub(p.out) < simDrain {
		w.violate("%s is stopped with %d requests in flight, %s after it was out of the pick", p.in.ID, n, w.now.Sub(p.out))
	}
}

// picked reports whether an edge gives new requests to an instance, or will
// when the tables under way arrive.
func (w *world) picked(id string) bool {
	for _, e := range w.edges {
		if picks(e.table, id) {
			return true
		}
		for _, d := range e.queue {
			if picks(d.table, id) {
				return true
			}
		}
	}
	return false
}

func picks(r *gapless.Route, id string) bool {
	if r != nil {
		for _, t := range r.Targets {
			if t.Instance == id {
				return !t.Draining
			}
		}
	}
	return false
}

// Forget implements Fleet.
func (w *world) Forget(_ context.Context, id string) error {
	w.die()
	w.at(ActForget, beforeEffect)
	for i, p := range w.procs {
		if p.in.ID == id && (p.in.State == gapless.Stopped || p.in.State == gapless.Failed) {
			w.log("forget %s", id)
			w.procs = append(w.procs[:i:i], w.procs[i+1:]...)
			break
		}
	}
	w.did(ActForget)
	w.die()
	return nil
}
