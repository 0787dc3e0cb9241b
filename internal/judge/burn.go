package judge

import (
	"encoding/json"
	"fmt"
	"time"
)

// This file watches an objective in absolute terms: how fast an app uses up
// the errors that its SLO allows, whoever is to blame. It needs no control, and
// so cannot tell a bad release from a bad afternoon; Blame asks that.
//
// burn = share of bad answers / (1 − SLO). At 1 the budget of a period lasts
// exactly for it. The pairs of windows are those of Google's SRE Workbook,
// chapter 5, "Multiwindow, Multi-Burn-Rate Alerts": 14.4 over an hour uses 2 %
// of a budget of 30 days, 6 over six hours 5 %; the short window lets go soon
// after it is over.

// BurnLevel is a rate that is too fast, over a long and over a short window.
type BurnLevel struct {
	Name        string
	Long, Short time.Duration // whole minutes
	Rate        float64
}

// BurnLevels are those that are looked at, the worst first.
func BurnLevels() []BurnLevel {
	return []BurnLevel{{BurnPage, time.Hour, 5 * time.Minute, 14.4}, {BurnTicket, 6 * time.Hour, 30 * time.Minute, 6}}
}

// Names of levels.
const (
	BurnPage   = "page"   // somebody has to look now
	BurnTicket = "ticket" // somebody has to look
)

// BurnLeast is how many bad answers the short window must have: one of five
// requests at night is no page. At a share of bad answers that the SLO just
// allows, so many make a false alarm rarer than once in 10⁸ looks at any load
// (Poisson; the worst load has 0.7 expected in the window).
const BurnLeast = 10

// Count is requests that ended, and how many of them were bad.
type Count struct{ All, Bad uint64 }

// Plus is the sum of both.
func (c Count) Plus(o Count) Count { return Count{c.All + o.All, c.Bad + o.Bad} }

// Minus is c without o, which is a part of it.
func (c Count) Minus(o Count) Count {
	return Count{c.All - min(c.All, o.All), c.Bad - min(c.Bad, o.Bad)}
}

// Share is the share of bad ones, 0…1.
func (c Count) Share() float64 {
	if c.All == 0 {
		return 0
	}
	return float64(c.Bad) / float64(c.All)
}

// Burn is how fast c uses up the errors that slo, in (0,1), allows.
func (c Count) Burn(slo float64) float64 { return c.Share() / (1 - slo) }

// burnMinutes is the longest window.
const burnMinutes = 360

// Ring counts by the minute for six hours, in memory of a fixed size. The zero
// value is empty.
type Ring struct {
	minute int64 // of the newest slot, since 1970
	slots  [burnMinutes]Count
}

// Add counts c at now. A clock that was set back counts into the newest minute;
// one that was set back by more than all windows begins anew, or nothing would
// ever be forgotten.
func (r *Ring) Add(now time.Time, c Count) {
	r.turn(now)
	s := &r.slots[r.minute%burnMinutes]
	*s = s.Plus(c)
}

// turn empties the slots of the minutes that have passed.
func (r *Ring) turn(now time.Time) {
	m := now.Unix() / 60
	if m <= r.minute && r.minute-m < burnMinutes {
		return
	}
	if m < r.minute || m-r.minute >= burnMinutes { // before: the clock was ahead by more than is remembered
		r.slots = [burnMinutes]Count{}
	} else {
		for i := r.minute + 1; i <= m; i++ {
			r.slots[i%burnMinutes] = Count{}
		}
	}
	r.minute = m
}

// Over is what was counted in the last whole minutes of a window, with the one
// that runs.
func (r *Ring) Over(now time.Time, window time.Duration) (sum Count) {
	r.turn(now)
	for i := range min(int64(window/time.Minute), burnMinutes) {
		if m := r.minute - i; m >= 0 {
			sum = sum.Plus(r.slots[m%burnMinutes])
		}
	}
	return sum
}

// ringJSON is a Ring on the disk: pairs of all and bad, the newest first,
// without the empty end.
type ringJSON struct {
	Minute int64    `json:"minute"`
	Counts []uint64 `json:"counts,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (r Ring) MarshalJSON() ([]byte, error) {
	out, used := ringJSON{Minute: r.minute}, 0
	for i := range int64(burnMinutes) {
		m := r.minute - i
		if m < 0 {
			break
		}
		c := r.slots[m%burnMinutes]
		out.Counts = append(out.Counts, c.All, c.Bad)
		if c != (Count{}) {
			used = len(out.Counts)
		}
	}
	out.Counts = out.Counts[:used]
	return json.Marshal(out)
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *Ring) UnmarshalJSON(data []byte) error {
	var in ringJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	if n := len(in.Counts); n%2 != 0 || n > 2*burnMinutes || in.Minute < 0 || int64(n/2) > in.Minute+1 {
		return fmt.Errorf("a ring of %d counts at minute %d", n, in.Minute)
	}
	*r = Ring{minute: in.Minute}
	for i := 0; i < len(in.Counts); i += 2 {
		r.slots[(in.Minute-int64(i/2))%burnMinutes] = Count{in.Counts[i], in.Counts[i+1]}
	}
	return nil
}

// Burning is a level that is exceeded.
type Burning struct {
	Level BurnLevel
	Since time.Time
	Long  Count // over Level.Long
	Short Count
}

// Budget watches one app's SLO. The zero value has seen nothing.
type Budget struct {
	Ring  Ring                 `json:"ring"`
	Since map[string]time.Time `json:"since,omitempty"` // per level that is exceeded
}

// Look says which levels are exceeded at now, the worst first, and which of
// them were not at the look before and are the worst now. A level is exceeded when both windows burn faster
// than its rate, and until the short one is back at what the SLO allows: what
// goes up and down around the rate is one time and not many.
func (b *Budget) Look(now time.Time, slo float64) (burning []Burning, begun []Burning) {
	for _, l := range BurnLevels() {
		x := Burning{Level: l, Long: b.Ring.Over(now, l.Long), Short: b.Ring.Over(now, l.Short)}
		since, was := b.Since[l.Name]
		switch exceeds := x.Short.Bad >= BurnLeast && x.Short.Burn(slo) > l.Rate && x.Long.Burn(slo) > l.Rate; {
		case exceeds && !was:
			if b.Since == nil {
				b.Since = map[string]time.Time{}
			}
			b.Since[l.Name], x.Since = now, now
			if len(burning) == 0 { // a ticket beside a page is no news
				begun = append(begun, x)
			}
			burning = append(burning, x)
		case was && x.Short.Burn(slo) > 1:
			x.Since = since
			burning = append(burning, x)
		case was:
			delete(b.Since, l.Name)
		}
	}
	return burning, begun
}

// blameLeast is how many bad answers stable must have to be bad itself: one of
// three requests proves nothing.
const blameLeast = 3

// Blame reports whether a burn is the candidate's alone: it burns faster than
// rate, and stable, in the same time or, where it served nothing then, in the
// hour before, does not.
func Blame(candidate, stable Count, slo, rate float64) bool {
	return candidate.Burn(slo) > rate && stable.All > 0 && (stable.Burn(slo) <= rate || stable.Bad < blameLeast)
}
