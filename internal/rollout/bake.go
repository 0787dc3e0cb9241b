package rollout

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"gapless"
)

// Bake is the watch over a release that was promoted, while the one before it
// is kept warm. It is no part of the rollout, which is over: a person may
// deploy, which ends it, or scale. A release that fails now is taken back by a
// rollout of its own.
type Bake struct {
	Rollout string    `json:"rollout"` // that promoted it
	Release string    `json:"release"` // that is watched
	Before  string    `json:"before"`  // that is kept
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until"`
	Judge   Judge     `json:"judge,omitempty"` // nil: only hard evidence counts
	Cursor  Cursor    `json:"cursor"`          // as in State
	Folded  time.Time `json:"folded,omitzero"`
	Stuck   string    `json:"stuck,omitempty"` // why it is not taken back although it should be; people were told
}

// Watcher is a Judge that watches on once its candidate is promoted. What it
// becomes is of the same kind, so that the same reader reads it.
type Watcher interface {
	Watch() (Judge, bool)
}

// Watch implements Watcher; a judge that does not watch says so.
func (b bench[J]) Watch() (Judge, bool) {
	w, ok := any(b.j).(interface{ Watch() J })
	if !ok {
		return nil, false
	}
	return bench[J]{w.Watch()}, true
}

// Default times of watching. A blue-green set is kept warm anyway.
const canaryBake = gapless.Duration(5 * time.Minute)

// bakeFold is how often a watch is written to the journal while all is well.
const bakeFold = 10 * time.Second

// baked is the end of a plan that keeps the old set warm for keep, and watches
// the new one for as long as the app says, or otherwise.
func baked(app *gapless.App, keep, otherwise gapless.Duration) []gapless.Step {
	var plan []gapless.Step
	if keep > 0 {
		plan = append(plan, gapless.Step{Kind: gapless.StepKeep, For: keep})
	}
	if d := or(app.Judge.Bake, otherwise); d > 0 && !app.Judge.NoBake {
		plan = append(plan, gapless.Step{Kind: gapless.StepBake, For: d})
	}
	return append(plan, gapless.Step{Kind: gapless.StepPromote})
}

// newBake begins the watch over what was promoted just now, if the plan asks
// for it and there is something to go back to.
func (d *decision) newBake() {
	r := d.s.Rollout
	if d.s.Baking <= 0 || d.s.Back || r.From == "" || r.From == r.To || len(d.s.of(Kept, gapless.WebProcess)) == 0 {
		return
	}
	b := &Bake{Rollout: r.ID, Release: r.To, Before: r.From, Since: d.now, Until: d.now.Add(d.s.Baking.Std())}
	if w, ok := d.s.Judge.(Watcher); ok {
		if j, ok := w.Watch(); ok {
			b.Judge, b.Cursor = j, maps.Clone(d.s.Cursor)
		}
	}
	d.s.Bake = b
}

// bake watches over what was promoted, and takes it back.
func (d *decision) bake() {
	b := d.s.Bake
	switch {
	case b == nil:
		return
	case d.s.Down || d.s.Stable != b.Release:
		d.s.Bake = nil
		return
	}
	reason, verdict := d.spoiled(b)
	kept := 0
	for _, m := range d.s.of(Kept, gapless.WebProcess) {
		if m.Release == b.Before && d.ready(m) {
			kept++
		}
	}
	switch {
	case kept == 0 && d.known(b.Before):
		d.noteBake(b, "warn", "%s is watched no longer: nothing of %s is left to go back to", b.Release, b.Before)
		d.s.Bake = nil
	case reason == "" && !d.now.Before(b.Until):
		d.noteBake(b, "", "%s was watched for %s after it was promoted: nothing speaks against it", b.Release, gapless.Duration(b.Until.Sub(b.Since)))
		d.s.Bake = nil
	case reason == "" || kept == 0:
	case !d.s.Busy():
		d.takeBack(b, reason, verdict)
	case d.s.Back: // comes to its end first
	case d.s.promoted(): // what is left of its plan is left out
		r := d.s.Rollout
		r.Reason, r.Waiting, r.Cursor = reason, "", len(r.Plan)
		d.s.Paused, d.s.Skip, d.s.Entered, d.s.Hook = false, false, false, ""
	default: // more or fresh instances of what is to go
		d.failed(reason, "")
	}
}

// known reports whether all kept instances of a release were seen, so that
// those that are not ready are lost.
func (d *decision) known(release string) bool {
	for _, m := range d.s.of(Kept, gapless.WebProcess) {
		if _, seen := d.obs.Instances[m.ID]; m.Release == release && !seen && !m.Seen {
			return false
		}
	}
	return true
}

// spoiled says what speaks against a release after it was promoted: "" if
// nothing does. It takes in what was counted of it.
func (d *decision) spoiled(b *Bake) (reason string, verdict *gapless.Verdict) {
	for _, m := range d.s.of(Stable, gapless.WebProcess) {
		if in := d.seen(m); m.Release == b.Release && in.Restarts >= crashLoop {
			return fmt.Sprintf("%s crashed %d times since it was promoted: %s", in.Label(), in.Restarts, why(in)), nil
		}
	}
	if d.all(Stable, d.obs.Served.Refusing) {
		return b.Release + " refuses connections at every instance since it was promoted", nil
	}
	if b.Judge == nil {
		return "", nil
	}
	if v, worse := d.taste(b); worse {
		return v.Reason, &v
	}
	return "", nil
}

