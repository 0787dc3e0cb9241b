package config

import (
	"time"

	"github.com/goccy/go-yaml/ast"

	"gapless"
)

func (r *reader) balance(dst *gapless.Balance) setter {
	return func(n ast.Node) { r.object(n, "balance", r.balanceKeys(dst)) }
}

func (r *reader) balanceKeys(dst *gapless.Balance) map[string]setter {
	return map[string]setter{
		"slow_start": r.duration(&dst.SlowStart, "slow_start", 0, time.Hour),
		"stable":     r.whole(&dst.Stable, "stable", 1, 1_000_000),
		"candidate":  r.whole(&dst.Candidate, "candidate", 1, 1_000_000),
		"retries":    r.share(&dst.Retries, "retries"),
		"eject": func(n ast.Node) {
			on := !dst.NoEject
			r.boolean(&on, "eject")(n)
			dst.NoEject = !on
		},
	}
}
