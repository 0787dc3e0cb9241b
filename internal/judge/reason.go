package judge

import (
	"fmt"
	"math"
	"strconv"

	"gapless"
)

func worse(c Config, t test, weight float64) gapless.Verdict {
	f := figures(c, t, weight)
	return gapless.Verdict{
		Kind:     gapless.Worse,
		Test:     t.name(),
		Evidence: f,
		Reason:   fmt.Sprintf("%s: %s; evidence %s, %s decides", t.claim(c), t.record(c, f), odds(f.LnE), odds(c.threshold())),
	}
}

func undecided(c Config, t test, weight float64) gapless.Verdict {
	f := figures(c, t, weight)
	v := gapless.Verdict{
		Kind:     gapless.Undecided,
		Test:     t.name(),
		Evidence: f,
		Needed:   gapless.Needed{Bad: needed(c, t, weight)},
		NoData:   f.Candidate.Requests == 0,
	}
	if v.NoData {
		v.Reason = "no data: " + c.Candidate + " was given no request that can be judged"
		if weight >= 1 {
			v.Reason = "no data: " + c.Candidate + " was given no request at 100 % yet"
		}
		return v
	}
	v.Reason = fmt.Sprintf("not proven that %s: %s; evidence %s, %s decides", t.claim(c), t.record(c, f), odds(f.LnE), odds(c.threshold()))
	switch v.Needed.Bad {
	case 0:
	case 1:
		v.Reason += "; one more bad answer would"
	default:
		v.Reason += fmt.Sprintf("; %d more bad answers in a row would", v.Needed.Bad)
	}
	return v
}

func figures(c Config, t test, weight float64) gapless.Figures {
	f := t.figures()
	f.Weight = weight
	f.LnE = t.lnE()
	f.Threshold = 1 / c.Alpha
	return f
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

// odds writes evidence for people: "494 : 1".
func odds(lnE float64) string {
	switch e := math.Exp(lnE); {
	case e > 999_999.5:
		return "over a million : 1"
	case e >= 99.5:
		return strconv.FormatFloat(math.Round(e), 'f', 0, 64) + " : 1"
	case e < 0.01:
		return "under 0.01 : 1"
	default:
		return strconv.FormatFloat(e, 'g', 2, 64) + " : 1"
	}
}
