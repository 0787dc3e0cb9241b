package judge

import (
	"math"

	"gapless"
)

// mass is how the stake of 1 is split between the tests for worse: errors,
// p50, p90, p99. The weighted sum of bets that are fair while the candidate is
// no worse is fair, too, so one false-alarm rate holds for all of them. Errors
// have so much that as few bad answers decide as if they were judged alone,
// where stable gives none: two at 5 %, three at 10 %, four at 25 %.
var mass = [1 + gapless.Quantiles]float64{0.65, 0.05, 0.12, 0.18}

// Verdict is the verdict on all that was observed. weight is the candidate's
// share now; it picks the test that an undecided verdict reports, and Needed
// is told for it. The first Worse is final: the caller acts on it, though
// later evidence may speak for the candidate again. So is the first NotWorse.
//
// All tests that have a control raise a false alarm with probability at most
// Config.Alpha together, over the whole rollout, and so does the guard. A
// margin is said to be kept although it is not with probability at most
// Config.Beta.
func (j Judge) Verdict(weight float64) gapless.Verdict {
	if j.Watching != nil {
		return j.Watching.verdict(j.Config.withDefaults())
	}
	s := j.sight(weight)
	v := gapless.Verdict{Kind: gapless.Undecided, Test: s.test(), Terms: s.terms[:], Warming: j.Learned != nil && j.Learned.Warming != nil}
	v.Proofs, v.Needed.Requests = s.prove()
	v.Bound = s.c.excess().bound(j.Rows, s.c.proof())
	v.Share = s.c.share(v.Bound, s.weight, v.Warming)
	v.Bands = s.bands()
	if limit, both := bothBad(&s.c, j.Rows); both {
		v.Alert = s.alert(limit)
	}
	worse := s.worse()
	if worse != "" {
		v.Test = worse
	}
	v.Evidence = s.figures(v.Test)
	switch {
	case worse != "":
		v.Kind, v.Needed = gapless.Worse, gapless.Needed{}
		v.Reason = s.whyWorse(v)
	case proven(v.Proofs):
		v.Kind, v.Share, v.Needed = gapless.NotWorse, 1, gapless.Needed{}
		v.Reason = s.whyNotWorse(v)
	default:
		v.Needed.Bad = s.neededBad()
		v.NoData = v.Evidence.Candidate.Requests == 0
		v.Reason = s.whyUndecided(v)
	}
	return v
}

// sight is what a verdict is made of.
type sight struct {
	Judge
	c                 Config // with defaults
	weight            float64
	candidate, stable gapless.Arm // that had a control

	errors bets
	terms  [1 + gapless.Quantiles]gapless.Term
	lnE    float64 // of all terms
	guard  guard
}

// sight looks at all rows.
func (j Judge) sight(weight float64) *sight {
	weight, ok := coin(weight)
	if !ok {
		weight = 0
	}
	s := &sight{Judge: j, c: j.Config.withDefaults(), weight: weight}
	c := &s.c
	s.guard = newGuard(c, j.Rows)
	s.candidate, s.stable = compared(j.Rows, j.Rough)
	s.errors = c.errors().on(j.Rows, j.Rough)
	s.terms[0] = gapless.Term{Test: gapless.TestErrors, Weight: mass[0], LnE: s.errors.lnE(), Phi: c.Phi}
	for i, test := range gapless.QuantileTests() {
		b := c.slower(i).on(j.Rows, i, (*Row).worse)
		s.terms[1+i] = gapless.Term{Test: test, Weight: mass[1+i], LnE: b.lnE(), Phi: c.PhiSlow[i]}
	}
	s.lnE = combined(s.terms)
	return s
}

// test is the one that an undecided verdict reports.
func (s *sight) test() gapless.VerdictTest {
	if s.weight >= 1 {
		return gapless.TestGuard
	}
	return gapless.TestErrors
}

// worse is the test that proves the candidate worse, "" if none does.
func (s *sight) worse() gapless.VerdictTest {
	switch {
	case s.lnE >= s.c.threshold():
		return s.strongest()
	case s.guard.breaks(s.guard.arm, s.c.threshold()):
		return gapless.TestGuard
	}
	return ""
}

// combined is the logarithm of the weighted sum. A test that saw nothing has
// kept its stake.
func combined(terms [1 + gapless.Quantiles]gapless.Term) float64 {
	top := math.Inf(-1)
	for _, t := range terms {
		top = max(top, t.LnE)
	}
	sum := 0.0
	for _, t := range terms {
		sum += t.Weight * math.Exp(t.LnE-top)
	}
	return top + math.Log(sum)
}

