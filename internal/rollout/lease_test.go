package rollout

import (
	"context"
	"errors"
	"testing"
	"time"

	"gapless"
)

// A lease is renewed by rounds that decide. While every round fails before
// that, nobody judges, and the edge goes back by itself; also if it is
// replaced again and again meanwhile.
func TestLeaseRunsOutWhileNobodyJudges(t *testing.T) {
	for name, stop := range map[string]func(*stage) (again func()){
		"the fleet cannot be observed": func(s *stage) func() {
			fleet := s.runner.Fleet
			s.runner.Fleet = unseen{fleet}
			return func() { s.runner.Fleet = fleet }
		},
		"a release cannot be read": func(s *stage) func() {
			lookup := s.runner.Release
			s.runner.Release = func(string, string) (*gapless.Release, error) { return nil, errors.New("disk") }
			return func() { s.runner.Release = lookup }
		},
		"no evidence can be read": func(s *stage) func() {
			s.faults.blind = 1
			return func() { s.faults.blind = 0 }
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := onStage(t)
			s.deploy(s.made(good))
			s.rest("v1", gapless.Promoted, "")
			rel := s.made(good)
			rel.Spec.Soak = gapless.Duration(10 * time.Minute)
			s.deploy(rel)
			s.until("judged", s.step(gapless.StepJudge))
			for end := s.now.Add(2 * LeaseTime); s.now.Before(end); {
				s.pass(100 * time.Millisecond)
				s.round()
			}
			if s.edges[0].fell {
				t.Fatal("it fell back although somebody judges")
			}
			again := stop(s)
			s.faults.edges = 0.01
			for end := s.now.Add(LeaseTime + 2*time.Second); s.now.Before(end); {
				s.pass(100 * time.Millisecond)
				s.round()
			}
			s.faults.edges = 0
			if last := s.edges[len(s.edges)-1]; last.share() > 0 {
				t.Fatal("nobody judges, and the candidate is served on")
			}
			again()
			s.rest("v1", gapless.TakenBack, "nobody judged")
		})
	}
}

type unseen struct{ Fleet }

func (unseen) Observe(context.Context, string) ([]gapless.Instance, error) {
	return nil, errors.New("no answer")
}

func TestDeaf(t *testing.T) {
	web := func(id string, warm bool) Member {
		return Member{ID: id, Release: "v2", Process: gapless.WebProcess, Role: Candidate, WasUp: true, Warm: warm}
	}
	for _, c := range []struct {
		name     string
		members  []Member
		states   map[string]gapless.InstanceState
		refusing []string
		want     bool
	}{
		{"nobody is there", nil, nil, nil, false},
		{"it is asked and answers", []Member{web("a", false)}, nil, nil, false},
		{"the only one refuses", []Member{web("a", false)}, nil, []string{"a"}, true},
		{"one of two", []Member{web("a", false), web("b", false)}, nil, []string{"a"}, false},
		{"both", []Member{web("a", false), web("b", false)}, nil, []string{"a", "b"}, true},
		{"the other one is not ready", []Member{web("a", false), web("b", false)}, map[string]gapless.InstanceState{"b": gapless.Starting}, []string{"a"}, true},
		{"it is not ready yet", []Member{web("a", false)}, map[string]gapless.InstanceState{"a": gapless.Starting}, []string{"a"}, false},
		{"one that was kept", []Member{web("a", true)}, nil, []string{"a"}, false},
		{"stable refuses", []Member{web("a", false), {ID: "s", Release: "v1", Process: gapless.WebProcess, Role: Stable}}, nil, []string{"s"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			obs := Observed{Instances: map[string]gapless.Instance{}, Served: Served{Refusing: map[string]bool{}}}
			for _, m := range c.members {
				in := gapless.Instance{ID: m.ID, Process: m.Process, State: gapless.Ready}
				if state, ok := c.states[m.ID]; ok {
					in.State = state
				}
				obs.Instances[m.ID] = in
			}
			for _, id := range c.refusing {
				obs.Served.Refusing[id] = true
			}
			d := &decision{s: State{Members: c.members}, obs: obs}
			if got := d.deaf(); got != c.want {
				t.Errorf("deaf: %v", got)
			}
		})
	}
}

// TestRefusedConnectionsTakeBack: no statistics are needed where nothing arrives.
func TestRefusedConnectionsTakeBack(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	s.deploy(s.made(good))
	s.until("judged", s.step(gapless.StepJudge))
	s.runner.Router = refusing{s.world}
	s.rest("v1", gapless.TakenBack, "v2 refuses connections at every instance")
}

// refusing is a router at which every instance of v2 refuses.
type refusing struct{ *world }

func (r refusing) Observed(ctx context.Context, app string) (Served, error) {
	served, err := r.world.Observed(ctx, app)
	served.Refusing = map[string]bool{}
	for _, p := range r.procs {
		served.Refusing[p.in.ID] = p.in.Release == "v2"
	}
	return served, err
}
