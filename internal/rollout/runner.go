package rollout

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"gapless"
)

// How often a runner looks while nothing wakes it.
const (
	tickIdle  = time.Second
	tickBusy  = 100 * time.Millisecond // news of bad answers wakes it
	tickDrain = 10 * time.Millisecond
)

// RetryStart is how long an instance that could not be started is left alone.
const RetryStart = 5 * time.Second

// Runner carries out what Decide says for one app: observe, decide, save, act.
type Runner struct {
	App       string
	Fleet     Fleet
	Router    Router
	Journal   Journal
	Evidence  Evidence // nil: not judged by error rate
	Hooks     Hooks    // nil: plans with hooks fail
	Meter     Meter    // nil: nobody outside is asked, so that metrics have no data
	Release   func(app, name string) (*gapless.Release, error)
	ReadJudge func([]byte) (Judge, error) // for judges that were saved; nil: what they saw is lost
	Emit      func(gapless.Event)
	Log       *slog.Logger

	mu      sync.Mutex // guards state and failed; held during a whole round
	state   State
	failed  map[string]gapless.Instance // starts that the fleet refused
	broken  map[string]HookState        // hooks that could not be started
	wake    chan struct{}
	acted   []ActionKind      // in the last round
	routed  bool              // a route was applied since Init
	stuck   bool              // the journal could not be written at the last attempt
	trouble map[string]string // what was logged last, per kind of trouble

	now    func() time.Time                                                    // the simulation has a clock of its own
	decide func(s State, o Observed, t time.Time, hold bool) (State, []Action) // and plants bugs here
}

// Init gives the runner the state to go on from; before Run.
func (r *Runner) Init(s State) {
	if r.now == nil {
		r.now, r.decide = time.Now, decide
	}
	s = s.Clone()
	s.woke(r.now())
	if err := s.unseal(r.ReadJudge); err != nil {
		r.Log.Warn("read what the judge saw before", "app", r.App, "err", err)
	}
	r.state, r.failed, r.wake, r.trouble = s, map[string]gapless.Instance{}, make(chan struct{}, 1), map[string]string{}
	r.broken = map[string]HookState{}
}

// State returns a copy of the present state.
func (r *Runner) State() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.Clone()
}

// Wake makes the runner look now. It never blocks.
func (r *Runner) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Do changes the state by a command of a person; f refuses by an error. The
// new state is saved before Do returns.
func (r *Runner) Do(ctx context.Context, f func(State) (State, error)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	next, err := f(r.state.Clone())
	if err != nil {
		return err
	}
	err = r.Journal.Save(ctx, next)
	// The way back is open without a journal, but nobody is promised a pause of
	// it that the next daemon would not know of.
	if err != nil && (!next.homeward() || next.Paused && !r.state.Paused) {
		return gapless.Errorf(gapless.Unavailable, "save the state of %s: %w", r.App, err).
			WithHint("nothing was changed; free some disk space and try again")
	}
	r.state, r.stuck = next, err != nil
	r.Wake()
	return nil
}

// Run looks and acts until ctx ends.
func (r *Runner) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		case <-timer.C:
		}
		timer.Reset(r.round(ctx))
	}
}

// round is one observe–decide–save–act; it returns how long to wait for the next.
func (r *Runner) round(ctx context.Context) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, kind := range r.acted {
		failpoint(kind, beforeObserve)
	}
	r.acted = r.acted[:0]
	obs, err := r.observe(ctx)
	if err != nil {
		r.warn("observe", err)
		return tickIdle
	}
	r.warn("observe", nil)
	now := r.now()
	next, actions := r.decide(r.state, obs, now, false)
	if r.stuck || !next.same(&r.state) {
		for _, a := range actions {
			failpoint(a.Kind, beforeIntent)
		}
		failpoint(actSave, beforeEffect)
		err := r.Journal.Save(ctx, next)
		failpoint(actSave, afterEffect)
		if err != nil {
			// The plan waits; keeping stable alive and the way back do not.
			next, actions = r.decide(r.state, obs, now, true)
			if !r.stuck {
				r.Emit(gapless.Event{Time: now, App: r.App, Kind: "journal.failed", Level: "error",
					Message: "the state cannot be saved, nothing moves forward: " + err.Error()})
			}
		}
		r.stuck = err != nil
	}
	r.state = next
	r.judged(obs.Blind)
	for _, a := range actions {
		failpoint(a.Kind, beforeEffect)
		r.perform(ctx, a)
		failpoint(a.Kind, afterEffect)
		r.acted = append(r.acted, a.Kind)
	}
	return rest(next, obs.Served.Known, len(actions) > 0)
}

// judged tells the router that this round decided, up to where its evidence is
// saved, and by what limits it is to count on.
func (r *Runner) judged(blind bool) {
	if !r.stuck {
		r.pace()
	}
	if l, ok := r.Router.(Leaser); ok && !blind {
		l.Renew(r.App)
	}
	if a, ok := r.Evidence.(Acknowledger); ok && !r.stuck {
		a.Acknowledge(r.App, r.state.counted())
	}
}

func rest(s State, known, acted bool) time.Duration {
	switch {
	case !known: // what is asked of the edges again and again is asked calmly
		return tickBusy
	case acted, len(s.of(Leaving, "")) > 0:
		return tickDrain
	case s.Busy(), s.Bake != nil, s.Down && len(s.Members) > 0:
		return tickBusy
	}
	return tickIdle
}

// warn logs trouble once, not at every look while it lasts.
func (r *Runner) warn(what string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != r.trouble[what] {
		r.Log.Warn(what, "app", r.App, "err", err)
	}
	r.trouble[what] = text
}

