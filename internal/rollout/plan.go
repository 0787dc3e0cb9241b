package rollout

import (
	"math"
	"slices"
	"time"

	"gapless"
)

// FirstShare is the most that a candidate gets before it was watched once:
// below a quarter few bad answers are enough to see that it is worse.
const FirstShare = 0.25

// Default times of the strategies.
const (
	ownJudge       = gapless.Duration(10 * time.Minute)
	blueGreenJudge = gapless.Duration(time.Minute)
	blueGreenKeep  = gapless.Duration(10 * time.Minute)
	blueGreenShare = 0.1
)

// compile is Compile without what metrics ask for.
func compile(app *gapless.App, counts map[string]int, old int) []gapless.Step {
	switch {
	case counts[gapless.WebProcess] == 0 || old == 0:
		return Rolling(app, counts, old)
	case len(app.Steps) > 0:
		return custom(app, counts)
	case app.Strategy == gapless.StrategyBlueGreen:
		return blueGreen(app, counts)
	case app.Strategy == gapless.StrategyDark:
		return darkLaunch(app, counts, old)
	case app.Strategy == gapless.StrategyCanary:
		return canary(app, counts)
	}
	return Rolling(app, counts, old)
}

// Rolling is the plan of the rolling strategy: one instance first, watched at
// a small share, then batch by batch.
func Rolling(app *gapless.App, counts map[string]int, old int) []gapless.Step {
	var plan []gapless.Step
	web := counts[gapless.WebProcess]
	switch {
	case web > 0 && old == 0:
		plan = append(plan, startWeb(web)...)
		plan = append(plan, workers(app, counts)...)
		plan = append(plan, gapless.Step{Kind: gapless.StepWeight, Weight: 1})
	case web > 0:
		plan = append(plan, startWeb(1)...)
		plan = append(plan, workers(app, counts)...)
		plan = append(plan, gapless.Step{Kind: gapless.StepWeight, Weight: min(FirstShare, 1/float64(old+1))})
		if app.Soak > 0 {
			plan = append(plan, gapless.Step{Kind: gapless.StepJudge, For: app.Soak, OnUndecided: or(app.Judge.OnUndecided, gapless.OnUndecidedContinue)})
		}
		plan = append(plan, batches(web, old, 1, max(1, web/4), true)...)
	default:
		plan = append(plan, workers(app, counts)...)
	}
	plan = append(plan, swaps(app, counts)...)
	switch {
	case old == 0 || web == 0:
		return append(plan, gapless.Step{Kind: gapless.StepPromote})
	case app.Judge.Bake > 0: // the old ones stay, to go back to
		plan = slices.DeleteFunc(plan, func(s gapless.Step) bool { return s.Kind == gapless.StepDrain })
		plan = append(plan, gapless.Step{Kind: gapless.StepWeight, Weight: 1})
	}
	return append(plan, baked(app, 0, 0)...)
}

// blueGreen starts a whole second set, shows it, judges it at a small share
// and then moves all traffic at once; the old set stays warm for a while.
func blueGreen(app *gapless.App, counts map[string]int) []gapless.Step {
	plan := append(startWeb(counts[gapless.WebProcess]), workers(app, counts)...)
	if app.Preview != nil {
		plan = append(plan, gapless.Step{Kind: gapless.StepPreview})
	}
	if !app.Flip {
		plan = append(plan,
			gapless.Step{Kind: gapless.StepWeight, Weight: blueGreenShare},
			gapless.Step{Kind: gapless.StepJudge, For: or(app.Judge.Within, blueGreenJudge), OnUndecided: or(app.Judge.OnUndecided, gapless.OnUndecidedPause)})
	}
	plan = append(plan, gapless.Step{Kind: gapless.StepWeight, Weight: 1})
	if app.Flip {
		plan = append(plan, gapless.Step{Kind: gapless.StepJudge, For: or(app.Judge.Within, gapless.Duration(10*time.Second)),
			OnUndecided: or(app.Judge.OnUndecided, gapless.OnUndecidedContinue), Note: "no concurrent control"})
	}
	plan = append(plan, swaps(app, counts)...)
	keep := or(app.Keep, blueGreenKeep)
	return append(plan, baked(app, keep, keep)...)
}

