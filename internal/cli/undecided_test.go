package cli

import (
	"strings"
	"testing"
	"time"

	"gapless"
)

func TestUndecidedLines(t *testing.T) {
	base := gapless.Rollout{App: "shop", To: "v2", Outcome: gapless.Running, Waiting: "v2 is undecided after 5m: there is no evidence against it",
		Missing: gapless.Missing{Requests: 10000, For: gapless.Duration(9 * time.Minute)},
		Verdict: &gapless.Verdict{Kind: gapless.Undecided, Proofs: []gapless.Proof{{Test: gapless.TestErrors, Proven: true}, {Test: gapless.TestP50, Needed: 20}, {Test: gapless.TestP99, Needed: 10000}}}}
	with := func(change func(r *gapless.Rollout, v *gapless.Verdict)) gapless.Rollout {
		r, v := base, *base.Verdict
		r.Verdict = &v
		change(&r, &v)
		return r
	}
	for name, x := range map[string]struct {
		r             gapless.Rollout
		there, absent string // "" there: no line at all
	}{
		"p99": {base, "judge: { p99: off } or a wider margin", "synthetic"},
		"unknown": {with(func(_ *gapless.Rollout, v *gapless.Verdict) {
			v.Proofs = []gapless.Proof{{Test: gapless.TestP50}, {Test: gapless.TestP99, Needed: 5}}
		}), "p50: off", "p99"},
		"errors": {with(func(_ *gapless.Rollout, v *gapless.Verdict) {
			v.Proofs = []gapless.Proof{{Test: gapless.TestErrors, Needed: 5}}
		}), "judge: { errors: … }", "off"},
		"little traffic": {with(func(r *gapless.Rollout, _ *gapless.Verdict) { r.Missing.For = gapless.Duration(3 * time.Hour) }), "synthetic", ""},
		"no data":        {with(func(_ *gapless.Rollout, v *gapless.Verdict) { v.NoData, v.Proofs = true, nil }), "synthetic", "off"},
		"no verdict":     {with(func(r *gapless.Rollout, _ *gapless.Verdict) { r.Verdict = nil }), "synthetic", "off"},
		"a person":       {with(func(r *gapless.Rollout, _ *gapless.Verdict) { r.Waiting = "paused by a person at 5 %" }), "", ""},
		"proven since":   {with(func(_ *gapless.Rollout, v *gapless.Verdict) { v.Kind = gapless.NotWorse }), "", ""},
		"over":           {with(func(r *gapless.Rollout, _ *gapless.Verdict) { r.Outcome = gapless.TakenBack }), "", ""},
	} {
		lines := undecidedLines(x.r)
		text := strings.Join(lines, "\n")
		if len(lines) > 2 || (x.there == "") != (text == "") || !strings.Contains(text, x.there) || x.absent != "" && strings.Contains(text, x.absent) {
			t.Errorf("%s:\n%s", name, text)
		}
	}
}
