package gapless

import (
	"math"
	"slices"
	"strconv"
	"time"
)

// Moment is what was known of a candidate at one time, for people who look
// back at how its verdict came about.
type Moment struct {
	At        time.Time `json:"at"`
	Weight    float64   `json:"weight"` // the candidate's share then, 0…1
	Candidate Arm       `json:"candidate"`
	Stable    Arm       `json:"stable"`
	LnE       float64   `json:"ln_e"`            // see Figures
	Bound     float64   `json:"bound,omitempty"` // see Verdict
	Bands     *Bands    `json:"bands,omitempty"` // never changed, only replaced
}

// MostMoments is how many moments a rollout keeps, however long it takes.
const MostMoments = 32

// MomentOf is what a verdict says at a time, rounded to four digits: it is
// for people, and kept in every state that is saved.
func MomentOf(v Verdict, at time.Time) Moment {
	m := Moment{At: at, Weight: v.Evidence.Weight, Candidate: v.Evidence.Candidate, Stable: v.Evidence.Stable,
		LnE: fourDigits(v.Evidence.LnE), Bound: fourDigits(v.Bound)}
	if v.Bands != nil {
		short := func(b Band) Band { return Band{fourDigits(b.Low), fourDigits(b.High)} }
		m.Bands = &Bands{Rate: short(v.Bands.Rate)}
		for i, b := range v.Bands.Latency {
			m.Bands.Latency[i] = short(b)
		}
	}
	return m
}

func fourDigits(x float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0 // JSON has no word for it
	}
	short, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 4, 64), 64)
	return short
}

// Along returns the course with one moment more at its end; the old course is
// left alone. The moments get further apart as time passes, from one second
// on, but the newest is always there.
func Along(course []Moment, m Moment) []Moment {
	next := slices.Clone(course)
	if n := len(next); n >= 2 && next[n-1].At.Sub(next[n-2].At) < max(time.Second, m.At.Sub(next[0].At)/(MostMoments/2)) {
		next = next[:n-1]
	}
	if len(next) == MostMoments {
		kept := next[:0]
		for i, old := range next {
			if i%2 == 0 {
				kept = append(kept, old)
			}
		}
		next = kept
	}
	return append(next, m)
}

// Equal reports whether both are the same moment.
func (m Moment) Equal(o Moment) bool {
	return m.At.Equal(o.At) && m.Weight == o.Weight && m.Candidate == o.Candidate && m.Stable == o.Stable && m.LnE == o.LnE && m.Bound == o.Bound &&
		(m.Bands == o.Bands || m.Bands != nil && o.Bands != nil && *m.Bands == *o.Bands)
}
