package rollout

import (
	"math"
	"slices"
	"strings"

	"gapless"
)

// mayApply checks a table before it is applied, against what the engine knew
// when it made it.
func (w *world) mayApply(r *gapless.Route) {
	s := w.runner.state
	seen := w.looked
	if r == nil {
		if n := w.capacity(w.applied, seen); n > 0 && !s.Down && s.Stable != "" && s.Counts[gapless.WebProcess] > 0 {
			w.violate("the route is removed while %d instances are ready", n)
		}
		return
	}
	sum, has, healthy, any := 0.0, map[string]bool{}, map[string]int{}, false
	for _, t := range r.Targets {
		if in := lookUp(seen, t.Instance); !t.Draining {
			if in.State != gapless.Ready || in.Address != t.Address {
				w.violate("%s is routed to while it is %q", t.Instance, in.State)
			}
			if r.Stable != t.Release && !onlyShown(r, t) && !slices.ContainsFunc(r.Weights, func(x gapless.Weight) bool { return x.Release == t.Release }) {
				w.violate("%s is routed to, but %s has no weight", t.Instance, t.Release)
			}
			has[t.Release] = true
			any = any || !onlyShown(r, t)
			if !w.unwell[t.Instance] {
				healthy[t.Release]++
			}
		}
	}
	for _, x := range r.Weights {
		sum += x.Share
		if x.Share < 0 || x.Share > 1 || math.IsNaN(x.Share) {
			w.violate("share of %s is %v", x.Release, x.Share)
		}
		if x.Share > 0 && !has[x.Release] && any {
			w.violate("%s is given %v without a ready instance: %s", x.Release, x.Share, describe(r))
		}
	}
	if math.Abs(sum-1) > 1e-9 {
		w.violate("weights sum to %v", sum)
	}
	if s.Down || s.Stable == "" {
		return
	}
	if s.Busy() && !s.Back && s.Rollout.To != s.Stable && healthy[s.Stable] > 0 && r.Share(s.Rollout.To) > FirstShare {
		spec := w.releases[s.Rollout.To].Spec
		first := slices.IndexFunc(s.Rollout.Plan, func(step gapless.Step) bool { return step.Kind == gapless.StepJudge || step.Kind == gapless.StepRamp })
		ramp := first == s.Rollout.Cursor && current(s).Kind == gapless.StepRamp // see mayRamp
		if first >= s.Rollout.Cursor && !ramp && len(spec.Steps) == 0 && !spec.Flip {
			w.violate("%s is given %v before it was watched", s.Rollout.To, r.Share(s.Rollout.To))
		}
	}
	w.mayRamp(s, r, healthy)
	w.mayMirror(s, r, r.Mirror != nil && has[r.Mirror.Release])
	w.mayCarry(s, r, healthy)
	if r.Preview != nil && (!s.Busy() || s.Back || r.Preview.Release != s.Rollout.To) {
		w.violate("%s is shown to people at the wrong time", r.Preview.Release)
	}
	floor := s.Counts[gapless.WebProcess]
	if s.Busy() && s.Next != nil {
		floor = min(floor, s.Next[gapless.WebProcess])
	}
	if s.Back && w.clock().Sub(s.Since) > StuckLimit {
		floor = min(floor, 1)
	}
	forgot := w.amnesia
	w.amnesia = false
	if was, is := w.capacity(w.applied, seen), w.capacity(r, seen); is == 0 && is < min(floor, was) && !forgot {
		w.violate("ready capacity falls to nobody, from %d: %s", was, describe(r))
	} else if is < min(floor, was) && !forgot {
		w.violate("ready capacity falls from %d to %d, below %d: %s", was, is, floor, describe(r))
	}
}

// capacity counts the ready instances that a table gives requests to.
func (w *world) capacity(r *gapless.Route, seen []gapless.Instance) int {
	n := 0
	if r != nil {
		for _, t := range r.Targets {
			if !t.Draining && !onlyShown(r, t) && lookUp(seen, t.Instance).State == gapless.Ready && !w.unwell[t.Instance] {
				n++
			}
		}
	}
	return n
}

// onlyShown reports whether a target serves only those who ask for it.
func onlyShown(r *gapless.Route, t gapless.Target) bool {
	shown := r.Preview != nil && t.Release == r.Preview.Release || r.Mirror != nil && t.Release == r.Mirror.Release
	return shown && r.Share(t.Release) == 0
}

func lookUp(list []gapless.Instance, id string) gapless.Instance {
	for _, in := range list {
		if in.ID == id {
			return in
		}
	}
	return gapless.Instance{}
}

// mayCarry checks that no release gets more than its ready instances carry.
func (w *world) mayCarry(s State, r *gapless.Route, healthy map[string]int) {
	if !s.Busy() || s.Rollout.To == s.Stable || r.Stable != s.Stable {
		return
	}
	need := s.Counts[gapless.WebProcess]
	if n := s.Next[gapless.WebProcess]; n > 0 {
		need = min(need, n)
	}
	candidate, stable := float64(healthy[s.Rollout.To]), float64(healthy[s.Stable])
	carries := func(n float64) float64 { return min(1, n/float64(max(1, need))) }
	share := r.Share(s.Rollout.To)
	if stable > 0 && share > max(carries(candidate), candidate/(candidate+stable))+1e-9 {
		w.violate("%s is given %v, but %v of %d instances are ready", s.Rollout.To, share, candidate, need)
	}
	w.mayFallBack(s, r, share, carries(stable))
}

