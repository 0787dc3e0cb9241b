package judge

import "gapless"

// Glance is what Verdict says in one word, and the evidence of the tests that
// have a control (natural logarithm), without all that is for people. It costs
// a tenth, so that whoever goes through a million requests one by one need not
// wait.
func (j Judge) Glance(weight float64) (lnE float64, kind gapless.VerdictKind) {
	s := j.sight(weight)
	switch {
	case s.worse() != "":
		return s.lnE, gapless.Worse
	case s.provesAll():
		return s.lnE, gapless.NotWorse
	}
	return s.lnE, gapless.Undecided
}

// provesAll is whether prove would find everything proven.
func (s *sight) provesAll() bool {
	threshold := s.c.proof()
	if b := s.c.excess().on(s.Rows, s.c.Errors); b.lnE() < threshold {
		return false
	}
	for i := range gapless.Quantiles {
		if !s.c.demands(i) {
			continue
		}
		if b := s.c.notSlower(i).on(s.Rows, i, (*Row).margin); b.lnE() < threshold {
			return false
		}
	}
	return true
}