func (r *Runner) observe(ctx context.Context) (Observed, error) {
	obs := Observed{Releases: make(map[string]*gapless.Release, 4), First: !r.routed}
	// Traffic first: an instance that is seen to be ready after it may be
	// missing there, but never the other way round.
	var err error
	if obs.Served, err = r.Router.Observed(ctx, r.App); err != nil {
		obs.Served = Served{} // unknown
	}
	r.warn("observe traffic", err)
	r.observePlan(ctx, &obs)
	list, err := r.Fleet.Observe(ctx, r.App)
	if err != nil {
		return obs, err
	}
	obs.Instances = make(map[string]gapless.Instance, len(list)+len(r.failed))
	for _, in := range list {
		if twice, listed := obs.Instances[in.ID]; !listed || outdates(in, twice) {
			obs.Instances[in.ID] = in
		}
	}
	for id, in := range r.failed {
		if r.now().Sub(in.Since) > RetryStart {
			delete(r.failed, id)
			continue
		}
		if _, known := obs.Instances[id]; !known {
			obs.Instances[id] = in
		}
	}
	needed := map[string]bool{} // false: one that only leaves
	for _, m := range r.state.Members {
		needed[m.Release] = needed[m.Release] || m.Role != Leaving
	}
	if r.state.Stable != "" {
		needed[r.state.Stable] = true
	}
	if r.state.Busy() {
		needed[r.state.Rollout.To] = true
	}
	if obs.Served.Route != nil {
		for _, w := range obs.Served.Route.Weights {
			if _, known := needed[w.Release]; !known {
				needed[w.Release] = false // see recall
			}
		}
	}
	for name, must := range needed {
		rel, err := r.Release(r.App, name)
		switch {
		case err == nil:
			obs.Releases[name] = rel
		case must:
			return obs, err
		}
	}
	return obs, nil
}

// observePlan looks at what only a running plan needs: evidence and hooks.
func (r *Runner) observePlan(ctx context.Context, obs *Observed) {
	if r.Evidence != nil && r.state.watches() {
		var err error
		if obs.Tallies, obs.Cursor, err = r.Evidence.Since(ctx, r.App, r.state.counted()); err != nil {
			obs.Tallies, obs.Cursor, obs.Blind = nil, nil, true
		}
		r.warn("read evidence", err)
		obs.Look = r.look()
	}
	if !r.state.Busy() {
		return
	}
	if m, ok := r.Evidence.(Mirrorer); ok && current(r.state).Kind == gapless.StepMirror {
		var err error
		if obs.Mirrors, err = m.Mirrored(ctx, r.App, r.state.Rollout.ID); err != nil {
			obs.Blind = true
		}
		r.warn("read what copies were answered", err)
	}
	if r.Meter != nil && r.state.measured() {
		obs.Metrics = r.Meter.Asked(r.state.Rollout.ID)
	}
	key := r.state.Hook
	if key == "" {
		return
	}
	h, known := r.broken[key]
	if !known && r.Hooks != nil {
		h, known = r.Hooks.State(key)
	}
	if known {
		obs.Hooks = map[string]HookState{key: h}
	}
}

// outdates reports whether a is to be believed and not b, where a fleet lists an
// instance twice: the one that is not ready, else the one that was started again
// more often, else the later word. Times alone do not tell, as clocks are set.
func outdates(a, b gapless.Instance) bool {
	if (a.State == gapless.Ready) != (b.State == gapless.Ready) {
		return b.State == gapless.Ready
	}
	if a.Restarts != b.Restarts {
		return a.Restarts > b.Restarts
	}
	return a.Since.After(b.Since)
}

// InUse are the releases that an app may still need, see State.InUse. ok is
// false while the disk knows less than the runner: a crash would go back to
// what it knows, so nothing may be thrown away then.
func (r *Runner) InUse() (names map[string]bool, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.InUse(), !r.stuck
}

func (r *Runner) perform(ctx context.Context, a Action) {
	switch a.Kind {
	case ActStart:
		if err := r.Fleet.Start(ctx, a.Instance); err != nil {
			in := a.Instance
			in.State, in.Since, in.Reason, in.Hint = gapless.Failed, r.now(), "cannot be started: "+err.Error(), gapless.HintOf(err)
			r.failed[in.ID] = in
		}
	case ActStop:
		if in, ok := r.failed[a.Instance.ID]; ok {
			in.State = gapless.Stopped
			r.failed[a.Instance.ID] = in
		}
		if err := r.Fleet.Stop(ctx, a.Instance.ID); err != nil {
			r.Log.Warn("stop", "instance", a.Instance.ID, "err", err)
		}
	case ActForget:
		delete(r.failed, a.Instance.ID)
		if err := r.Fleet.Forget(ctx, a.Instance.ID); err != nil {
			r.Log.Warn("forget", "instance", a.Instance.ID, "err", err)
		}
	case ActHook:
		err := r.startHook(ctx, a)
		if err != nil { // it did not run, so that this is not the question of whether it may run again
			r.broken[a.Key] = HookState{Done: true, Output: "it cannot be started: " + err.Error()}
		}
		r.warn("start hook", err)
	case ActMeasure:
		if r.Meter != nil {
			r.Meter.Ask(a.Question)
		}
	case ActRoute:
		r.routed = true
		r.warn("apply route", r.Router.Apply(ctx, r.App, a.Route))
	case ActNote:
		r.Emit(a.Event)
	}
}

func (r *Runner) startHook(ctx context.Context, a Action) error {
	if r.Hooks == nil {
		return errors.New("this daemon cannot run hooks")
	}
	rel, err := r.Release(r.App, a.Instance.Release)
	if err != nil {
		return err
	}
	return r.Hooks.Start(ctx, a.Key, rel, a.Command)
}
