package config

import (
	"slices"
	"strings"
	"time"

	"gapless"

	"github.com/goccy/go-yaml/ast"
)

// What a step may take, at least and at most.
const stepMin, stepMax = time.Second, 7 * 24 * time.Hour

var (
	strategies = []string{gapless.StrategyRolling, gapless.StrategyBlueGreen, gapless.StrategyCanary, gapless.StrategyDark}
	undecided  = []string{gapless.OnUndecidedContinue, gapless.OnUndecidedPause, gapless.OnUndecidedRollback}
)

// word reads one of a few known words.
func (r *reader) word(dst *string, what string, known []string) setter {
	return r.str(dst, what, func(v string) *fault {
		if slices.Contains(known, v) {
			return nil
		}
		f := faultf("unknown %s %s", what, quote(v))
		if near := gapless.Nearest(v, known); near != "" {
			return f.withHint("did you mean %s?", near)
		}
		return f.withHint("one of: %s", strings.Join(known, ", "))
	})
}

// preview reads {host, header, cookie}.
func (s *settings) preview(r *reader) setter {
	return func(n ast.Node) {
		p := &gapless.Preview{}
		before := len(r.problems.list)
		r.object(n, "preview", r.previewKeys(p))
		if p.Host == "" && p.Header == "" && p.Cookie == "" && len(r.problems.list) == before {
			r.fail(n, faultf("preview has neither host, header nor cookie").withHint(`write preview: { host: next.example.com }, { header: "X-Preview: next" } or { cookie: preview=next }`))
		}
		s.app.Preview = p
	}
}

func (r *reader) previewKeys(p *gapless.Preview) map[string]setter {
	return map[string]setter{
		"host": func(n ast.Node) {
			text, ok := r.scalar(n, "host")
			if !ok {
				return
			}
			host, f := parseHost(text)
			r.fail(n, f)
			p.Host = host
		},
		"header": r.header(&p.Header, &p.Value),
		"cookie": r.cookie(&p.Cookie, &p.Content, inviteForm),
	}
}

// checkPlan checks what no key can know alone, and makes App.Steps of the plan.
func (s *settings) checkPlan(p *problems) {
	a := &s.app
	own := len(s.plan) > 0
	misplaced := func(key string, f *fault) {
		if at, ok := s.where[key]; ok {
			p.add(at, f)
		}
	}
	if own {
		misplaced("strategy", faultf("strategy and steps are both given; steps are the whole plan").withHint("remove one of them"))
	}
	dark := !own && a.Strategy == gapless.StrategyDark
	traffic := a.Strategy // how it gets traffic
	if dark {
		if traffic = a.Mirror.Then; traffic == "" {
			traffic = gapless.StrategyCanary
		}
	} else if a.Mirror.Then != "" {
		misplaced("mirror", faultf("then belongs to strategy dark-launch").withHint("remove it, or write strategy: dark-launch"))
	} else if !slices.ContainsFunc(s.plan, func(st placed) bool { return st.Kind == gapless.StepMirror }) {
		misplaced("mirror", faultf("nothing is mirrored in this plan").withHint("write strategy: dark-launch, or steps with the step mirror"))
	}
	blueGreen := !own && traffic == gapless.StrategyBlueGreen
	if a.Flip && !blueGreen {
		misplaced("flip", faultf("flip belongs to strategy blue-green").withHint("remove it, or write strategy: blue-green"))
	}
	if own {
		misplaced("keep", faultf("keep belongs to a strategy; here the plan is written as steps").withHint("write it as a step: - keep: %s", a.Keep))
	} else if traffic == gapless.StrategyRolling {
		misplaced("keep", faultf("strategy rolling keeps no old set").withHint("remove it, or write strategy: blue-green or canary"))
	}
	shown := slices.ContainsFunc(s.plan, func(st placed) bool { return st.Kind == gapless.StepPreview })
	if !blueGreen && !shown {
		misplaced("preview", faultf("nothing shows a preview in this plan").withHint("write strategy: blue-green, or steps with the step preview"))
	}
	if a.Preview != nil && a.Preview.Host != "" && slices.Contains(a.Hosts, a.Preview.Host) {
		misplaced("preview", faultf("%s is the host of a preview and of the app", a.Preview.Host).withHint("give the preview a host name of its own"))
	}
	s.checkRouting(p)
	s.checkMetrics(p)
	if !s.broken {
		s.checkSteps(p)
	}
}

// checkSteps follows the plan as the engine would.
func (s *settings) checkSteps(p *problems) {
	const order = "begin with start: 1, then warm"
	var steps []gapless.Step
	after := map[gapless.StepKind]gapless.Step{} // that may be written after promote
	have := 0                                    // instances started so far
	started, ready, weighted, promoted := false, false, false, false
	for _, st := range s.plan {
		fail := func(f *fault) { p.add(st.at, f) }
		if promoted && st.Kind != gapless.StepKeep && st.Kind != gapless.StepBake && st.Kind != stepDrain {
			fail(faultf("step %s comes after promote", st.Kind).withHint("only keep, bake and drain may follow promote"))
			continue
		}
		switch st.Kind {
		case gapless.StepStart, gapless.StepScale:
			n := st.N
			if n < 0 {
				n = s.web.Instances
			}
			switch {
			case n > s.web.Instances:
				fail(faultf("%s is %d, but the app has %d instances", st.Kind, n, s.web.Instances).withHint("write max for all of them"))
			case st.Kind == gapless.StepStart && have+n > s.web.Instances:
				fail(faultf("start adds %d to the %d instances started before, but the app has %d", n, have, s.web.Instances).withHint("write scale: %d to have that many in all", n))
			case st.Kind == gapless.StepStart:
				have += n
			default:
				have = max(have, n)
			}
			started = true
		case gapless.StepWarm:
			if !started {
				fail(faultf("nothing was started that could get warm").withHint(order))
			}
			ready = started
		case gapless.StepWeight, gapless.StepRamp, gapless.StepPreview, gapless.StepMirror:
			if !ready {
				fail(faultf("step %s comes before the new release is started and warm", st.Kind).withHint(order))
			}
			if st.Kind == gapless.StepPreview && s.app.Preview == nil && len(s.app.Match) == 0 {
				fail(faultf("step preview has no host or header to show").withHint(`add preview: { host: next.example.com } or match: { cookie: tester=yes } at the top of the file`))
			}
			weighted = weighted || st.Kind == gapless.StepWeight || st.Kind == gapless.StepRamp
		case gapless.StepJudge:
			if !weighted {
				fail(faultf("there is nothing to judge before the new release has traffic").withHint("put weight: 5%% before it"))
			}
		case gapless.StepKeep, gapless.StepBake:
			if _, twice := after[st.Kind]; twice {
				fail(faultf("%s is given twice", st.Kind))
			}
			after[st.Kind] = gapless.Step{Kind: st.Kind, For: st.For}
			continue
		case stepDrain:
			if !promoted {
				fail(faultf("step drain comes before promote").withHint("remove it: after promote the old instances are drained"))
			}
			continue
		case gapless.StepPromote:
			promoted = true
			continue
		}
		steps = append(steps, st.Step)
	}
	for _, kind := range []gapless.StepKind{gapless.StepKeep, gapless.StepBake} { // the engine must know before it promotes
		if step, ok := after[kind]; ok {
			steps = append(steps, step)
		}
	}
	if promoted {
		steps = append(steps, gapless.Step{Kind: gapless.StepPromote})
	}
	if s.app.Steps = steps; len(steps) > 0 {
		s.app.Strategy = gapless.StrategySteps
	}
}
