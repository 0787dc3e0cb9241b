package judge

import (
	"cmp"
	"math"
	"slices"
	"time"

	"gapless"
)

// Learned is what the limits of age follow from. None of it is evidence.
type Learned struct {
	At        time.Time             `json:"at"`                // of the newest look
	Usual     histogram             `json:"usual"`             // what stable's requests take; what is long ago counts less
	Limits    gapless.LatencyLimits `json:"limits"`            // that hold now
	Limited   time.Time             `json:"limited"`           // when they were changed last
	Instances []string              `json:"instances"`         // that were seen serving
	Warming   *warming              `json:"warming,omitempty"` // nil: all instances are warm

	Fine      [gapless.Quantiles]fine         `json:"fine"`
	Seen      [gapless.Quantiles]gapless.Pace `json:"seen"`                // of stable's requests: what Fine follows from
	Unsettled bool                            `json:"unsettled,omitempty"` // limits are new

	Candidate histogram `json:"candidate"` // of the requests that both were given since then, for people
	Stable    histogram `json:"stable"`
}

const (
	memory   = 0.99  // share of what is known of stable that is left after a second
	remember = 2000  // requests that are not forgotten, however long ago they were
	record   = 10000 // requests that what was before the rollout counts for, at most

	limitEvery = time.Second
	limitMoved = 0.02 // smaller changes of all limits are not worth telling

	mostInstances = 256 // that are remembered, unless more serve
)

// tol is by which share of stable's quantile the candidate's requests may be
// slower without harm. The higher the quantile, the fewer requests are beyond
// it and the longer it takes to see what does not matter, so the less needs to
// be given away of what does.
var tol = [gapless.Quantiles]float64{0.05, 0.04, 0.02}

// harmless is how much slower is no harm, however fast stable is: nobody sees
// it, and where requests take less than that, one process that the machine
// treats worse than another is not to be told from a slower version.
const harmless = time.Millisecond

// unsureTol and unsureHarmless take their places where it is not known how much
// instances of one release differ. A new process on a busy machine may be that
// much slower than one that runs for long, and nobody could tell.
const (
	unsureTol      = 0.25
	unsureHarmless = 5 * time.Millisecond
)

// enough is how many requests of stable must be known to limit a quantile.
var enough = [gapless.Quantiles]float64{100, 100, 1000}

// Learn takes in what latencies were seen since the look before. The limits
// that follow hold for requests that come later.
func (j Judge) Learn(look gapless.LatencyLook) Judge {
	c := j.Config.withDefaults()
	l := j.learned()
	now := look.At.UTC().Round(0)
	past := now.Sub(l.At)
	if l.At.IsZero() {
		past = 0
	}
	if past >= 0 {
		l.At = now
	}
	if total := l.Usual.total(); total > 0 {
		l.Usual.scale(min(1, max(math.Pow(memory, max(0, past.Seconds())), remember/total)))
	}
	l.Usual.add(look.Stable)
	if l.Warming == nil {
		l.Candidate.add(look.Candidate)
		l.Stable.add(look.Stable)
	}
	moved := l.At.Sub(l.Limited) >= limitEvery && l.correct(j.Rows)
	l.warm(&c, look)
	l.limit(&c, moved)
	j.Learned = &l
	return j
}

// learned is a copy to be changed. A judge that has learned nothing knows what
// was before the rollout.
func (j Judge) learned() Learned {
	if j.Learned != nil {
		return *j.Learned
	}
	var l Learned
	l.Usual.add(j.Config.Latency[:])
	if total := l.Usual.total(); total > record {
		l.Usual.scale(record / total)
	}
	return l
}

// Limits are the ages from which on a request is slow, for requests that come
// from now on.
func (j Judge) Limits() gapless.LatencyLimits {
	if j.Learned == nil {
		return gapless.LatencyLimits{}
	}
	return j.Learned.Limits
}

// limit changes the limits where it is worth telling.
func (l *Learned) limit(c *Config, moved bool) {
	next := gapless.LatencyLimits{Candidate: c.Candidate, Stable: c.Stable}
	if l.Warming == nil {
		next.Quantile, next.Worse, next.Margin = l.limits(c)
	}
	now := l.Limits
	appear := false // a limit comes or goes
	for i := range gapless.Quantiles {
		appear = appear || (next.Quantile[i] == 0) != (now.Quantile[i] == 0)
		moved = moved || math.Abs(float64(next.Quantile[i]-now.Quantile[i])) > limitMoved*float64(now.Quantile[i])
	}
	since := l.At.Sub(l.Limited)
	if !appear && (!moved || since >= 0 && since < limitEvery) {
		return
	}
	next.Version = now.Version + 1
	l.Limits, l.Limited, l.Unsettled = next, l.At, true
}

// limits are those that follow from what is known of stable.
func (l *Learned) limits(c *Config) (quantile, worse, margin [gapless.Quantiles]time.Duration) {
	total := l.Usual.total()
	for i, over := range gapless.Over() {
		if total < enough[i] {
			continue
		}
		tau := max(time.Duration(float64(l.Usual.quantile(1-over))*cmp.Or(l.Fine[i].Factor, 1)), time.Microsecond)
		more := func(share float64, least time.Duration) time.Duration {
			return tau + max(time.Duration(float64(tau)*share), least)
		}
		quantile[i], worse[i], margin[i] = tau, more(tol[i], harmless), more(max(c.Slower[i], 0), harmless)
		if c.Unsure {
			worse[i] = more(unsureTol, unsureHarmless)
		}
	}
	return quantile, worse, margin
}

func (l *Learned) equal(o *Learned) bool {
	if l == nil || o == nil {
		return l == o
	}
	return l == o || l.At.Equal(o.At) && l.Limited.Equal(o.Limited) && l.Limits == o.Limits && l.Usual == o.Usual &&
		l.Fine == o.Fine && l.Seen == o.Seen && l.Unsettled == o.Unsettled && l.Candidate == o.Candidate && l.Stable == o.Stable && slices.Equal(l.Instances, o.Instances) &&
		(l.Warming == o.Warming || l.Warming != nil && o.Warming != nil && *l.Warming == *o.Warming)
}
