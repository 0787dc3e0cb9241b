package judge

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"gapless"
)

// The sentence of Worse goes on where "rolled back after" ends.

func (s *sight) whyWorse(v gapless.Verdict) string {
	text := fmt.Sprintf("%s: evidence %s, false-alarm guarantee %s", s.against(v.Test), odds(v.Evidence.LnE), gapless.Percent(s.c.Alpha))
	if s.c.Alone && v.Test != gapless.TestGuard {
		text += "; stable has one instance, so that noise of one instance cannot be told from the version"
	}
	return text
}

// against says what speaks against the candidate.
func (s *sight) against(test gapless.VerdictTest) string {
	switch test {
	case gapless.TestErrors:
		text := fmt.Sprintf("%s (stable: %d of %d)", failed(s.candidate), s.stable.Bad, s.stable.Requests)
		if s.c.Ratio != 1 {
			text += fmt.Sprintf(", over %.3g × stable's rate", s.c.Ratio)
		}
		return text
	case gapless.TestGuard:
		return fmt.Sprintf("%s of %d, where %s is fine and nothing to compare with", failed(s.guard.arm), s.guard.arm.Requests, gapless.Percent(s.guard.p))
	}
	for i, name := range gapless.QuantileTests() {
		if name == test {
			p := paced(s.Rows, i, (*Row).worse)
			limit := ""
			if tau := s.Limits().Quantile[i]; tau > 0 {
				limit = " of " + short(tau)
			}
			return fmt.Sprintf("%d of %d candidate requests slower than stable's %s%s (stable: %d of %d)",
				p.candidate.Slow, p.candidate.Slow+p.candidate.Fast, test, limit, p.stable.Slow, p.stable.Slow+p.stable.Fast)
		}
	}
	return string(test)
}

func (s *sight) whyNotWorse(v gapless.Verdict) string {
	var margins []string
	for _, p := range v.Proofs {
		if p.Test == gapless.TestErrors {
			margins = append(margins, fmt.Sprintf("at most %s points more bad answers", points(p.Margin)))
		} else {
			margins = append(margins, fmt.Sprintf("%s at most %s slower", p.Test, gapless.Percent(p.Margin)))
		}
	}
	return fmt.Sprintf("not worse after %d candidate requests, %d failed (stable: %d of %d): %s; false-proof guarantee %s",
		s.candidate.Requests, s.candidate.Bad, s.stable.Bad, s.stable.Requests, strings.Join(margins, ", "), gapless.Percent(s.c.Beta))
}

func (s *sight) whyUndecided(v gapless.Verdict) string {
	if v.NoData {
		if s.weight >= 1 {
			return "no data: " + s.c.Candidate + " was given no request at 100 % yet"
		}
		return "no data: " + s.c.Candidate + " has answered no request that can be judged"
	}
	test := v.Test
	if test != gapless.TestGuard && s.lnE > 0 {
		test = s.strongest()
	}
	text := fmt.Sprintf("undecided: %s; evidence %s, %s decides", s.against(test), odds(v.Evidence.LnE), odds(s.c.threshold()))
	switch v.Needed.Bad {
	case 0:
	case 1:
		text += "; one more failed one would"
	default:
		text += fmt.Sprintf("; %d more failed ones in a row would", v.Needed.Bad)
	}
	return text + s.open(v)
}

// open says what is missing for a proof.
func (s *sight) open(v gapless.Verdict) string {
	switch {
	case s.weight <= 0 || s.weight >= 1:
		return ""
	case v.Warming:
		return "; instances warm up, latency is not judged yet"
	case v.Needed.Requests > 0:
		return fmt.Sprintf("; about %d more good ones would prove it not worse", v.Needed.Requests)
	}
	for _, p := range v.Proofs {
		if !p.Proven && p.Test != gapless.TestErrors && s.fastRequest(index(p.Test)) == nil {
			return fmt.Sprintf("; stable's %s is not known yet", p.Test)
		}
	}
	return ""
}

func index(test gapless.VerdictTest) int {
	for i, name := range gapless.QuantileTests() {
		if name == test {
			return i
		}
	}
	return 0
}

// alert says that both are in trouble.
func (s *sight) alert(limit float64) string {
	return fmt.Sprintf("both releases give bad answers to over %s of their requests: %s: %s, %s: %s", gapless.Percent(limit),
		s.c.Candidate, share(s.candidate), s.c.Stable, share(s.stable))
}

// sum adds b to a. A bad answer may be reported before the request that it
// belongs to; it is a request all the same.
func sum(a *gapless.Arm, b gapless.Arm) {
	a.Requests += max(b.Requests, b.Bad)
	a.Bad += b.Bad
}

// share writes an arm for people: "3 of 912 bad".
func share(a gapless.Arm) string {
	return fmt.Sprintf("%d of %d bad", a.Bad, a.Requests)
}

// failed counts the candidate's bad answers for people.
func failed(a gapless.Arm) string {
	if a.Bad == 1 {
		return "1 failed candidate request"
	}
	return fmt.Sprintf("%d failed candidate requests", a.Bad)
}

// odds writes evidence for people: "494:1".
func odds(lnE float64) string { return gapless.Odds(lnE) + ":1" }

// points writes a share as points of percent: "0.5".
func points(share float64) string { return strconv.FormatFloat(100*share, 'g', 3, 64) }

// short writes a latency with two or three digits.
func short(d time.Duration) string {
	unit := time.Microsecond
	for unit*1000 <= d {
		unit *= 10
	}
	return d.Round(unit).String()
}
