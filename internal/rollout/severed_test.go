package rollout

import (
	"context"
	"testing"

	"gapless"
)

func TestSevered(t *testing.T) {
	web := func(id string, role Role, warm bool) Member {
		return Member{ID: id, Process: gapless.WebProcess, Role: role, WasUp: true, Warm: warm}
	}
	for _, c := range []struct {
		name     string
		members  []Member
		starting string
		failing  []string
		want     bool
	}{
		{"nobody is there", nil, "", nil, false},
		{"requests get through", []Member{web("a", Candidate, false)}, "", nil, false},
		{"to the only one they do not", []Member{web("a", Candidate, false), web("s", Stable, false)}, "", []string{"a"}, true},
		{"to one of two", []Member{web("a", Candidate, false), web("b", Candidate, false)}, "", []string{"a"}, false},
		{"to neither", []Member{web("a", Candidate, false), web("b", Candidate, false), web("s", Stable, false)}, "", []string{"a", "b"}, true},
		{"the other one is not ready", []Member{web("a", Candidate, false), web("b", Candidate, false), web("s", Stable, false)}, "b", []string{"a"}, true},
		{"nothing is left of stable", []Member{web("a", Candidate, false)}, "", []string{"a"}, false},
		{"it is not ready yet", []Member{web("a", Candidate, false)}, "a", []string{"a"}, false},
		{"one that was kept", []Member{web("a", Candidate, true)}, "", []string{"a"}, false},
		{"to stable neither: clients may do that", []Member{web("a", Candidate, false), web("s", Stable, false), web("r", Stable, false)}, "", []string{"a", "s"}, false},
		{"only to stable they do not", []Member{web("a", Candidate, false), web("s", Stable, false)}, "", []string{"s"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			obs := Observed{Instances: map[string]gapless.Instance{}, Served: Served{Failing: map[string]bool{}}}
			for _, m := range c.members {
				in := gapless.Instance{ID: m.ID, Process: m.Process, State: gapless.Ready}
				if m.ID == c.starting {
					in.State = gapless.Starting
				}
				obs.Instances[m.ID] = in
			}
			for _, id := range c.failing {
				obs.Served.Failing[id] = true
			}
			d := &decision{s: State{Members: c.members}, obs: obs}
			if got := d.severed(); got != c.want {
				t.Errorf("severed: %v", got)
			}
		})
	}
}

// TestRequestsThatDoNotGetThroughTakeBack: a candidate of which every instance
// is left alone by the edge goes back without statistics; where stable has the
// same trouble, it does not.
func TestRequestsThatDoNotGetThroughTakeBack(t *testing.T) {
	for _, both := range []bool{false, true} {
		s := onStage(t)
		s.deploy(s.made(good))
		s.rest("v1", gapless.Promoted, "")
		s.deploy(s.made(good))
		s.until("judged", s.step(gapless.StepJudge))
		s.runner.Router = severing{s.world, both}
		if both {
			s.rest("v2", gapless.Promoted, "")
		} else {
			s.rest("v1", gapless.TakenBack, "requests get through to no instance of v2")
		}
	}
}

// severing is a router that gets through to no instance of v2, or of nobody.
type severing struct {
	*world
	both bool
}

func (r severing) Observed(ctx context.Context, app string) (Served, error) {
	served, err := r.world.Observed(ctx, app)
	for _, p := range r.procs {
		served.Failing[p.in.ID] = p.in.Release == "v2" || r.both
	}
	return served, err
}
