package judge

import (
	"cmp"
	"math"
	"time"

	"gapless"
)

// Config is what a judge is told when a rollout starts. It must not change
// while the rollout runs: a level that is chosen after looking proves nothing.
// Zero fields take the defaults.
type Config struct {
	Candidate string  `json:"candidate"` // release name
	Stable    string  `json:"stable"`    // release name
	Alpha     float64 `json:"alpha"`     // false-alarm rate over the whole rollout of all tests that have a control together, and of the guard; default 0.01
	Ratio     float64 `json:"ratio"`     // candidate's rate of bad answers ÷ stable's that is still fine; default 1
	PMax      float64 `json:"p_max"`     // share of bad answers that is still fine without a control; default 0.01, at most 0.5
	Phi       float64 `json:"phi"`       // dispersion of bad answers between stable's instances; default 1; see Dispersion

	Record gapless.Arm `json:"record,omitzero"` // what stable gave before the rollout; raises PMax where it gave bad answers

	PhiSlow [gapless.Quantiles]float64     `json:"phi_slow,omitzero"` // the same of slow requests
	Unsure  bool                           `json:"unsure,omitempty"`  // nothing is known of PhiSlow: only what is much slower counts as slower, see unsureTol
	Alone   bool                           `json:"alone,omitempty"`   // stable had one instance, so that dispersion is not known
	Beta    float64                        `json:"beta,omitempty"`    // rate of false proofs, of each margin; default 0.05
	Errors  float64                        `json:"errors,omitempty"`  // margin: more of all answers may be bad than with stable, 0…1; default 0.005
	Slower  [gapless.Quantiles]float64     `json:"slower,omitzero"`   // margins: stable's quantiles may be exceeded by so much of them; default 0.1, 0.15, 0.25; below 0: need not be proven
	Budget  float64                        `json:"budget,omitempty"`  // share of all requests that may fail because of the candidate, 0…1; default 0.005
	WarmUp  gapless.Duration               `json:"warm_up,omitempty"` // longest time that a new instance's latencies are no evidence; default 2m; below 0: none
	Latency [gapless.LatencyBuckets]uint64 `json:"latency,omitzero"`  // of stable before the rollout, see gapless.LatencyBucket
}

func (c Config) withDefaults() Config {
	c.Alpha = cmp.Or(c.Alpha, 0.01)
	c.Ratio = cmp.Or(c.Ratio, 1)
	c.PMax = cmp.Or(c.PMax, leastPMax)
	c.Phi = cmp.Or(c.Phi, 1)
	c.Beta = cmp.Or(c.Beta, 0.05)
	c.Errors = cmp.Or(c.Errors, 0.005)
	c.Budget = cmp.Or(c.Budget, 0.005)
	c.WarmUp = cmp.Or(c.WarmUp, gapless.Duration(2*time.Minute))
	for i, margin := range [gapless.Quantiles]float64{0.1, 0.15, 0.25} {
		c.Slower[i] = cmp.Or(c.Slower[i], margin)
		c.PhiSlow[i] = cmp.Or(c.PhiSlow[i], 1)
	}
	return c
}

func (c *Config) validate() error {
	between := func(v, low, high float64) bool { return v >= low && v <= high } // false for NaN
	switch {
	case c.Candidate == "" || c.Stable == "" || c.Candidate == c.Stable:
		return gapless.Errorf(gapless.Invalid, "judge: candidate %q and stable %q must be two releases", c.Candidate, c.Stable)
	case !between(c.Alpha, 1e-9, 0.5):
		return gapless.Errorf(gapless.Invalid, "judge: alpha %v is not a false-alarm rate", c.Alpha).WithHint("write a number over 0 and at most 0.5, such as 0.01")
	case !between(c.Ratio, 0.01, 100):
		return gapless.Errorf(gapless.Invalid, "judge: ratio %v is not between 0.01 and 100", c.Ratio).WithHint("1 allows the candidate as many bad answers as stable gives")
	case !between(c.PMax, 1e-9, mostPMax):
		return gapless.Errorf(gapless.Invalid, "judge: limit %v of bad answers is not over 0 and at most %v", c.PMax, mostPMax)
	case !between(c.Phi, 1, 1e9):
		return gapless.Errorf(gapless.Invalid, "judge: dispersion %v is below 1", c.Phi)
	case !between(c.Beta, 1e-9, 0.5):
		return gapless.Errorf(gapless.Invalid, "judge: beta %v is not a rate of false proofs", c.Beta).WithHint("write a number over 0 and at most 0.5, such as 0.05")
	case !between(c.Errors, leastBound, 1):
		return gapless.Errorf(gapless.Invalid, "judge: margin %v of bad answers is not between %v and 1", c.Errors, leastBound).WithHint("0.005 allows half a point more of all answers to be bad; a smaller margin needs more requests")
	case !between(c.Budget, 1e-6, 1):
		return gapless.Errorf(gapless.Invalid, "judge: budget %v is not a share of all requests", c.Budget)
	}
	for i, test := range gapless.QuantileTests() {
		switch {
		case !between(c.Slower[i], math.Inf(-1), 10):
			return gapless.Errorf(gapless.Invalid, "judge: margin %v of %s is over 10", c.Slower[i], test).WithHint("0.25 allows a quarter more than stable takes")
		case !between(c.PhiSlow[i], 1, 1e9):
			return gapless.Errorf(gapless.Invalid, "judge: dispersion %v of %s is below 1", c.PhiSlow[i], test)
		}
	}
	return nil
}

// threshold is ln(1/alpha). A bet that is fair, or worse than fair, while the
// candidate is fine starts at 1 and ever reaches 1/alpha with probability at
// most alpha (Ville's inequality). That holds for all looks together, which
// is why nothing here counts looks, minutes or steps.
func (c *Config) threshold() float64 { return -math.Log(c.Alpha) }

// proof is ln(1/beta), the same for a margin that is to be proven.
func (c *Config) proof() float64 { return -math.Log(c.Beta) }

// demands reports whether a quantile's margin must be proven for NotWorse.
func (c *Config) demands(i int) bool { return c.Slower[i] >= 0 }

const leastPMax, mostPMax = 0.01, 0.5

// limit is the share of bad answers that the guard allows: what the
// configuration says, or what stable's own record makes normal, whichever is
// more. A record is of another hour, so it gets room: twice its share, or the
// upper bound of the share at level Alpha (Chernoff's bound, solved for the
// share), whichever is more. Under 100 requests a record says little; it is
// read as if of 100. A record without bad answers makes nothing normal.
func (c *Config) limit(record gapless.Arm) float64 {
	if record.Bad == 0 {
		return c.PMax
	}
	n := float64(max(record.Requests, record.Bad, 100))
	share := float64(record.Bad) / n
	low, high := share, 1.0 // the divergence grows with the distance from share
	for range 60 {
		if mid := (low + high) / 2; n*divergence(share, mid) <= c.threshold() {
			low = mid
		} else {
			high = mid
		}
	}
	return min(max(c.PMax, 2*share, low), mostPMax)
}

// divergence is Kullback's, of a coin that falls with probability q from what
// one with p does; p is over 0.
func divergence(p, q float64) float64 {
	d := p * math.Log(p/q)
	if p < 1 {
		d += (1 - p) * math.Log((1-p)/(1-q))
	}
	return d
}