// strongest is the test that most of the evidence comes from.
func (s *sight) strongest() gapless.VerdictTest {
	best := s.terms[0]
	for _, t := range s.terms[1:] {
		if t.LnE+math.Log(t.Weight) > best.LnE+math.Log(best.Weight) {
			best = t
		}
	}
	return best.Test
}

func (s *sight) figures(test gapless.VerdictTest) gapless.Figures {
	f := gapless.Figures{Weight: s.weight, Threshold: 1 / s.c.Alpha}
	if test == gapless.TestGuard {
		f.Candidate, f.LnE, f.Limit = s.guard.arm, s.guard.lnE(0), s.guard.p
		return f
	}
	f.Candidate, f.Stable, f.LnE = s.candidate, s.stable, s.lnE
	for _, t := range s.terms {
		if t.Test == test {
			f.Phi = t.Phi
		}
	}
	return f
}

// neededBad is the smallest number of further bad answers in a row that decide.
func (s *sight) neededBad() uint64 {
	if s.weight >= 1 {
		return fewest(func(n uint64) bool { return s.guard.lnE(n) >= s.c.threshold() })
	}
	if s.weight <= 0 {
		return 0
	}
	step := bets{n: s.errors.n}
	s.c.errors().add(&step, 1, 0, s.weight)
	return fewest(func(n uint64) bool {
		terms := s.terms
		more := s.errors.after(float64(n), &step)
		terms[0].LnE = more.lnE()
		return combined(terms) >= s.c.threshold()
	})
}

// prove says what of that the candidate is not worse is proven, and how many
// more of its requests it takes to prove all, 0 if that is not known.
func (s *sight) prove() (all []gapless.Proof, requests uint64) {
	threshold := s.c.proof()
	known := true
	add := func(test gapless.VerdictTest, margin float64, b, step *bets) {
		p := gapless.Proof{Test: test, Margin: margin, LnE: b.lnE(), Threshold: 1 / s.c.Beta}
		p.Proven = p.LnE >= threshold
		if !p.Proven && step != nil {
			p.Needed = b.needed(step, threshold)
			known = known && p.Needed > 0
		} else if !p.Proven {
			known = false
		}
		requests = max(requests, p.Needed)
		all = append(all, p)
	}
	b := s.c.excess().on(s.Rows, s.c.Errors)
	add(gapless.TestErrors, s.c.Errors, &b, s.goodRequest())
	for i, test := range gapless.QuantileTests() {
		if s.c.demands(i) {
			b := s.c.notSlower(i).on(s.Rows, i, (*Row).margin)
			add(test, s.c.Slower[i], &b, s.fastRequest(i))
		}
	}
	if !known {
		requests = 0
	}
	return all, requests
}

func proven(all []gapless.Proof) bool {
	for _, p := range all {
		if !p.Proven {
			return false
		}
	}
	return true
}

// goodRequest is what one more request of the candidate adds to the proof of
// errors, if it is as good as stable, and with what stable is given meanwhile;
// nil where stable is given nothing.
func (s *sight) goodRequest() *bets {
	if s.weight <= 0 || s.weight >= 1 {
		return nil
	}
	bad := 0.0
	if s.stable.Requests > 0 {
		bad = float64(s.stable.Bad) / float64(s.stable.Requests)
	}
	b := bets{n: len(excessStakes)}
	both := 1 / s.weight
	s.c.excess().add(&b, both*(1-bad), bad, (both-1)*bad, s.c.Errors, s.weight)
	return &b
}

// fastRequest is the same for the proof of a quantile; nil where nothing is
// known of stable.
func (s *sight) fastRequest(i int) *bets {
	l := s.Learned
	if s.weight <= 0 || s.weight >= 1 || l == nil {
		return nil
	}
	quantile, margin := l.Limits.Quantile[i], l.Limits.Margin[i]
	if quantile == 0 { // while instances warm up
		all, _, margins := l.limits(&s.c)
		if quantile, margin = all[i], margins[i]; quantile == 0 {
			return nil
		}
	}
	slow, late := l.Usual.over(quantile), l.Usual.over(margin)
	b := bets{n: len(notSlowerOdds[i])}
	others := 1/s.weight - 1
	s.c.notSlower(i).add(&b, late, 1-late, others*slow, others*(1-slow), s.weight)
	return &b
}
