package rollout

import (
	"slices"
	"strings"
	"testing"
	"time"

	"gapless"
)

type decider func(State, Observed, time.Time, bool) (State, []Action)

// blind hides some instances from Decide.
func blind(hide func(State, gapless.Instance) bool) decider {
	return func(s State, o Observed, t time.Time, hold bool) (State, []Action) {
		seen := map[string]gapless.Instance{}
		for id, in := range o.Instances {
			if !hide(s, in) {
				seen[id] = in
			}
		}
		o.Instances = seen
		return decide(s, o, t, hold)
	}
}

// after changes what Decide said.
func after(spoil func(was State, is *State, o Observed, acts *[]Action, t time.Time)) decider {
	return func(s State, o Observed, t time.Time, hold bool) (State, []Action) {
		is, acts := decide(s, o, t, hold)
		spoil(s, &is, o, &acts, t)
		return is, acts
	}
}

// before changes the state that Decide goes on from.
func before(spoil func(s *State, o *Observed, t time.Time)) decider {
	return func(s State, o Observed, t time.Time, hold bool) (State, []Action) {
		s = s.Clone()
		spoil(&s, &o, t)
		return decide(s, o, t, hold)
	}
}

func onRoute(spoil func(s State, o Observed, r *gapless.Route)) decider {
	return after(func(_ State, is *State, o Observed, acts *[]Action, _ time.Time) {
		for i, a := range *acts {
			if a.Kind == ActRoute && a.Route != nil {
				r := *a.Route
				r.Weights, r.Targets = slices.Clone(r.Weights), slices.Clone(r.Targets)
				spoil(*is, o, &r)
				(*acts)[i].Route = &r
			}
		}
	})
}