// custom is the user's own plan, completed with what it must not lack.
func custom(app *gapless.App, counts map[string]int) []gapless.Step {
	var plan []gapless.Step
	n := counts[gapless.WebProcess]
	started, complete, promoted := false, false, false
	others := func() []gapless.Step { // they may have been started already
		steps := workers(app, counts)
		for i := range steps {
			if steps[i].Kind == gapless.StepStart {
				steps[i].Kind = gapless.StepScale
			}
		}
		return steps
	}
	// ready is what a share, or the judge, stands on: instances of web, and
	// once these are ready the other processes.
	ready := func(share float64) {
		switch {
		case !started:
			plan = append(plan, startWeb(enough(share, n))...)
		case !complete && plan[len(plan)-1].Kind != gapless.StepWarm:
			plan = append(plan, gapless.Step{Kind: gapless.StepWarm})
		}
		if !complete {
			plan = append(plan, others()...)
		}
		started, complete = true, true
	}
	promote := func() {
		if ready(1); !promoted {
			plan = append(plan, all(app, counts)...)
			has := func(kind gapless.StepKind) bool {
				return slices.ContainsFunc(plan, func(s gapless.Step) bool { return s.Kind == kind })
			}
			keep, bake := app.Keep, *app
			if has(gapless.StepKeep) {
				keep = 0
			}
			if has(gapless.StepBake) {
				bake.Judge.Bake = 0
			}
			plan = append(plan, baked(&bake, keep, 0)...)
		}
		promoted = true
	}
	for _, step := range app.Steps {
		if step.N < 0 { // "max"
			step.N = n
		}
		switch step.Kind {
		case gapless.StepPromote:
			promote()
			continue
		case gapless.StepPause, gapless.StepHook: // the only ones that may follow promote
			plan = append(plan, step)
			continue
		case gapless.StepStart, gapless.StepScale:
			step.Process = or(step.Process, gapless.WebProcess)
			if p := app.Process(step.Process); p == nil || p.Singleton || p.Cron != "" || step.N <= 0 {
				continue // swapped at the end, run by the clock, or nothing
			}
			started = started || step.Process == gapless.WebProcess
		case gapless.StepWeight:
			if step.Weight <= 0 {
				continue // that would be the share by ready instances
			}
			ready(step.Weight)
		case gapless.StepPreview:
			ready(0)
		case gapless.StepMirror:
			ready(0)
			step = mirrorStep(app, step)
		case gapless.StepJudge, gapless.StepRamp:
			ready(0)
			within := ownJudge
			if step.Kind == gapless.StepRamp {
				within = canaryRamp
			}
			step.For = or(step.For, or(app.Judge.Within, within))
			step.OnUndecided = or(step.OnUndecided, or(app.Judge.OnUndecided, gapless.OnUndecidedPause))
		case gapless.StepWarm, gapless.StepKeep, gapless.StepBake:
		default: // drain and swap are not for people to place
			continue
		}
		if !promoted {
			plan = append(plan, step)
		}
		if step.Kind == gapless.StepWarm && started && !complete && !promoted {
			plan, complete = append(plan, others()...), true
		}
	}
	promote()
	return plan
}

// all is what must have happened before any promote.
func all(app *gapless.App, counts map[string]int) []gapless.Step {
	var plan []gapless.Step
	for _, p := range app.Processes {
		if p.Cron == "" && !p.Singleton && counts[p.Name] > 0 {
			plan = append(plan, gapless.Step{Kind: gapless.StepScale, Process: p.Name, N: counts[p.Name]})
		}
	}
	plan = append(plan, gapless.Step{Kind: gapless.StepWarm}, gapless.Step{Kind: gapless.StepWeight, Weight: 1})
	return append(plan, swaps(app, counts)...)
}

// enough is how many of n instances a share needs. One slow instance alone
// would speak for all, so it is two where there are two.
func enough(share float64, n int) int {
	return min(n, max(int(math.Ceil(share*float64(n)-1e-9)), min(2, n)))
}

