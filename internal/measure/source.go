// Package measure asks outside sources (Prometheus, Datadog, CloudWatch) for
// the value of a query, and tells five answers apart: a value, nothing, not a
// number, an error, and one that is too old. It decides nothing: what an answer
// means is the rollout's business. It keeps no state and starts no goroutine.
// Called by the daemon. Keys go into headers and signatures, never into errors.
package measure

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"gapless"
)

// Timeout bounds one reading, whatever the source does.
const Timeout = 10 * time.Second

// Source is where a metric is asked.
type Source interface {
	// Query returns the newest sample of the one series that a query selects
	// at a moment; ok is false where there is none. limit is how old a sample
	// may be: a source that would hide the age of an older one says errStale.
	Query(ctx context.Context, query string, now time.Time, limit time.Duration) (s Sample, ok bool, err error)
	// Ping says whether the source can be asked at all.
	Ping(ctx context.Context) error
}

// Sample is one value and the moment it is of.
type Sample struct {
	Value float64
	At    time.Time
}

// errStale says that there is a sample, but only an older one than asked for.
var errStale = errors.New("the newest sample is too old")

// Open makes the source of a metric. env are the variables that its keys may
// be in; only those that the metric names are looked at.
func Open(m gapless.Metric, env map[string]string) (Source, error) {
	switch {
	case m.Prometheus != nil:
		return newPrometheus(*m.Prometheus, env)
	case m.Datadog != nil:
		return newDatadog(*m.Datadog, env)
	case m.CloudWatch != nil:
		return newCloudWatch(*m.CloudWatch, env)
	}
	return nil, gapless.Errorf(gapless.Invalid, "metric %s has no source", m.Name).
		WithHint("write prometheus, datadog or cloudwatch: { query: … }")
}

// Read asks for a metric of one release and says what came back. It never
// takes longer than Timeout.
func Read(ctx context.Context, m gapless.Metric, env map[string]string, names gapless.QueryNames, now time.Time) gapless.Reading {
	src, query, err := prepare(m, env, names)
	if err != nil {
		return failed(err, names)
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	r := classify(ctx, src, query, now, m.Stale.Std())
	r.Release = names.Release
	return r
}

// prepare makes source and query of a metric for one release.
func prepare(m gapless.Metric, env map[string]string, names gapless.QueryNames) (Source, string, error) {
	query := ""
	for _, q := range m.Queries() { // the first one is what is asked
		text, err := gapless.ExpandQuery(q, names)
		if err != nil {
			return nil, "", err
		}
		if query == "" {
			query = text
		}
	}
	if c := m.CloudWatch; c != nil && len(c.With) > 0 {
		with := make(map[string]string, len(c.With))
		for id, q := range c.With {
			with[id], _ = gapless.ExpandQuery(q, names) // it was just expanded
		}
		copied := *c
		copied.With = with
		m.CloudWatch = &copied
	}
	src, err := Open(m, env)
	return src, query, err
}

// classify asks once and tells the five answers apart.
func classify(ctx context.Context, src Source, query string, now time.Time, limit time.Duration) gapless.Reading {
	s, ok, err := src.Query(ctx, query, now, limit)
	r := gapless.Reading{Kind: gapless.ReadValue, Value: s.Value, At: s.At}
	age := now.Sub(s.At)
	switch {
	case err == nil && ok && (s.At.Year() < 1970 || s.At.Year() > 9999):
		return failed(gapless.Errorf(gapless.Unavailable, "the sample is of no time that there is"), gapless.QueryNames{})
	case errors.Is(err, errStale), err == nil && ok && limit > 0 && age > limit:
		r.Kind = gapless.ReadStale
		r.Why = "the newest sample is older than " + gapless.Duration(limit).String()
		if !s.At.IsZero() {
			r.Why = fmt.Sprintf("the newest sample is %s old, more than %s", gapless.Duration(age.Round(time.Second)), gapless.Duration(limit))
		}
		r.Hint = "does the source still get samples of it? stale: sets how old one may be"
	case err != nil:
		return failed(err, gapless.QueryNames{})
	case !ok:
		return gapless.Reading{Kind: gapless.ReadEmpty, Why: "no series", Hint: "do the labels of the query exist? nothing may have been counted of this release yet"}
	case math.IsNaN(s.Value):
		return gapless.Reading{Kind: gapless.ReadNaN, At: s.At, Why: "not a number", Hint: "0/0 is not a number: there may have been no request yet"}
	case math.IsInf(s.Value, 0):
		return gapless.Reading{Kind: gapless.ReadNaN, At: s.At, Why: "infinite", Hint: "something was divided by 0"}
	}
	if math.IsNaN(r.Value) || math.IsInf(r.Value, 0) {
		r.Value = 0 // of a stale one: JSON has no such number
	}
	return r
}

func failed(err error, names gapless.QueryNames) gapless.Reading {
	return gapless.Reading{Release: names.Release, Kind: gapless.ReadError, Why: cut(err.Error(), 300), Hint: gapless.HintOf(err)}
}

// cut shortens what came from outside and may be long, and takes out what a
// terminal would obey.
func cut(s string, most int) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}

// variable is the value of a variable that holds a key.
func variable(env map[string]string, what, name string) (string, error) {
	v, ok := env[name]
	switch {
	case !ok || v == "":
		return "", gapless.Errorf(gapless.Conflict, "the %s is to be in the variable %s, which the app does not have", what, name).
			WithHint("set it with: gapless secrets set %s, then deploy", name)
	case slices.ContainsFunc([]rune(v), func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "", gapless.Errorf(gapless.Invalid, "the %s in the variable %s has a control character in it, such as a line feed", what, name).
			WithHint("set it again without")
	}
	return v, nil
}