// crashLoop is how many crashes of one instance are no accident.
const crashLoop = 3

// taste judges what was counted since the release was promoted.
func (d *decision) taste(b *Bake) (v gapless.Verdict, worse bool) {
	if b.Cursor == nil {
		b.Cursor = d.obs.Cursor // what was counted before is no evidence
	}
	next := b.Judge
	if d.obs.Cursor != nil && d.news() {
		next = next.Observe(credible(d.obs.Tallies))
	}
	v = next.Verdict(1)
	worse = v.Kind == gapless.Worse
	since := d.now.Sub(b.Folded)
	if !next.Equal(b.Judge) && (worse || since < 0 || since >= bakeFold) {
		b.Judge, b.Cursor, b.Folded = next, d.obs.Cursor, d.now
	}
	return v, worse
}

// takeBack begins the way to the release that is kept: one change of the route.
// Where that cannot be, it is tried again, and people are told once.
func (d *decision) takeBack(b *Bake, reason string, verdict *gapless.Verdict) {
	to := d.obs.Releases[b.Before]
	if to == nil {
		d.stuck(b, reason, b.Before+" is not known any more")
		return
	}
	s, err := BeginRollback(d.s, gapless.BackID(b.Rollout), to, d.countsFor(to), d.now)
	if err != nil {
		d.stuck(b, reason, err.Error())
		return
	}
	d.s = s
	r := d.s.Rollout
	r.Reason, r.Verdict, r.Auto = reason, verdict, true
	d.note("error", "rollout.back", "", "%s is taken back after it was promoted: %s", b.Release, reason)
}

// stuck tells people that a release is not taken back although it should be.
func (d *decision) stuck(b *Bake, reason, why string) {
	if b.Stuck == why {
		return
	}
	b.Stuck = why
	d.noteBake(b, "error", "%s should be taken back (%s), which does not work: %s", b.Release, reason, why)
}

// countsFor is how many instances another release is to have of each process.
func (d *decision) countsFor(to *gapless.Release) map[string]int {
	counts := maps.Clone(d.s.Counts)
	if counts == nil {
		counts = map[string]int{}
	}
	for _, p := range to.Spec.Processes {
		if _, known := counts[p.Name]; !known {
			counts[p.Name] = p.Instances
		}
	}
	maps.DeleteFunc(counts, func(name string, _ int) bool { return to.Spec.Process(name) == nil })
	return counts
}

// noteBake tells people of a watch; it belongs to the rollout that is over.
func (d *decision) noteBake(b *Bake, level, format string, args ...any) {
	d.note(level, "bake", "", format, args...)
	e := &d.acts[len(d.acts)-1].Event
	e.Rollout, e.Release = b.Rollout, b.Release
}

// counted is where evidence was read up to: of the rollout, or of the watch
// after it.
func (s State) counted() Cursor {
	if s.Bake != nil && !s.judges() {
		return s.Bake.Cursor
	}
	return s.Cursor
}

// watches reports whether somebody wants to know what was counted.
func (s State) watches() bool {
	return s.Busy() && s.Judge != nil || s.Bake != nil && s.Bake.Judge != nil
}

// clone is a deep copy.
func (b *Bake) clone() *Bake {
	if b == nil {
		return nil
	}
	next := *b
	next.Cursor = maps.Clone(b.Cursor)
	return &next
}

func (b *Bake) same(o *Bake) bool {
	if b == nil || o == nil || b == o {
		return b == o
	}
	return b.Rollout == o.Rollout && b.Release == o.Release && b.Before == o.Before && b.Since.Equal(o.Since) && b.Until.Equal(o.Until) &&
		b.Folded.Equal(o.Folded) && b.Stuck == o.Stuck && b.Cursor.same(o.Cursor) && sameJudge(b.Judge, o.Judge)
}

// UnmarshalJSON reads a watch; its judge stays sealed, as a state's does.
func (b *Bake) UnmarshalJSON(data []byte) error {
	type plain Bake // without this method
	read := struct {
		*plain
		Judge json.RawMessage `json:"judge"`
	}{plain: (*plain)(b)}
	if err := json.Unmarshal(data, &read); err != nil {
		return err
	}
	b.Judge = seal(read.Judge)
	return nil
}

// watchesNow adds what edges need to count: a table with two releases, of
// which the kept one gets nothing.
func (s *State) watchesNow(r *gapless.Route) {
	b := s.Bake
	if b == nil || b.Judge == nil || r.Stable != b.Release || len(r.Weights) != 1 ||
		!slices.ContainsFunc(s.Members, func(m Member) bool { return m.Role == Kept && m.Release == b.Before }) {
		return
	}
	r.Weights = append(r.Weights, gapless.Weight{Release: b.Before})
}
