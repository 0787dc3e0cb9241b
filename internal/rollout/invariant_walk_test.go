package rollout

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"gapless"
	"gapless/internal/judge"
)

// walked checks one look of the engine: how it went on from was to is. No
// person spoke in between.
func (w *world) walked(was, is State) {
	w.counted(is)
	w.baked(was, is)
	w.copiesCounted(is)
	defer w.lookedOn(is)
	if key := judging(was); key != "" && key == w.watch {
		if gap := w.now.Sub(w.watchAt); gap <= 5*time.Second && (!w.blind || w.unsaved) {
			w.watched += gap
		}
	}
	w.keptOn(was, is)
	for _, release := range []string{is.Stable, is.Before} {
		if w.gone[release] && (is.Busy() || release == is.Stable) {
			w.violate("%s may have to serve again, and its release is gone", release)
		}
	}
	if is.Busy() && (w.gone[is.Rollout.From] || w.gone[is.Rollout.To]) {
		w.violate("the rollout from %s to %s is not final, and its release is gone", is.Rollout.From, is.Rollout.To)
	}
	if !was.Busy() || was.Down || is.Rollout == nil || was.Rollout.ID != is.Rollout.ID {
		return
	}
	back := is.Back || is.Busy() && is.promoted() || is.Rollout.Outcome != gapless.Running
	if w.fell && !was.promoted() && !was.Back && !back && is.Busy() && w.now.Equal(w.lookedAt) && w.runner.state.Rollout.Cursor > was.Rollout.Cursor {
		w.violate("it goes on although an edge fell back: %s", is.Rollout.To)
	}
	if w.severed(was) && !was.promoted() && !was.Back && !back && is.Busy() && w.now.Equal(w.lookedAt) && w.runner.state.Rollout.Cursor > was.Rollout.Cursor {
		w.violate("it goes on although no request gets through to %s", is.Rollout.To)
	}
	if w.lost {
		return
	}
	w.readBack(was, is)
	w.climbed(was, is)
	w.failedOutside(was, is)
	if was.Paused && !was.asked() && !is.Back && (!is.Paused || is.Rollout.Cursor != was.Rollout.Cursor) && !w.stuckEnd(is) {
		w.violate("it goes on although it is paused: from step %d to %d", was.Rollout.Cursor, is.Rollout.Cursor)
	}
	w.left(was, is)
}

// readBack checks that a change of the weights is over only when every edge
// serves it.
func (w *world) readBack(was, is State) {
	r := was.Rollout
	if !was.Entered || was.Skip || is.Rollout.Cursor <= r.Cursor || r.Plan[r.Cursor].Kind != gapless.StepWeight || !w.now.Equal(w.servedAt) {
		return
	}
	for i, table := range w.tables {
		switch {
		case table == nil:
			w.violate("step %d is over, and edge %d serves nothing", r.Cursor, i)
			return
		case table.Share(r.To) != w.tables[0].Share(r.To) || r.To != was.Stable && table.Share(r.To) == 0:
			w.violate("step %d is over, and edge %d serves %s", r.Cursor, i, describe(table))
		}
	}
}

// stuckEnd reports whether a rollout ended with the candidate because stable
// could not come back.
func (w *world) stuckEnd(s State) bool {
	return !s.Busy() && (s.Rollout.Outcome != gapless.Promoted || s.Down)
}

// left checks how judged steps were left.
func (w *world) left(was, is State) {
	r := was.Rollout
	if !was.Entered || was.Skip || was.Paused && !was.asked() || was.Back || r.Cursor >= len(r.Plan) || is.Rollout.Cursor <= r.Cursor {
		return
	}
	step := r.Plan[r.Cursor]
	switch step.Kind {
	case gapless.StepMirror:
		w.tally["mirrored"]++
		w.compared(was, is)
		if w.watched+lookEvery < step.For.Std() && w.forgot != is.Rollout.ID {
			w.violate("it goes on after %s of mirroring, %s were asked for", w.watched, step.For)
		}
		return
	case gapless.StepJudge, gapless.StepRamp:
	default:
		return
	}
	w.heeded(step, is)
	if was.asked() {
		w.tally["answered by itself"]++
	}
	if is.Rollout.Verdict != nil && is.Rollout.Verdict.Kind == gapless.NotWorse {
		if step.Kind == gapless.StepRamp {
			w.tally["proven in a ramp"]++
		}
		return
	}
	if step.OnUndecided == gapless.OnUndecidedPause || step.OnUndecided == gapless.OnUndecidedRollback {
		w.violate("undecided, it goes on although it was to %s", step.OnUndecided)
	}
	if w.watched+lookEvery < step.For.Std() && w.forgot != is.Rollout.ID {
		w.violate("it goes on after %s of judging, %s were asked for", w.watched, step.For)
	}
}

// judging names the judged step that a state is in.
func judging(s State) string {
	if kind := current(s).Kind; !s.Busy() || s.Back || kind != gapless.StepJudge && kind != gapless.StepRamp && kind != gapless.StepMirror {
		return ""
	}
	return s.Rollout.ID + "/" + strconv.Itoa(s.Rollout.Cursor)
}