// TestPlantedBugs proves that the simulation sees what it is there for: each
// bug, planted into Decide, breaks the invariant that it is named after.
func TestPlantedBugs(t *testing.T) {
	for _, c := range []struct {
		bug, breaks string
		plant       decider
	}{
		{"a leaving instance is stopped without waiting", "in flight", after(
			func(_ State, is *State, o Observed, acts *[]Action, _ time.Time) {
				for _, m := range is.of(Leaving, gapless.WebProcess) {
					if _, known := o.Instances[m.ID]; known && !m.Stop {
						m.Stop = true
						*acts = append(*acts, Action{Kind: ActStop, Instance: gapless.Instance{ID: m.ID}})
					}
				}
			})},
		{"an instance is stopped first, the route is changed later", "still picks it", func() decider {
			return after(func(_ State, is *State, o Observed, acts *[]Action, _ time.Time) {
				for _, m := range is.of(Leaving, gapless.WebProcess) {
					if _, known := o.Instances[m.ID]; known {
						*acts = slices.Insert(*acts, 0, Action{Kind: ActStop, Instance: gapless.Instance{ID: m.ID}})
					}
				}
			})
		}()},
		{"what is not known of the edges counts as zero", "stopped", before(
			func(_ *State, o *Observed, _ time.Time) { o.Served.Known, o.Served.InFlight = true, nil })},
		{"the drain deadline counts from the decision", "in flight", before(
			func(s *State, o *Observed, t time.Time) {
				for _, m := range s.of(Leaving, gapless.WebProcess) {
					m.Out = m.Since.Add(-drainSlack - 100*time.Millisecond)
				}
			})},
		{"instances that start are routed to", "is routed to while", onRoute(
			func(s State, o Observed, r *gapless.Route) {
				for _, m := range s.Members {
					if in := o.Instances[m.ID]; m.Process == gapless.WebProcess && in.State == gapless.Starting {
						r.Targets = append(r.Targets, gapless.Target{Instance: m.ID, Release: m.Release, Address: in.Address})
					}
				}
			})},
		{"the weights do not sum to one", "weights sum to", onRoute(
			func(_ State, _ Observed, r *gapless.Route) {
				if len(r.Weights) == 2 {
					r.Weights[0].Share = 1
				}
			})},
		{"a release keeps its share without a ready instance", "without a ready instance", onRoute(
			func(s State, _ Observed, r *gapless.Route) {
				if s.Auto && !s.Back {
					r.Weights = []gapless.Weight{{Release: s.Stable, Share: 0.5}, {Release: s.Rollout.To, Share: 0.5}}
				}
			})},
		{"the candidate gets everything at once", "before it was watched", before(
			func(s *State, _ *Observed, _ time.Time) {
				if s.Busy() && s.Weight > 0 {
					s.Weight = 1
				}
			})},
		{"the old ones are drained before the new ones start", "ready capacity falls", before(
			func(s *State, _ *Observed, _ time.Time) {
				if s.Busy() && s.Rollout.Cursor == 0 && !s.Entered {
					slices.SortStableFunc(s.Rollout.Plan, func(a, b gapless.Step) int {
						first := func(x gapless.Step) int {
							if x.Kind == gapless.StepDrain {
								return 0
							}
							return 1
						}
						return first(a) - first(b)
					})
				}
			})},
		{"on the way back the candidate leaves before stable is there", "ready capacity falls", after(
			func(_ State, is *State, _ Observed, _ *[]Action, t time.Time) {
				if is.Back {
					for _, m := range is.of(Candidate, gapless.WebProcess) {
						m.Role, m.Since = Leaving, t
					}
				}
			})},
		{"the new singleton starts while the old one stops", "two of a singleton", blind(
			func(_ State, in gapless.Instance) bool {
				return in.State == gapless.Stopping && in.Process == "clock"
			})},
		{"a member is forgotten", "stranger", func() decider {
			inner := blind(func(s State, in gapless.Instance) bool { return s.member(in.ID) == nil })
			return func(s State, o Observed, t time.Time, hold bool) (State, []Action) {
				is, acts := inner(s, o, t, hold)
				if s.Busy() && !is.Busy() && len(is.Members) > 0 {
					is.Members = is.Members[:len(is.Members)-1]
				}
				return is, acts
			}
		}()},
		{"nobody looks for strangers", "stranger", blind(
			func(s State, in gapless.Instance) bool { return s.member(in.ID) == nil })},
		{"a failed instance is left alone", "does not come to rest", before(
			func(s *State, o *Observed, _ time.Time) {
				seen := map[string]gapless.Instance{}
				for id, in := range o.Instances {
					if m := s.member(id); in.State == gapless.Failed && m != nil && m.Role == Stable {
						in.State = gapless.Starting
					}
					seen[id] = in
				}
				o.Instances = seen
			})},
		{"a candidate that crashes is waited for", "does not come to rest", before(
			func(s *State, o *Observed, _ time.Time) {
				seen := map[string]gapless.Instance{}
				for id, in := range o.Instances {
					if m := s.member(id); m != nil && m.Role == Candidate && in.State != gapless.Ready {
						in.State, in.Restarts = gapless.Starting, 0
					}
					seen[id] = in
				}
				o.Instances = seen
			})},
		{"going back ends before the candidates are gone", "candidates left", after(
			func(_ State, is *State, _ Observed, _ *[]Action, t time.Time) {
				if is.Busy() && is.Back && is.Stable != "" && len(is.of(Candidate, "")) > 0 {
					is.Rollout.Outcome, is.Rollout.Finished, is.Back = gapless.TakenBack, t, false
				}
			})},
		{"the plan goes on while the journal cannot be written", "before it was saved",
			func(s State, o Observed, t time.Time, _ bool) (State, []Action) { return decide(s, o, t, false) }},
		{"a ramp goes on before its share is served", "the share goes up", before(
			func(s *State, o *Observed, t time.Time) {
				if current(*s).Kind == gapless.StepRamp && s.Busy() && !s.Back && o.Served.Route != nil && len(o.Served.Route.Targets) > 0 {
					d := &decision{s: *s, obs: *o, now: t}
					r := *o.Served.Route
					r.Weights = []gapless.Weight{{Release: s.Stable, Share: 1 - d.share()}, {Release: s.Rollout.To, Share: d.share()}}
					o.Served.Known, o.Served.Route = true, &r
					if s.Rollout.Verdict == nil { // so that it climbs soon
						s.Rollout.Verdict = &gapless.Verdict{Kind: gapless.Undecided, Share: 0.5}
					}
				}
			})},
		{"a ramp gives more than its judge allows", "its judge allows", onRoute(
			func(s State, _ Observed, r *gapless.Route) {
				if current(s).Kind == gapless.StepRamp && !s.Back && len(r.Weights) == 2 && r.Weights[1].Share > 0 {
					r.Weights[0].Share, r.Weights[1].Share = 0.5, 0.5
				}
			})},
		{"a ramp does not wait for instances", "instances are ready", onRoute(
			func(s State, o Observed, r *gapless.Route) {
				if v := s.Rollout.Verdict; current(s).Kind == gapless.StepRamp && !s.Back && len(r.Weights) == 2 && v != nil && r.Weights[0].Share > 0 && v.Share > r.Weights[1].Share {
					r.Weights[0].Share, r.Weights[1].Share = 1-v.Share, v.Share
				}
			})},
		{"a ramp is over although nothing is proven", "although it was to", before(
			func(s *State, _ *Observed, _ time.Time) {
				s.Skip = s.Skip || current(*s).Kind == gapless.StepRamp
			})},
		{"a share is more than the ready instances carry", "instances are ready", onRoute(
			func(s State, _ Observed, r *gapless.Route) {
				if s.Busy() && !s.Back && len(r.Weights) == 2 && s.Weight > 0 {
					r.Weights[0].Share, r.Weights[1].Share = 1-s.Weight, s.Weight
				}
			})},
		{"nobody needs to judge a share", "nobody needs to judge", onRoute(
			func(_ State, _ Observed, r *gapless.Route) { r.Lease, r.Fallback = 0, nil })},
		{"the fallback gives all to stable, whatever it carries", "but it carries", onRoute(
			func(_ State, _ Observed, r *gapless.Route) {
				if r.Lease > 0 {
					r.Fallback = []gapless.Weight{{Release: r.Stable, Share: 1}}
				}
			})},
		{"the fallback changes nothing", "the fallback leaves", onRoute(
			func(_ State, _ Observed, r *gapless.Route) {
				if r.Lease > 0 {
					r.Fallback = r.Weights
				}
			})},
		{"it does not matter that an edge fell back", "although an edge fell back", before(
			func(_ *State, o *Observed, _ time.Time) { o.Served.FellBack = false })},
		{"it does not matter that no request gets through", "no request gets through", before(
			func(_ *State, o *Observed, _ time.Time) { o.Served.Failing = nil })},
		{"the candidate is shown on the way back", "is shown to people", onRoute(
			func(s State, _ Observed, r *gapless.Route) {
				if s.Busy() && s.Back {
					r.Preview = &gapless.PreviewRoute{Release: s.Rollout.To}
				}
			})},
		{"a candidate without weight may be picked", "has no weight", before(
			func(s *State, _ *Observed, _ time.Time) { s.Preview = s.Busy() && !s.Back })},
		{"the judge is saved, its cursor is not", "are counted", after(
			func(was State, is *State, _ Observed, _ *[]Action, _ time.Time) {
				if was.Cursor != nil && is.Busy() {
					is.Cursor = was.Cursor
				}
			})},
		{"the cursor is saved, the judge is not", "counted", after(
			func(was State, is *State, _ Observed, _ *[]Action, _ time.Time) {
				if was.Judge != nil && is.Busy() {
					is.Judge = was.Judge
				}
			})},
		{"how long requests took is counted twice", "how long requests took", after(
			func(was State, is *State, o Observed, _ *[]Action, _ time.Time) {
				if is.Judge == nil || is.Folded.Equal(was.Folded) {
					return
				}
				var again []gapless.Tally
				for _, t := range o.Tallies {
					again = append(again, gapless.Tally{Release: t.Release, Weight: t.Weight, Paces: t.Paces})
				}
				is.Judge = is.Judge.Observe(again)
			})},
		{"what fails after it was promoted stays", "and stays although", after(
			func(was State, is *State, _ Observed, acts *[]Action, _ time.Time) {
				if !was.Busy() && is.Busy() && is.Rollout.Auto {
					*is, *acts = was.Clone(), nil
				}
			})},
		{"a watch counts answers twice", "since it was promoted", after(
			func(was State, is *State, o Observed, _ *[]Action, _ time.Time) {
				if was.Bake != nil && is.Bake != nil && !is.Bake.Folded.Equal(was.Bake.Folded) {
					is.Bake.Judge = is.Bake.Judge.Observe(credible(o.Tallies))
				}
			})},
		{"what is watched has nothing to go back to", "is given up", before(
			func(s *State, _ *Observed, t time.Time) {
				if s.Bake != nil {
					for _, m := range s.of(Kept, "") {
						m.Until = t
					}
				}
			})},
		{"tallies that cannot be are taken in", "are counted", after(
			func(was State, is *State, o Observed, _ *[]Action, _ time.Time) {
				if was.Judge != nil && is.Judge != nil && !is.Folded.Equal(was.Folded) {
					is.Judge = was.Judge.Observe(o.Tallies)
				}
			})},
		{"the verdict does not matter", "is proven worse", after(
			func(was State, is *State, _ Observed, acts *[]Action, _ time.Time) {
				if !was.Back && is.Back && is.Rollout.Verdict != nil && is.Rollout.Verdict.Kind == gapless.Worse {
					judge, cursor := is.Judge, is.Cursor
					*is, *acts = was.Clone(), nil
					is.Judge, is.Cursor = judge, cursor
				}
			})},
		{"undecided, it goes on whatever was asked for", "although it was to",
			func(s State, o Observed, t time.Time, hold bool) (State, []Action) {
				if !s.Busy() {
					return decide(s, o, t, hold)
				}
				was := s.Clone()
				for i := range was.Rollout.Plan {
					was.Rollout.Plan[i].OnUndecided = ""
				}
				is, acts := decide(was, o, t, hold)
				is.Rollout.Plan = slices.Clone(s.Rollout.Plan)
				return is, acts
			}},
		{"time counts as watched although nobody looked", "of judging", before(
			func(s *State, _ *Observed, t time.Time) {
				if s.Busy() && t.After(s.Since) && current(*s).Kind == gapless.StepJudge {
					s.Watched, s.Looked = gapless.Duration(t.Sub(s.Since)), t
				}
			})},
		{"a look without evidence counts as watched", "of judging", before(
			func(_ *State, o *Observed, _ time.Time) { o.Blind = false })},
		{"a pause is no pause", "although it is paused", before(
			func(s *State, _ *Observed, _ time.Time) { s.Paused = false })},
		{"a hook that may have run runs again", "runs twice", before(
			func(s *State, o *Observed, _ time.Time) {
				if _, known := o.Hooks[s.Hook]; !known {
					s.Hook = ""
				}
			})},
		{"the kept set is given up", "is given up", before(
			func(s *State, _ *Observed, t time.Time) {
				for _, m := range s.of(Kept, "") {
					m.Role, m.Since = Leaving, t
				}
			})},
		{"a rollback starts what is kept warm", "although the kept set is warm", before(
			func(s *State, _ *Observed, t time.Time) {
				if s.Busy() && s.Rollout.Kind == "rollback" && s.Rollout.Cursor == 0 && !s.Entered {
					for _, m := range s.of(Candidate, gapless.WebProcess) {
						m.Role, m.Since = Leaving, t
					}
					plan := []gapless.Step{{Kind: gapless.StepScale, Process: gapless.WebProcess, N: s.Next[gapless.WebProcess]}, {Kind: gapless.StepWarm}}
					s.Rollout.Plan = append(plan, s.Rollout.Plan...)
				}
			})},
		{"an abort is forgotten", "although it was aborted", before(
			func(s *State, _ *Observed, _ time.Time) {
				if s.Busy() && s.Back && strings.HasPrefix(s.Rollout.Reason, "aborted") {
					s.Back = false
				}
			})},
		{"a rollout ends promoted although it was taken back", "was promoted, but", after(
			func(was State, is *State, _ Observed, _ *[]Action, _ time.Time) {
				if was.Busy() && !is.Busy() && is.Rollout.Outcome == gapless.TakenBack {
					is.Rollout.Outcome = gapless.Promoted
				}
			})},
		{"a change of the weights counts as served without reading back", "step", before(
			func(s *State, o *Observed, t time.Time) {
				if current(*s).Kind == gapless.StepWeight && s.Busy() && !s.Back && o.Served.Route != nil && len(o.Served.Route.Targets) > 0 {
					d := &decision{s: *s, obs: *o, now: t}
					r := *o.Served.Route
					r.Weights = []gapless.Weight{{Release: s.Stable, Share: 1 - d.share()}, {Release: s.Rollout.To, Share: d.share()}}
					o.Served.Known, o.Served.Route = true, &r
				}
			})},
		{"what one edge serves is taken for what all serve", "step", before(
			func(s *State, o *Observed, _ time.Time) { o.Served.Known = true })},
		{"copies are made on the way back", "at the wrong time", onRoute(
			func(s State, _ Observed, r *gapless.Route) {
				if s.Busy() && s.Back {
					r.Mirror = &gapless.MirrorRoute{Rollout: s.Rollout.ID, Release: s.Rollout.To, Share: 0.1}
				}
			})},
		{"requests are copied to nobody", "without a ready instance", onRoute(
			func(_ State, _ Observed, r *gapless.Route) {
				if m := r.Mirror; m != nil && r.Share(m.Release) == 0 {
					r.Targets = slices.DeleteFunc(r.Targets, func(t gapless.Target) bool { return t.Release == m.Release })
				}
			})},
		{"who gets copies gets requests, too", "because requests are copied", onRoute(
			func(_ State, _ Observed, r *gapless.Route) {
				if m := r.Mirror; m != nil && len(r.Weights) == 2 && r.Weights[1].Share == 0 {
					r.Weights[0].Share, r.Weights[1].Share = 0.9, 0.1
				}
			})},
		{"it does not matter that answers differ", "goes on from mirroring although", before(
			func(_ *State, o *Observed, _ time.Time) {
				for start, c := range o.Mirrors {
					c.Differences = nil
					o.Mirrors[start] = c
				}
			})},
		{"no data is a good answer", "is not good", before(
			func(_ *State, o *Observed, _ time.Time) {
				for name, a := range o.Metrics {
					a.Check.Candidate.Kind = gapless.ReadValue
					o.Metrics[name] = a
				}
			})},
		{"a metric may fail as often as it likes", "failed 2 of", before(
			func(s *State, _ *Observed, _ time.Time) {
				for i := 0; s.Busy() && i < len(s.Rollout.Metrics); i++ {
					s.Rollout.Metrics[i].Limit = 99
				}
			})},
		{"it does not matter that no answer was compared", "goes on from mirroring although", before(
			func(_ *State, o *Observed, _ time.Time) {
				for start, c := range o.Mirrors {
					c.Pairs += 100
					o.Mirrors[start] = c
				}
			})},
		{"the time before the copies counts as mirrored", "of mirroring", before(
			func(s *State, _ *Observed, t time.Time) {
				if s.Busy() && t.After(s.Since) && current(*s).Kind == gapless.StepMirror {
					s.Watched, s.Looked = gapless.Duration(t.Sub(s.Since))+gapless.Duration(time.Second), t
				}
			})},
		{"copies are counted again and again", "more copies than", after(
			func(was State, is *State, _ Observed, _ *[]Action, _ time.Time) {
				if was.Busy() && was.Rollout.Mirror != nil && is.Busy() && !is.Shadowed.Equal(was.Shadowed) {
					sum := was.Rollout.Mirror.Plus(*is.Rollout.Mirror)
					is.Rollout.Mirror = &sum
				}
			})},
		{"when stable cannot come back, the candidate leaves all the same", "ready capacity falls to nobody", after(
			func(_ State, is *State, o Observed, _ *[]Action, t time.Time) {
				d := &decision{s: *is, obs: o, now: t}
				if is.Busy() && is.Back && t.Sub(is.Since) > StuckLimit-5*time.Second && d.countReady(Stable, gapless.WebProcess) == 0 {
					for _, m := range is.of(Candidate, gapless.WebProcess) {
						m.Role, m.Since = Leaving, t
					}
				}
			})},
		{"nobody is told that the candidate serves on", "nobody is told", after(
			func(was State, is *State, _ Observed, _ *[]Action, _ time.Time) {
				if was.Busy() && was.Back && !is.Busy() && is.Stable == is.Rollout.To {
					is.Rollout.Reason = was.Rollout.Reason
				}
			})},
	} {
		plant(t, c.bug, c.breaks, func(w *world) { w.decide = c.plant })
	}
	for _, c := range []struct {
		bug, breaks string
		plant       func(*world)
	}{
		{"an instance gets its identity after the fork", "stranger", func(w *world) { w.anonymous = true }},
		{"the release before is thrown away while a rollout runs", "its release is gone", func(w *world) {
			w.inUse = func(s State) map[string]bool {
				used := s.InUse()
				if s.Busy() && s.Rollout.From != s.Rollout.To {
					delete(used, s.Rollout.From)
				}
				return used
			}
		}},
	} {
		plant(t, c.bug, c.breaks, c.plant)
	}
}

// plant tells stories with a bug until one breaks what it should break.
func plant(t *testing.T, bug, breaks string, plant func(*world)) {
	t.Run(strings.ReplaceAll(bug, " ", "-"), func(t *testing.T) {
		others := map[string]int{}
		for seed := range uint64(30000) {
			w := tell(seed, false, plant)
			if w.broken == nil {
				continue
			}
			if strings.Contains(w.broken.Error(), breaks) {
				t.Logf("%q is found by %q, seed %d: %v", breaks, bug, seed, w.broken)
				return
			}
			others[w.broken.Error()]++
		}
		t.Errorf("not found as %q; found as %v", breaks, others)
	})
}
