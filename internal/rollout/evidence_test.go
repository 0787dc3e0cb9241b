package rollout

import (
	"strings"
	"testing"
	"time"

	"gapless"
)

// A release that is given requests and answers none, while stable does, is
// not "without evidence".
func TestUnanswered(t *testing.T) {
	verdict := func(candidate, stable uint64) *gapless.Verdict {
		return &gapless.Verdict{Evidence: gapless.Figures{Candidate: gapless.Arm{Requests: candidate}, Stable: gapless.Arm{Requests: stable}}}
	}
	for _, c := range []struct {
		name    string
		given   uint64
		share   float64
		verdict *gapless.Verdict
		want    uint64
	}{
		{"stable answers, it does not", 7, 0.25, verdict(0, 21), 7},
		{"it answered one", 7, 0.25, verdict(1, 21), 0},
		{"nobody answers: long polls", 7, 0.25, verdict(0, 0), 0},
		{"nothing was counted at all", 7, 0.25, nil, 0},
		{"it was given nothing", 0, 0.25, verdict(0, 21), 0},
		{"alone, without a control", 7, 1, verdict(0, 0), 7},
		{"its answers are not in the verdict yet", 5, 0.25, verdict(0, 21), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			ready := func(id, release string) gapless.Instance {
				return gapless.Instance{ID: id, App: "shop", Release: release, Process: gapless.WebProcess, Slot: 1, State: gapless.Ready}
			}
			s := State{App: "shop", Stable: "v1", Weight: c.share, Counts: map[string]int{gapless.WebProcess: 1},
				Rollout: &gapless.Rollout{From: "v1", To: "v2", Outcome: gapless.Running, Verdict: c.verdict},
				Members: []Member{{ID: "a", Release: "v1", Process: gapless.WebProcess, Role: Stable, WasUp: true},
					{ID: "b", Release: "v2", Process: gapless.WebProcess, Role: Candidate, WasUp: true}}}
			obs := Observed{Instances: map[string]gapless.Instance{"a": ready("a", "v1"), "b": ready("b", "v2")},
				Cursor: Cursor{}, Served: Served{Given: map[string]uint64{"a": 100, "b": c.given}}}
			if c.given == 5 {
				obs.Tallies = []gapless.Tally{{Release: "v2", Weight: c.share, Requests: 4}}
			}
			if c.share == 1 {
				s.Members, s.Stable = s.Members[1:], ""
			}
			d := &decision{s: s, obs: obs}
			if got := d.unanswered(); got != c.want {
				t.Errorf("%d unanswered, want %d (share %v)", got, c.want, d.share())
			}
		})
	}
}

// TestSilentEarly is the table of when a release that answers nothing is taken
// back before its step is over.
func TestSilentEarly(t *testing.T) {
	for _, c := range []struct {
		name     string
		watched  time.Duration
		share    float64
		given    uint64
		answered gapless.Arm // by the candidate
		stable   uint64      // answered by stable
		open     int         // in flight at stable
		preview  bool
		back     bool
	}{
		{name: "it answers none of ten", watched: 3 * time.Second, share: .25, given: 10, stable: 30, back: true},
		{name: "too early", watched: 2 * time.Second, share: .25, given: 10, stable: 30},
		{name: "too few", watched: time.Minute, share: .25, given: 9, stable: 30},
		{name: "it answered one", watched: time.Minute, share: .25, given: 10, answered: gapless.Arm{Requests: 1}, stable: 30},
		{name: "stable answers no more either", watched: time.Minute, share: .25, given: 10, stable: 9},
		{name: "stable answered as many", watched: time.Minute, share: .25, given: 10, stable: 10, back: true},
		{name: "stable has some that take long", watched: time.Minute, share: .25, given: 10, stable: 30, open: 15, back: true},
		{name: "most take long, as with long polls", watched: time.Minute, share: .05, given: 10, stable: 20, open: 170},
		{name: "most take long, but not so many in a row", watched: time.Minute, share: .05, given: 100, stable: 120, open: 1000, back: true},
		{name: "alone nobody knows", watched: time.Minute, share: 1, given: 100, stable: 300},
		{name: "alone, at the end of the step", watched: time.Hour, share: 1, given: 100, stable: 300, back: true},
		{name: "people looked at it by its preview", watched: time.Hour, share: .25, given: 20, stable: 300, preview: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Now()
			s := State{App: "shop", Stable: "v1", Weight: c.share, Counts: map[string]int{gapless.WebProcess: 1}, Preview: c.preview,
				Entered: true, Watched: gapless.Duration(c.watched), Looked: now,
				Rollout: &gapless.Rollout{From: "v1", To: "v2", Outcome: gapless.Running,
					Verdict: &gapless.Verdict{Evidence: gapless.Figures{Candidate: c.answered, Stable: gapless.Arm{Requests: c.stable}}}},
				Members: []Member{{ID: "a", Release: "v1", Process: gapless.WebProcess, Role: Stable, WasUp: true},
					{ID: "b", Release: "v2", Process: gapless.WebProcess, Role: Candidate, WasUp: true}}}
			ready := func(id, release string) gapless.Instance {
				return gapless.Instance{ID: id, App: "shop", Release: release, Process: gapless.WebProcess, Slot: 1, State: gapless.Ready}
			}
			obs := Observed{Instances: map[string]gapless.Instance{"a": ready("a", "v1"), "b": ready("b", "v2")}, Cursor: Cursor{},
				Served: Served{Known: true, Given: map[string]uint64{"a": 1000, "b": c.given}, InFlight: map[string]int{"a": c.open}}}
			d := &decision{s: s, obs: obs, now: now}
			d.judged(gapless.Step{Kind: gapless.StepJudge, For: gapless.Duration(10 * time.Minute), OnUndecided: gapless.OnUndecidedContinue})
			if d.s.Back != c.back {
				t.Errorf("taken back: %v, %q", d.s.Back, d.s.Rollout.Reason)
			}
			if c.back && (d.s.Rollout.Hint == "" || !strings.Contains(d.s.Rollout.Reason, "answered none of them")) {
				t.Errorf("%q, hint %q", d.s.Rollout.Reason, d.s.Rollout.Hint)
			}
		})
	}
}
