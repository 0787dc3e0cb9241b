package daemon

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"gapless"
	"gapless/internal/rollout"
)

var threeStages = &gapless.App{Name: "shop", Processes: []gapless.Process{
	{Name: "web"}, {Name: "worker"}, {Name: "unused"}, {Name: "nightly", Cron: "0 3 * * *"}}}

func TestColdStartKeepsOrder(t *testing.T) {
	in := func(process string, state gapless.InstanceState) gapless.Instance {
		return gapless.Instance{App: "shop", Process: process, State: state}
	}
	counts := map[string]int{"web": 2, "worker": 1, "unused": 0, "nightly": 1}
	for _, c := range []struct {
		process string
		running []gapless.Instance
		want    bool
	}{
		{"web", nil, true},
		{"worker", nil, false},
		{"worker", []gapless.Instance{in("web", gapless.Starting)}, false},
		{"worker", []gapless.Instance{{App: "other", Process: "web", State: gapless.Ready}}, false},
		{"worker", []gapless.Instance{in("web", gapless.Ready), in("web", gapless.Starting)}, true},
		{"nightly", []gapless.Instance{in("web", gapless.Ready)}, false},
		{"nightly", []gapless.Instance{in("web", gapless.Ready), in("worker", gapless.Crashed)}, false},
		{"nightly", []gapless.Instance{in("web", gapless.Ready), in("worker", gapless.Ready)}, true},
		{"gone", nil, true},
	} {
		if got := allowed(threeStages, counts, in(c.process, ""), c.running); got != c.want {
			t.Errorf("%s beside %v: %v", c.process, c.running, got)
		}
	}
}

// TestColdStartIsBounded lets web never become ready: a worker that it may
// wait for itself starts all the same.
func TestColdStartIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o order
		worker := gapless.Instance{App: "shop", Process: "worker"}
		nothing := func() []gapless.Instance { return nil }
		if !o.turn(context.Background(), worker, threeStages, nothing) {
			t.Error("an app that did not start from nothing waits")
		}
		began := time.Now()
		o.begin("shop", map[string]int{"web": 1, "worker": 1})
		for !o.turn(context.Background(), worker, threeStages, nothing) {
			if time.Since(began) > 2*orderLimit {
				t.Fatal("it waits for ever")
			}
		}
		if took := time.Since(began); took < orderLimit {
			t.Errorf("it waited only %s", took)
		}
	})
}

// TestClockSetBack loads a state that was saved when the clock was an hour ahead.
func TestClockSetBack(t *testing.T) {
	now := time.Now().Round(0)
	ahead := now.Add(time.Hour)
	s := rollout.State{App: "shop", Since: ahead, Members: []rollout.Member{
		{ID: "a", Since: ahead, SickAt: ahead, Out: ahead},
		{ID: "b", Since: now.Add(-time.Minute), Until: now.Add(9 * time.Minute)},
		{ID: "c", Since: ahead, Until: ahead.Add(10 * time.Minute)},
	}}
	got := sane(s, now)
	if !got.Since.Equal(now) || !got.Members[0].Since.Equal(now) || !got.Members[0].SickAt.Equal(now) || !got.Members[0].Out.Equal(now) {
		t.Errorf("times of the future: %+v", got)
	}
	if m := got.Members[1]; m != s.Members[1] {
		t.Errorf("a member that was fine was changed: %+v", m)
	}
	if m := got.Members[2]; !m.Until.Equal(now.Add(10 * time.Minute)) {
		t.Errorf("kept until %s", m.Until.Sub(now))
	}
	if !s.Members[0].Since.Equal(ahead) {
		t.Error("the state that was given was changed")
	}
}
