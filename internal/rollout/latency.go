package rollout

import "gapless"

// Learner is a Judge that chooses the limits of age that requests are counted
// by, from what latencies were seen. Learn returns another one, as Observe
// does, and Limits are those to count by from now on.
type Learner interface {
	Learn(look gapless.LatencyLook) Judge
	Limits() gapless.LatencyLimits
}

// Looker is a Router that tells how long requests took since it was asked last.
type Looker interface {
	Look(app, stable, candidate string) gapless.LatencyLook
}

// Pacer is a Router that counts requests by limits of age. It is told of them
// after every round, once the judge that chose them is saved: zero limits say
// that nobody judges. It does not block.
type Pacer interface {
	Pace(app string, limits gapless.LatencyLimits)
}

// learnEvery is how often a judge learns what latencies were seen: it is
// written to the journal, together with what was counted meanwhile.
const learnEvery = foldEvery

// Learn implements Learner; a judge that does not learn stays as it is.
func (b bench[J]) Learn(look gapless.LatencyLook) Judge {
	if l, ok := any(b.j).(interface{ Learn(gapless.LatencyLook) J }); ok {
		return bench[J]{l.Learn(look)}
	}
	return b
}

// Limits implements Learner; those of a judge that has none are zero.
func (b bench[J]) Limits() gapless.LatencyLimits {
	if l, ok := any(b.j).(interface{ Limits() gapless.LatencyLimits }); ok {
		return l.Limits()
	}
	return gapless.LatencyLimits{}
}

// judges reports whether what is counted of the candidate matters still.
func (s State) judges() bool { return s.Busy() && !s.Back && s.Judge != nil && !s.promoted() }

// learn lets the judge see what latencies were seen since the last time.
func (d *decision) learn() {
	l, ok := d.s.Judge.(Learner)
	if !ok || d.obs.Look == nil || d.s.promoted() {
		return
	}
	if next := l.Learn(*d.obs.Look); !next.Equal(d.s.Judge) {
		d.s.Judge, d.s.Learned = next, d.now
	}
}

// look asks for latencies where the judge of the state is to learn from them.
func (r *Runner) look() *gapless.LatencyLook {
	l, ok := r.Router.(Looker)
	if _, learns := r.state.Judge.(Learner); !ok || !learns || !r.state.judges() {
		return nil
	}
	if since := r.now().Sub(r.state.Learned); since >= 0 && since < learnEvery {
		return nil
	}
	look := l.Look(r.App, r.state.Rollout.From, r.state.Rollout.To)
	if look.At.IsZero() {
		look.At = r.now()
	}
	return &look
}

// pace tells the router by what limits requests are counted now. The state
// that they follow from is saved.
func (r *Runner) pace() {
	p, ok := r.Router.(Pacer)
	if !ok {
		return
	}
	var limits gapless.LatencyLimits
	if l, ok := r.state.Judge.(Learner); ok && r.state.judges() {
		limits = l.Limits()
	}
	p.Pace(r.App, limits)
}
