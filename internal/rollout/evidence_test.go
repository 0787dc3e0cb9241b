package rollout

import (
	"testing"

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