// rollback is the plan of the way to an earlier release of which kept web
// instances are warm. Where these are all, traffic goes first.
func rollback(app *gapless.App, counts map[string]int, kept int) []gapless.Step {
	var plan []gapless.Step
	web := counts[gapless.WebProcess]
	weight := gapless.Step{Kind: gapless.StepWeight, Weight: 1}
	if web > 0 && kept < web {
		plan = append(plan, gapless.Step{Kind: gapless.StepScale, Process: gapless.WebProcess, N: web}, gapless.Step{Kind: gapless.StepWarm})
	}
	if web > 0 && kept >= web {
		plan = append(plan, weight)
	}
	plan = append(plan, workers(app, counts)...)
	if web > 0 && kept < web {
		plan = append(plan, weight)
	}
	return append(append(plan, swaps(app, counts)...), gapless.Step{Kind: gapless.StepPromote})
}

func startWeb(n int) []gapless.Step {
	return []gapless.Step{{Kind: gapless.StepStart, Process: gapless.WebProcess, N: n}, {Kind: gapless.StepWarm}}
}

// workers starts the processes that may run twice, once web is ready.
func workers(app *gapless.App, counts map[string]int) []gapless.Step {
	var plan []gapless.Step
	for _, p := range app.Processes {
		if !p.Web() && p.Cron == "" && !p.Singleton && counts[p.Name] > 0 {
			plan = append(plan, gapless.Step{Kind: gapless.StepStart, Process: p.Name, N: counts[p.Name]})
		}
	}
	if len(plan) > 0 {
		plan = append(plan, gapless.Step{Kind: gapless.StepWarm})
	}
	return plan
}

// swaps exchanges the processes that must never run twice.
func swaps(app *gapless.App, counts map[string]int) []gapless.Step {
	var plan []gapless.Step
	for _, p := range app.Processes {
		if p.Singleton && p.Cron == "" && counts[p.Name] > 0 {
			plan = append(plan, gapless.Step{Kind: gapless.StepSwap, Process: p.Name})
		}
	}
	return plan
}

// or is v, or otherwise where v says nothing.
func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Restart replaces every instance by a new one of the same release, half of
// them at a time.
func Restart(app *gapless.App, counts map[string]int) []gapless.Step {
	var plan []gapless.Step
	for _, p := range app.Processes {
		n := counts[p.Name]
		switch {
		case n == 0 || p.Cron != "":
		case p.Singleton:
			plan = append(plan, gapless.Step{Kind: gapless.StepSwap, Process: p.Name})
		default:
			for _, s := range batches(n, n, 0, (n+1)/2, false) {
				s.Process = p.Name
				plan = append(plan, s)
			}
		}
	}
	return append(plan, gapless.Step{Kind: gapless.StepPromote})
}

// batches replaces old instances by n new ones, of which started run already,
// k at a time. Capacity never falls below the smaller of old and n.
func batches(n, old, started, k int, weigh bool) []gapless.Step {
	var plan []gapless.Step
	drained := 0
	drain := func() {
		if d := old*started/n - drained; d > 0 {
			plan = append(plan, gapless.Step{Kind: gapless.StepDrain, Process: gapless.WebProcess, N: d})
			drained += d
		}
	}
	if started > 0 {
		if weigh {
			plan = append(plan, gapless.Step{Kind: gapless.StepWeight})
		}
		drain()
	}
	for started < n {
		m := min(k, n-started)
		plan = append(plan,
			gapless.Step{Kind: gapless.StepStart, Process: gapless.WebProcess, N: m},
			gapless.Step{Kind: gapless.StepWarm})
		started += m
		if weigh {
			plan = append(plan, gapless.Step{Kind: gapless.StepWeight})
		}
		drain()
	}
	return plan
}

// Scale changes the number of instances of one process from have to want.
func Scale(process string, have, want int) []gapless.Step {
	switch {
	case want > have:
		return []gapless.Step{
			{Kind: gapless.StepStart, Process: process, N: want - have},
			{Kind: gapless.StepWarm},
			{Kind: gapless.StepPromote},
		}
	case want < have:
		return []gapless.Step{
			{Kind: gapless.StepDrain, Process: process, N: have - want},
			{Kind: gapless.StepPromote},
		}
	}
	return []gapless.Step{{Kind: gapless.StepPromote}}
}

// Describe writes one step for people.
func Describe(s gapless.Step) string { return s.String() }
