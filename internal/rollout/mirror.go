package rollout

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"gapless"
)

// Default settings of mirroring.
const (
	mirrorShare   = 0.1
	mirrorFor     = gapless.Duration(5 * time.Minute)
	mirrorTimeout = gapless.Duration(5 * time.Second)
)

// Mirrorer is Evidence that also counts how a candidate answers copies of
// requests: per edge process, cumulative, for one rollout.
type Mirrorer interface {
	Mirrored(ctx context.Context, app, rollout string) (map[string]gapless.MirrorCounts, error)
}

// mirrorStep is a mirror step with what the app says, and the defaults, where
// the step itself says nothing.
func mirrorStep(app *gapless.App, step gapless.Step) gapless.Step {
	step.Weight = or(step.Weight, or(app.Mirror.Share, mirrorShare))
	step.For = or(step.For, or(app.Mirror.For, mirrorFor))
	step.OnUndecided = or(step.OnUndecided, or(app.Mirror.OnDifference, gapless.OnUndecidedPause))
	return step
}

// darkLaunch mirrors to the first instances of the candidate before it is
// given any traffic; what follows is the plan of another strategy.
func darkLaunch(app *gapless.App, counts map[string]int, old int) []gapless.Step {
	rest := *app
	rest.Strategy = or(app.Mirror.Then, gapless.StrategyCanary)
	plan := Compile(&rest, counts, old)
	at := slices.IndexFunc(plan, func(s gapless.Step) bool { return s.Kind == gapless.StepWeight || s.Kind == gapless.StepRamp })
	return slices.Insert(plan, at, mirrorStep(app, gapless.Step{Kind: gapless.StepMirror}))
}

// mirrored is the mirroring that a state asks for: while it is in a mirror
// step, also while that waits for a person, and there is somebody to copy to.
func (s *State) mirrored(obs Observed, lead string) *gapless.MirrorRoute {
	if !s.Busy() || s.Back || s.Rollout.To == lead || lead != s.Stable {
		return nil
	}
	step, to := current(*s), obs.Releases[s.Rollout.To]
	if step.Kind != gapless.StepMirror || to == nil {
		return nil
	}
	ready := slices.ContainsFunc(s.of(Candidate, gapless.WebProcess), func(m *Member) bool {
		in := obs.Instances[m.ID]
		return m.Release == to.Name && in.State == gapless.Ready && in.Address != ""
	})
	if !ready {
		return nil
	}
	set := to.Spec.Mirror
	m := &gapless.MirrorRoute{
		Rollout: s.Rollout.ID, Release: to.Name, Share: step.Weight, Compare: or(set.Compare, gapless.CompareBody),
		Timeout: or(set.Timeout, mirrorTimeout), Header: set.Header, Value: set.Value, NoCredentials: set.NoCredentials,
	}
	if len(set.Ignore) > 0 {
		m.Ignore = set.Ignore
	}
	if m.Header == "" {
		m.Header, m.Value = gapless.MirrorHeader, gapless.MirrorValue
	}
	return m
}

// shadow takes in what was counted of copies, now and then: it is written to
// the journal.
func (d *decision) shadow() {
	if d.s.Mirrors == nil || d.now.Sub(d.s.Shadowed) >= foldEvery {
		d.foldCopies()
	}
}

// foldCopies takes in what was counted of copies. What one edge process says
// replaces what it said before.
func (d *decision) foldCopies() {
	r, news := d.s.Rollout, false
	for start, c := range d.obs.Mirrors {
		news = news || c.Release == r.To && c.Progress() > d.s.Mirrors[start].Progress()
	}
	if !news || d.s.promoted() {
		return
	}
	next := maps.Clone(d.s.Mirrors)
	if next == nil {
		next = map[string]gapless.MirrorCounts{}
	}
	for start, c := range d.obs.Mirrors {
		if c.Release == r.To && c.Progress() > next[start].Progress() {
			next[start] = c
		}
	}
	d.s.Mirrors, d.s.Shadowed = next, d.now
	var sum gapless.MirrorCounts
	for _, start := range slices.Sorted(maps.Keys(next)) {
		sum = sum.Plus(next[start])
	}
	for i := range sum.Differences {
		sum.Differences[i].Proven = proven(sum.Differences[i])
	}
	if n := len(sum.Differences); n > gapless.MostDifferences {
		sum.Differences = sum.Differences[:gapless.MostDifferences]
	}
	r.Mirror = &sum
}

// By how little chance a difference is called one, and how few pairs say
// nothing of any.
const (
	provenChance   = 0.005
	doubtfulChance = 1.0 / 16
	fewestPairs    = 10
)

