package gapless

import "time"

// Quantiles is at how many quantiles latency is judged: stable's own p50, p90
// and p99, in this order wherever there is an array of so many.
const Quantiles = 3

// QuantileTests names the tests of the quantiles.
func QuantileTests() [Quantiles]VerdictTest {
	return [Quantiles]VerdictTest{TestP50, TestP90, TestP99}
}

// Over is the share of stable's requests that take longer than a quantile, by
// what the quantile is.
func Over() [Quantiles]float64 { return [Quantiles]float64{0.5, 0.1, 0.01} }

// LatencyLimits are the ages from which on a request is slow, for one rollout.
// They follow from what stable's requests took before, so they are known
// before the requests that are held against them. A router counts each request
// that a coin gave to one of both releases against the limits that held when
// it came: as slow as soon as its age passes a limit, so that one that hangs is
// told of, and as fast when it ends before. Where Quantile is 0, nothing is
// counted by that quantile: stable's is not known yet, or instances are warming
// up. Version 0 has no limits at all, and later ones may have none either.
type LatencyLimits struct {
	Version   uint64 `json:"version"` // grows with each change of what follows
	Candidate string `json:"candidate,omitempty"`
	Stable    string `json:"stable,omitempty"`

	Quantile [Quantiles]time.Duration `json:"quantile"` // in nanoseconds: stable's quantiles, for requests of stable
	Worse    [Quantiles]time.Duration `json:"worse"`    // for the candidate's: quantile and tolerance, at least Quantile
	Margin   [Quantiles]time.Duration `json:"margin"`   // for the candidate's: quantile and margin, at least Quantile
}

// Pace counts requests by a limit of age.
type Pace struct {
	Fast uint64 `json:"fast"` // ended before
	Slow uint64 `json:"slow"` // older than it, whether they have ended or not
}

// Paces are the counts by all limits; those of stable's requests are the same
// in both.
type Paces struct {
	Worse  [Quantiles]Pace `json:"worse"`
	Margin [Quantiles]Pace `json:"margin"`
}

// Plus is the sum of both.
func (p Paces) Plus(o Paces) Paces {
	for i := range Quantiles {
		p.Worse[i] = Pace{p.Worse[i].Fast + o.Worse[i].Fast, p.Worse[i].Slow + o.Worse[i].Slow}
		p.Margin[i] = Pace{p.Margin[i].Fast + o.Margin[i].Fast, p.Margin[i].Slow + o.Margin[i].Slow}
	}
	return p
}

// Minus is what p has more than an earlier o; never less than nothing.
func (p Paces) Minus(o Paces) Paces {
	less := func(a, b Pace) Pace { return Pace{a.Fast - min(a.Fast, b.Fast), a.Slow - min(a.Slow, b.Slow)} }
	for i := range Quantiles {
		p.Worse[i], p.Margin[i] = less(p.Worse[i], o.Worse[i]), less(p.Margin[i], o.Margin[i])
	}
	return p
}

// LatencyLook is what a judge learns to choose limits of age from. It is no
// evidence: it may be coarse, late or missing.
type LatencyLook struct {
	At        time.Time
	Stable    []uint64 // latencies since the last look, see LatencyBucket; of all requests that the coin gave to stable
	Candidate []uint64
	Instances []string // IDs of the instances of both releases that serve now; one that is new begins to warm up
}
