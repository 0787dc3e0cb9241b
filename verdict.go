package gapless

import (
	"math"
	"slices"
	"strconv"
)

// Verdict is what the judge says of the candidate, with the evidence.
type Verdict struct {
	Kind     VerdictKind `json:"kind"`
	Test     VerdictTest `json:"test"`              // that Kind and Evidence come from
	Reason   string      `json:"reason"`            // one line for people
	Evidence Figures     `json:"evidence"`          // the numbers behind Reason
	Needed   Needed      `json:"needed,omitzero"`   // what would decide, if known
	NoData   bool        `json:"no_data,omitempty"` // undecided because nothing was seen; never a pass

	Terms   []Term  `json:"terms,omitempty"`   // what each test for worse has: Evidence is their weighted sum
	Proofs  []Proof `json:"proofs,omitempty"`  // what must all be proven for NotWorse
	Bound   float64 `json:"bound,omitempty"`   // the candidate's share of bad answers minus stable's is at most this, 0…1, with 95 % for all looks together; 0: unknown
	Share   float64 `json:"share,omitempty"`   // of all requests that the candidate may have now, 0…1, as little harm can come of it; 0: unknown
	Bands   *Bands  `json:"bands,omitempty"`   // for people
	Warming bool    `json:"warming,omitempty"` // instances warm up, so that latencies are no evidence yet
	Alert   string  `json:"alert,omitempty"`   // both releases give more bad answers than is ever fine: no reason to go back, but none to go on
}

// Term is the evidence of one test for worse.
type Term struct {
	Test   VerdictTest `json:"test"`
	Weight float64     `json:"weight"` // in the sum
	LnE    float64     `json:"ln_e"`
	Phi    float64     `json:"phi,omitempty"` // see Figures
}

// Proof is one of the questions that NotWorse answers.
type Proof struct {
	Test      VerdictTest `json:"test"`
	Margin    float64     `json:"margin"` // errors: share of all answers; latency: of stable's quantile
	LnE       float64     `json:"ln_e"`
	Threshold float64     `json:"threshold"` // evidence that proves
	Proven    bool        `json:"proven"`
	Needed    uint64      `json:"needed,omitempty"` // about so many requests of the candidate more, if it is as good as stable; 0: unknown, or proven
}

// Band is an interval that holds the truth with 95 %, for all looks together.
type Band struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"` // 0: unknown
}

// Bands compare the candidate with stable; 1 is the same.
type Bands struct {
	Rate    Band            `json:"rate"`    // of bad answers
	Latency [Quantiles]Band `json:"latency"` // of the quantile
}

// Equal reports whether both say the same.
func (v Verdict) Equal(o Verdict) bool {
	return v.Kind == o.Kind && v.Test == o.Test && v.Reason == o.Reason && v.Evidence == o.Evidence && v.Needed == o.Needed &&
		v.NoData == o.NoData && v.Warming == o.Warming && v.Bound == o.Bound && v.Share == o.Share && v.Alert == o.Alert &&
		slices.Equal(v.Terms, o.Terms) && slices.Equal(v.Proofs, o.Proofs) &&
		(v.Bands == o.Bands || v.Bands != nil && o.Bands != nil && *v.Bands == *o.Bands)
}

// Odds writes evidence, given by its natural logarithm, as a number to one for
// people: "494". It is rounded down, so that what does not decide does not look
// as if it did.
func Odds(lnE float64) string {
	switch e := math.Exp(lnE) * (1 + 1e-12); {
	case e >= 1e6:
		return "over a million"
	case e >= 10:
		return strconv.FormatFloat(math.Floor(e), 'f', 0, 64)
	case e < 0.01:
		return "under 0.01"
	default:
		return strconv.FormatFloat(e, 'g', 2, 64)
	}
}

// VerdictKind is the verdict in one word.
type VerdictKind string

const (
	Worse     VerdictKind = "worse"     // proven, at the false-alarm rate that was asked for
	NotWorse  VerdictKind = "not_worse" // proven within the margin
	Undecided VerdictKind = "undecided" // neither is proven (yet)
)

// VerdictTest names the test that a verdict rests on.
type VerdictTest string

const (
	TestErrors VerdictTest = "errors" // share of bad answers against stable, judged below weight 1
	TestP50    VerdictTest = "p50"    // share of requests slower than stable's p50
	TestP90    VerdictTest = "p90"
	TestP99    VerdictTest = "p99"
	TestGuard  VerdictTest = "guard" // share of bad answers against a fixed limit, judged at weight 1
)

// Figures are the numbers behind a verdict. The test's evidence is a bet
// against "the candidate is fine" that was started with 1; it speaks against
// the candidate once it has grown to Threshold.
type Figures struct {
	Candidate Arm     `json:"candidate"`
	Stable    Arm     `json:"stable"`          // zero where the test has no control
	Weight    float64 `json:"weight"`          // candidate's share now, 0…1
	LnE       float64 `json:"ln_e"`            // natural logarithm of the evidence
	Threshold float64 `json:"threshold"`       // evidence that decides: 1 / false-alarm rate
	Limit     float64 `json:"limit,omitempty"` // share of bad answers that the guard allows, 0…1
	Phi       float64 `json:"phi,omitempty"`   // how much stable's instances differ from each other; 1 or 0: not more than chance
}

// Arm counts the requests that the coin gave to one release.
type Arm struct {
	Requests uint64 `json:"requests"`
	Bad      uint64 `json:"bad"`
}

// Needed says how far away a decision is. Zero means unknown, or that no
// number of them would decide.
type Needed struct {
	Bad      uint64 `json:"bad,omitempty"`      // further bad answers of the candidate, with nothing in between, that prove it worse
	Requests uint64 `json:"requests,omitempty"` // further good requests of the candidate that prove it not worse
}

// Tally is evidence from a router: what the coin gave to one release at one
// weight since the last tally. Requests that no coin chose (matched by header,
// probes, mirrored) are not evidence and are not in it. A request counts for
// the release that the coin chose, whoever answered it in the end.
type Tally struct {
	Release  string  `json:"release"`
	Weight   float64 `json:"weight"`   // the candidate's share when the coin was tossed, 0…1: also in tallies of the stable release
	Requests uint64  `json:"requests"` // finished or found bad; sticky: sessions, each when its first request is
	Bad      uint64  `json:"bad"`      // 5xx, timeout, reset; of a sticky session only its first; not a client's abort
	Late     uint64  `json:"late"`     // of Bad: found only after their requests had been counted as good

	Paces Paces `json:"paces,omitzero"` // by the limits of age that held; of a sticky session only its first request
}

// Validate checks that t can be evidence.
func (t Tally) Validate() error {
	switch {
	case t.Release == "":
		return Errorf(Invalid, "tally: no release")
	case !(t.Weight >= 0 && t.Weight <= 1):
		return Errorf(Invalid, "tally of %s: weight %v is not between 0 and 1", t.Release, t.Weight)
	case t.Late > t.Bad, t.Bad-t.Late > t.Requests:
		return Errorf(Invalid, "tally of %s: %d bad answers (%d late) of %d requests", t.Release, t.Bad, t.Late, t.Requests)
	}
	return nil
}