// settled reports whether nothing is left to do.
func (w *world) settled() bool {
	s := w.runner.state
	if s.Busy() || !same(w.applied, w.edges[0].table) || w.missed || len(w.runner.failed) > 0 {
		return false
	}
	for _, m := range s.Members {
		p := w.find(m.ID)
		if m.Role != Stable || m.Ousts != "" || p == nil || p.in.State != gapless.Ready || p.in.OverMem {
			return false
		}
	}
	if s.Down && (s.Stable != "" || w.applied != nil) {
		return false
	}
	if !s.Down && s.Stable != "" {
		for name, n := range s.Counts {
			if len(s.of(Stable, name)) != n {
				return false
			}
		}
	}
	return len(w.procs) == len(s.Members)
}

// atRest checks the end of a story, when all faults have stopped.
func (w *world) atRest() {
	s := w.runner.state
	for _, p := range w.procs {
		if s.member(p.in.ID) == nil {
			w.violate("a stranger is left: %s", p.in.ID)
		}
	}
	if !w.settled() {
		w.violate("it does not come to rest: busy %v back %v members %+v", s.Busy(), s.Back, s.Members)
		return
	}
	if s.Down || s.Stable == "" {
		if len(w.procs) > 0 || w.applied != nil {
			w.violate("down, but %d instances and the route %s are left", len(w.procs), describe(w.applied))
		}
		return
	}
	web := s.Counts[gapless.WebProcess]
	if w.releases[s.Stable].Spec.Process(gapless.WebProcess) == nil {
		return
	}
	if w.applied == nil || math.Abs(w.applied.Share(s.Stable)-1) > 1e-9 || len(w.applied.Targets) != web {
		w.violate("at rest %s with %d instances is to serve, but the route is %s", s.Stable, web, describe(w.applied))
		return
	}
	for _, t := range w.applied.Targets {
		if t.Draining || t.Release != s.Stable {
			w.violate("at rest the route is %s", describe(w.applied))
		}
	}
}

// halfway reports whether stable is short of web instances that are on their
// way up for the first time.
func (w *world) halfway(s State) bool {
	ready, coming := 0, 0
	for _, m := range s.of(Stable, gapless.WebProcess) {
		for _, in := range w.looked {
			switch {
			case in.ID != m.ID:
			case in.State == gapless.Ready && !w.unwell[in.ID]:
				ready++
			case in.State == gapless.Starting && in.Restarts == 0:
				coming++
			}
		}
	}
	return ready < s.Counts[gapless.WebProcess] && coming > 0
}

// ended checks a rollout that has just ended.
func (w *world) ended(was, is State) {
	if !was.Busy() || is.Busy() || is.Rollout == nil || was.Rollout.ID != is.Rollout.ID || is.Down {
		return
	}
	r := is.Rollout
	w.log("ended: %s %s", r.Outcome, r.Reason)
	w.tally[string(r.Outcome)]++
	w.met(r)
	share := func() float64 {
		if w.applied == nil || !hasWeb(w.releases[is.Stable]) {
			return 1
		}
		return w.applied.Share(is.Stable)
	}
	switch {
	case r.Outcome == gapless.Promoted && w.aborted == r.ID:
		w.violate("%s was promoted although it was aborted", r.To)
	case r.Outcome == gapless.Promoted && r.Verdict != nil && r.Verdict.Kind == gapless.Worse && !r.Auto:
		w.violate("%s was promoted although it is worse", r.To)
	case r.Outcome == gapless.Promoted && is.Stable != r.To:
		w.violate("%s was promoted, but %q is stable", r.To, is.Stable)
	case r.Outcome == gapless.TakenBack && is.Stable != r.From:
		w.violate("%s was taken back, but %q is stable", r.To, is.Stable)
	case r.Outcome != gapless.Promoted && r.Reason == "":
		w.violate("%s is %s without a reason", r.To, r.Outcome)
	case r.Outcome != gapless.Promoted && r.From != "" && r.From != r.To && is.Stable == r.To && !strings.Contains(r.Reason, r.To+" serves on"):
		w.violate("%s serves on for want of %s, and nobody is told", r.To, r.From)
	case is.Stable != "" && share() != 1:
		w.violate("%s of %s is %s, but %s has %v", r.Kind, r.To, r.Outcome, is.Stable, share())
	case r.Outcome == gapless.TakenBack && w.clock().Sub(was.Since) < StuckLimit && w.halfway(is):
		w.violate("%s of %s is over while instances of %s still come up", r.Kind, r.To, is.Stable)
	case len(is.of(Candidate, "")) > 0:
		w.violate("%s of %s is %s with candidates left", r.Kind, r.To, r.Outcome)
	}
}
