package config

import (
	"gapless"

	"github.com/goccy/go-yaml/ast"
)

// Objectives that make sense: below, nothing is promised; above, a handful of
// bad answers in a million is too many.
const (
	leastSLO = 0.5
	mostSLO  = 0.99999
)

// slo reads the share of answers that must be good.
func (r *reader) slo(dst *float64) setter {
	return func(n ast.Node) {
		before, v := len(r.problems.list), 0.0
		r.share(&v, "slo")(n)
		switch {
		case len(r.problems.list) > before:
		case v < leastSLO || v > mostSLO:
			r.fail(n, faultf("slo is %s, but must be between %s and %s", gapless.Objective(v), gapless.Objective(leastSLO), gapless.Objective(mostSLO)).
				withHint("the share of answers that must be good, as in slo: 99.9%%"))
		default:
			*dst = v
		}
	}
}
