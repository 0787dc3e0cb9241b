package config

import (
	"strings"
	"time"

	"gapless"

	"github.com/goccy/go-yaml/ast"
)

func (r *reader) judge(dst *gapless.JudgeSpec) setter {
	return func(n ast.Node) { r.object(n, "judge", r.judgeKeys(dst)) }
}

func (r *reader) judgeKeys(dst *gapless.JudgeSpec) map[string]setter {
	return map[string]setter{
		"within":       r.within(&dst.Within),
		"on_undecided": r.word(&dst.OnUndecided, "on_undecided", undecided),
		"max_errors":   r.maxErrors(&dst.MaxErrors),
		"errors":       r.portion(&dst.Errors, "errors", 0.0005, 0.5),
		"p50":          r.slower(&dst.Slower[0], "p50"),
		"p90":          r.slower(&dst.Slower[1], "p90"),
		"p99":          r.slower(&dst.Slower[2], "p99"),
		"false_alarm":  r.portion(&dst.Alpha, "false_alarm", 0.000001, 0.1),
		"budget":       r.portion(&dst.Budget, "budget", 0.0001, 0.5),
		"bake":         r.bake(dst),
		"synthetic":    r.synthetic(&dst.Synthetic),
		"metrics":      r.metrics(&dst.Metrics),
	}
}

func (r *reader) maxErrors(dst *float64) setter {
	return func(n ast.Node) {
		var v float64
		before := len(r.problems.list)
		r.share(&v, "max_errors")(n)
		switch {
		case len(r.problems.list) > before:
		case v > 0.5:
			r.fail(n, faultf("max_errors is %s, but must be at most 50 %%", gapless.Percent(v)))
		case v < 1e-6:
			r.fail(n, faultf("max_errors is %v, but must be at least one in a million", v))
		default:
			*dst = v
		}
	}
}

// portionExample is a value that makes sense for each share, for hints: the default.
var portionExample = map[string]string{"errors": "+0.5%", "p50": "+10%", "p90": "+15%", "p99": "+25%", "false_alarm": "1%", "budget": "0.5%"}

// portion reads a share between lo and hi; a plus before it says that it is
// what may be more.
func (r *reader) portion(dst *float64, what string, lo, hi float64) setter {
	return func(n ast.Node) {
		text, ok := r.scalar(n, what)
		if !ok {
			return
		}
		number, percent := strings.CutSuffix(strings.TrimPrefix(text, "+"), "%")
		v, f := parseNumber(strings.TrimSpace(number))
		if percent {
			v /= 100
		}
		switch {
		case f:
			r.fail(n, faultf("%s is %s, but must be a share", what, quote(text)).withHint("write it with a percent sign, as in %s: %s", what, portionExample[what]))
		case v < lo || v > hi:
			r.fail(n, faultf("%s is %s, but must be between %s and %s", what, text, gapless.Percent(lo), gapless.Percent(hi)).withHint("write it with a percent sign, as in %s: %s", what, portionExample[what]))
		default:
			*dst = v
		}
	}
}

// slower reads by how much a quantile may be exceeded, or off: that it need
// not be proven.
func (r *reader) slower(dst *float64, what string) setter {
	return r.orOff(func() { *dst = -1 }, r.portion(dst, what, 0.01, 10))
}

// bakeMax is how long an old set may be kept for a release that is watched.
const bakeMax = 24 * time.Hour

// bake reads how long a release is watched after it was promoted, or off.
func (r *reader) bake(dst *gapless.JudgeSpec) setter {
	return r.orOff(func() { dst.NoBake = true }, r.duration(&dst.Bake, "bake", stepMin, bakeMax))
}

// orOff reads the word off, or else what read does.
func (r *reader) orOff(off func(), read setter) setter {
	return func(n ast.Node) {
		if n.GetToken().Value == "off" {
			off()
			return
		}
		read(n)
	}
}

func (r *reader) synthetic(dst *gapless.Synthetic) setter {
	return func(n ast.Node) {
		before := len(r.problems.list)
		r.object(n, "synthetic", r.syntheticKeys(dst))
		if dst.Path == "" && len(r.problems.list) == before {
			r.fail(n, faultf("synthetic has no path").withHint("write synthetic: { path: /search?q=x, rps: 5 }"))
		}
	}
}

func (r *reader) syntheticKeys(dst *gapless.Synthetic) map[string]setter {
	return map[string]setter{
		"path": r.str(&dst.Path, "path", func(v string) *fault {
			if !strings.HasPrefix(v, "/") || strings.ContainsAny(v, " #\x7f") || strings.ContainsFunc(v, func(c rune) bool { return c < ' ' || c > '~' }) {
				return faultf("%s is not the path of a request", quote(v)).withHint("write what follows the host, as in /search?q=x")
			}
			return nil
		}),
		"rps": r.whole(&dst.RPS, "rps", 1, gapless.SyntheticMost),
	}
}

// judgeShown is what explain tells of a judge.
func judgeShown(j gapless.JudgeSpec) map[string]any {
	out := map[string]any{}
	say := func(key string, given bool, value any) {
		if given {
			out[key] = value
		}
	}
	say("within", j.Within > 0, j.Within.String())
	say("on_undecided", j.OnUndecided != "", j.OnUndecided)
	say("max_errors", j.MaxErrors > 0, j.MaxErrors)
	say("errors", j.Errors > 0, j.Errors)
	for i, test := range gapless.QuantileTests() {
		say(string(test), j.Slower[i] > 0, j.Slower[i])
		say(string(test), j.Slower[i] < 0, "off")
	}
	say("false_alarm", j.Alpha > 0, j.Alpha)
	say("budget", j.Budget > 0, j.Budget)
	say("bake", j.Bake > 0, j.Bake.String())
	say("bake", j.NoBake, "off")
	if s := j.Synthetic; s.Path != "" {
		out["synthetic"] = map[string]any{"path": s.Path, "rps": s.Rate()}
	}
	if len(j.Metrics) > 0 {
		out["metrics"] = metricsShown(j.Metrics)
	}
	return out
}

// judgeForms are the forms of the keys of judge.
func (r *reader) judgeForms() map[string]schema {
	margin := anyOf(text(`^\+?[0-9]+(\.[0-9]+)?\s*%?$`), schema{"type": "number", "minimum": 0})
	orOff := func(form schema) schema { return anyOf(form, oneOf([]string{"off"})) }
	return map[string]schema{
		"within": about("longest judged step", durationForm()), "on_undecided": about("at the end of a judged step that proved nothing", oneOf(undecided)),
		"max_errors":  about("share of bad answers that is never fine, at most 50 %", shareForm()),
		"errors":      about("so many points more of all answers may be bad", margin),
		"p50":         about("the median may be exceeded by so much; off: it need not be proven", orOff(margin)),
		"p90":         about("the same of nine in ten requests", orOff(margin)),
		"p99":         about("the same of 99 in 100 requests", orOff(margin)),
		"false_alarm": about("share of good releases that may be taken back", margin),
		"budget":      about("ramp: share of all requests that may fail because of the new release", margin),
		"bake":        about("how long a release is watched after it was promoted, while the old one is kept warm", orOff(durationForm())),
		"synthetic": about("requests that are made while a release is judged", objectOf(r.syntheticKeys(&gapless.Synthetic{}), map[string]schema{
			"path": about("path and query", text(`^/`)), "rps": about("requests per second", whole(1, gapless.SyntheticMost))})),
		"metrics": about("values from outside that a candidate is judged by", schema{"type": "array", "items": metricForm(r)}),
	}
}