// lookedOn measures how long a judged step was watched.
func (w *world) lookedOn(s State) {
	if key := judging(s); key != w.watch {
		w.watch, w.watched = key, 0
	}
	w.watchAt = w.now
}

// counted compares the judge with its cursor: every request that was told up
// to there is in it, and once. Then it must have drawn the conclusion.
func (w *world) counted(s State) {
	if s.Judge == nil || !s.Busy() {
		return
	}
	judged, n := seenBy(s), 0
	check := func(release string, weight float64, got gapless.Arm) {
		want := s.Cursor.at(total + release + "/" + strconv.FormatFloat(weight, 'g', -1, 64))
		if want.requests > 0 {
			n++
		}
		if got.Requests != want.requests || got.Bad != want.bad {
			w.violate("of %s at %v %d requests (%d bad) were told and %d (%d bad) are counted", release, weight, want.requests, want.bad, got.Requests, got.Bad)
		}
	}
	w.pacesCounted(s)
	sum := uint64(0)
	for _, row := range judged.Rows {
		check(judged.Config.Candidate, row.Weight, row.Candidate)
		check(judged.Config.Stable, row.Weight, row.Stable)
		sum += row.Candidate.Bad + row.Stable.Bad
	}
	for key, v := range s.Cursor {
		rest, isTotal := strings.CutPrefix(key, total)
		release, weight, _ := strings.Cut(rest, "/")
		if isTotal && v[0] > 0 && weight != "0" && (release == judged.Config.Candidate || release == judged.Config.Stable) {
			n--
		}
	}
	if n < 0 {
		w.violate("what was told is not counted: %v, judge %+v", s.Cursor, judged.Rows)
	}
	if sum != w.judgedSum && !s.Back && !s.promoted() {
		w.judgedSum = sum
		if w.verdict(judged) == gapless.Worse {
			w.violate("%s is proven worse and goes on", s.Rollout.To)
		}
	}
}

func (w *world) verdict(j judge.Judge) gapless.VerdictKind {
	return j.Verdict(0.5).Kind
}

// keptOn checks that the kept set stays as long as it was promised to.
func (w *world) keptOn(was, is State) {
	if is.Down || w.lost || w.unsaved {
		return
	}
	for _, m := range was.Members {
		if m.Role != Kept || !w.clock().Before(m.Until) {
			continue
		}
		now := is.member(m.ID)
		if now != nil && (now.Role == Kept || now.Warm && is.Busy() && is.Rollout.Auto && now.Role == Candidate) {
			continue
		}
		if i := slices.IndexFunc(w.looked, func(in gapless.Instance) bool { return in.ID == m.ID }); i >= 0 &&
			w.looked[i].State == gapless.Ready && !w.unwell[m.ID] {
			w.violate("%s was kept until %s and is given up at %s", m.ID, m.Until, w.clock())
		}
	}
}

// allWarm reports whether the kept instances that a rollback found are well.
func (w *world) allWarm() bool {
	s := w.runner.state
	if !s.Busy() || s.Back || s.Rollout.Kind != "rollback" {
		return false
	}
	for _, id := range w.warm {
		p := w.find(id)
		if p == nil || p.in.State != gapless.Ready || w.sick[id].After(w.now) || w.spec(p.in) == nil || p.in.Release != s.Rollout.To {
			return false
		}
	}
	return true
}

// mayFallBack checks what an edge would serve by itself.
func (w *world) mayFallBack(s State, r *gapless.Route, share, carried float64) {
	if s.Judge == nil || s.Back || s.promoted() || share <= 0 || share >= 1 {
		return
	}
	sum := 0.0
	for _, x := range r.Fallback {
		sum += x.Share
	}
	back := 0.0
	for _, x := range r.Fallback {
		if x.Release == s.Rollout.To {
			back = x.Share
		}
	}
	switch {
	case r.Lease <= 0:
		w.violate("%s has %v and nobody needs to judge", s.Rollout.To, share)
	case sum < 1-1e-9 || sum > 1+1e-9:
		w.violate("fallback weights sum to %v", sum)
	case back > share+1e-9:
		w.violate("the fallback gives %s more than it has: %v over %v", s.Rollout.To, back, share)
	case 1-back > max(carried, 1-share)+1e-9:
		w.violate("the fallback gives %s %v, but it carries %v", s.Stable, 1-back, carried)
	case back > 0 && carried >= 1-1e-9:
		w.violate("the fallback leaves %s %v though %s carries all", s.Rollout.To, back, s.Stable)
	}
}

// severed reports whether the engine was told, in this round, that requests
// get through to no ready web instance of the candidate, and to all of stable.
func (w *world) severed(s State) bool {
	n, through := 0, false
	for i := range s.Members {
		m := &s.Members[i]
		if m.Process != gapless.WebProcess {
			continue
		}
		switch {
		case m.Role == Stable && w.failing[m.ID]:
			return false
		case m.Role == Stable:
			through = through || lookUp(w.looked, m.ID).State == gapless.Ready && !w.unwell[m.ID]
		case m.Role != Candidate || m.Warm || lookUp(w.looked, m.ID).State != gapless.Ready:
		case !w.failing[m.ID]:
			return false
		default:
			n++
		}
	}
	return n > 0 && through
}