// chance is how probable it is that the candidate differs alone so often, and
// stable alone so rarely, if both differ from stable's first answer alike:
// then each pair in which one of them does is a fair coin.
func chance(d gapless.MirrorDifference) float64 {
	n := float64(d.Candidate + d.Stable)
	lgamma := func(x float64) float64 { v, _ := math.Lgamma(x); return v }
	p := 0.0
	for k := float64(d.Candidate); k <= n && k < float64(d.Candidate)+1000; k++ {
		p += math.Exp(lgamma(n+1) - lgamma(k+1) - lgamma(n-k+1) - n*math.Ln2)
	}
	return min(1, p)
}

func proven(d gapless.MirrorDifference) bool { return d.Candidate > 0 && chance(d) <= provenChance }

// shadowed reports whether a mirror step is over and found nothing that
// somebody has to decide about.
func (d *decision) shadowed(step gapless.Step) bool {
	r := d.s.Rollout
	served := d.obs.Served
	if !served.Known || served.Route == nil || served.Route.Mirror == nil || served.Route.Mirror.Rollout != r.ID {
		if gap := d.now.Sub(d.s.Looked); gap < 0 || gap >= lookEvery {
			d.s.Looked = d.now // nothing is copied yet
		}
		return false
	}
	if d.watched() < step.For.Std() || d.obs.Blind {
		return false
	}
	d.foldCopies()
	if to := d.obs.Releases[r.To]; to != nil && to.Spec.Mirror.Compare == gapless.CompareNothing {
		d.note("", "mirror", "", "%s", copiesText(r))
		return true
	}
	different, why := alike(r)
	if why == "" {
		d.note("", "mirror", "", "%s answers like %s: %s", r.To, r.From, copiesText(r))
		return true
	}
	hint := "read where: gapless show " + r.ID + "; what may differ goes under mirror: { ignore: […] }"
	switch step.OnUndecided {
	case gapless.OnUndecidedRollback:
		d.failed(why, hint)
		return false
	case gapless.OnUndecidedContinue:
		level := ""
		if different {
			level = "warn"
		}
		d.note(level, "mirror", "", "%s goes on: %s", r.To, why)
		return true
	}
	d.wait("%s", why)
	return false
}

// alike says why the answers of a candidate are not like those of stable, or
// not known to be: "" where they are. different: it is proven.
func alike(r *gapless.Rollout) (different bool, why string) {
	c := r.Mirror
	if c == nil || c.Copied == 0 {
		return false, "no request came that could be copied to " + r.To
	}
	var sure, maybe []string
	for _, x := range c.Differences {
		text := fmt.Sprintf("%s (%s) in %d", x.Path, x.Kind, x.Seen)
		switch {
		case proven(x):
			sure = append(sure, text)
		case x.Candidate > 0 && chance(x) <= doubtfulChance:
			maybe = append(maybe, text)
		}
	}
	of := fmt.Sprintf("of %d answers", c.Compared+c.Failed)
	switch {
	case len(sure) > 0:
		return true, fmt.Sprintf("%s answers otherwise than %s: %s %s", r.To, r.From, few(sure), of)
	case c.Compared+c.Failed < fewestPairs:
		return false, fmt.Sprintf("too few answers of %s could be compared: %d of %d copies were, at least %d with a second look at %s are needed",
			r.To, c.Compared, c.Copied, fewestPairs, r.From)
	case c.Pairs < fewestPairs:
		return false, fmt.Sprintf("too few second looks at %s to tell differences from noise: %d of %d answers of %s had one (about half do), at least %d are needed",
			r.From, c.Pairs, c.Compared+c.Failed, r.To, fewestPairs)
	case len(maybe) > 0:
		return false, fmt.Sprintf("%s may answer otherwise than %s: %s %s, too few to tell from chance", r.To, r.From, few(maybe), of)
	}
	return false, ""
}

// few lists the first of what may be many.
func few(list []string) string {
	const most = 3
	if n := len(list) - most; n > 0 {
		list = append(list[:most:most], fmt.Sprintf("and at %d more places", n))
	}
	return strings.Join(list, ", ")
}

// copiesText is what became of the copies, in one line.
func copiesText(r *gapless.Rollout) string {
	c := r.Mirror
	if c == nil {
		c = &gapless.MirrorCounts{}
	}
	return fmt.Sprintf("%d requests copied, %d answered, %d failed, %d dropped, %d compared, %d different",
		c.Copied, c.Answered, c.Failed, c.Dropped, c.Compared, c.Different)
}
