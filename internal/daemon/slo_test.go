package daemon

import (
	"slices"
	"strings"
	"testing"
	"time"

	"gapless"
	"gapless/internal/rollout"
)

// promising is a daemon whose app promises 99.9 % and is in the middle of a
// rollout; serve counts requests by release and looks ten seconds later.
func promising(t *testing.T) (d *Daemon, a *app, serve func(n int, bad map[string]uint64)) {
	d = aDaemon(t)
	for _, name := range []string{"v1", "v2"} {
		spec := onAddress("shop", "/")
		spec.SLO, spec.Notify = .999, []gapless.Notify{{Webhook: "http://127.0.0.1:1/", On: gapless.NotifyEvents()}}
		d.releases["shop/"+name] = &gapless.Release{App: "shop", Name: name, Spec: spec}
	}
	now := time.Now()
	a = anApp(d, rollout.State{App: "shop", Stable: "v1", Entered: true, Rollout: &gapless.Rollout{ID: "r1", App: "shop", Kind: "deploy", From: "v1", To: "v2",
		Outcome: gapless.Running, Started: now, Plan: []gapless.Step{{Kind: gapless.StepJudge}, {Kind: gapless.StepPromote}}}})
	traffic := []gapless.ReleaseTraffic{{App: "shop", Release: "v1"}, {App: "shop", Release: "v2"}, {App: "other", Release: "v1"}}
	d.lookAtSLO(t.Context(), now, traffic)
	return d, a, func(n int, bad map[string]uint64) {
		for range n {
			now = now.Add(lookAtSLO)
			for i := range traffic {
				x := &traffic[i]
				x.Requests += 1000
				x.Status[2] += 1000 - bad[x.Release]
				x.Status[5] += bad[x.Release]
			}
			d.lookAtSLO(t.Context(), now, traffic)
		}
	}
}

// told is the keys' events that wait to be sent.
func told(t *testing.T, d *Daemon) (events []string) {
	t.Helper()
	list, err := d.store.Notices(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range list {
		if strings.HasPrefix(x.Key, "slo/") {
			events = append(events, strings.Join(strings.Split(x.Key, "/")[:3], "/"))
		}
	}
	return events
}

func TestSLOBurnsByTheCandidate(t *testing.T) {
	d, a, serve := promising(t)
	serve(30, nil)
	if s := a.runner.State(); s.Back || s.Paused || len(told(t, d)) > 0 {
		t.Fatalf("%+v, told %v", s.Rollout, told(t, d))
	}
	serve(40, map[string]uint64{"v2": 100})
	s := a.runner.State()
	if !s.Back || !strings.Contains(s.Rollout.Reason, "the SLO of 99.9 % burns") || !strings.Contains(s.Rollout.Reason, "v2 fails") || !strings.Contains(s.Rollout.Reason, "v1 0 % of") {
		t.Errorf("%+v", s.Rollout)
	}
	if events := told(t, d); !slices.Equal(events, []string{"slo/shop/ticket", "slo/shop/page"}) {
		t.Errorf("told %v", events)
	}
	if o := d.sloStatus("shop", s, time.Now()); o == nil || o.Target != .999 || len(o.Burning) != 2 {
		t.Errorf("%+v", o)
	}
}

func TestSLOBurnsByBoth(t *testing.T) {
	_, a, serve := promising(t)
	serve(40, map[string]uint64{"v1": 100, "v2": 100})
	s := a.runner.State()
	if s.Back || !s.Paused || !strings.HasPrefix(s.Rollout.Waiting, "paused because the SLO of 99.9 % burns") || !strings.Contains(s.Rollout.Waiting, "not by v2 alone") {
		t.Fatalf("%+v", s.Rollout)
	}
	// Who resumes knows of it: it is not paused again, and goes on with the same step.
	if err := a.runner.Do(t.Context(), rollout.Resume); err != nil {
		t.Fatal(err)
	}
	serve(10, map[string]uint64{"v1": 100, "v2": 100})
	if s := a.runner.State(); s.Paused || s.Skip {
		t.Errorf("%+v", s)
	}
}

// What burnt before the rollout began does nothing to it, nor does a way back.
func TestSLOBurntBefore(t *testing.T) {
	for name, change := range map[string]func(*rollout.State){
		"no rollout":        func(s *rollout.State) { s.Rollout.Outcome = gapless.Promoted },
		"a later rollout":   func(s *rollout.State) { s.Rollout.Started = time.Now().Add(time.Hour) },
		"a rollback":        func(s *rollout.State) { s.Rollout.Kind = "rollback" },
		"the first release": func(s *rollout.State) { s.Rollout.From = "" },
	} {
		d, a, serve := promising(t)
		s := a.runner.State()
		change(&s)
		a.runner.Init(s)
		serve(40, map[string]uint64{"v1": 100, "v2": 100})
		if s := a.runner.State(); s.Back || s.Paused {
			t.Errorf("%s: %+v", name, s.Rollout)
		}
		if len(told(t, d)) == 0 {
			t.Errorf("%s: nobody is told", name)
		}
	}
}

// A daemon that is restarted goes on from what was counted.
func TestSLOOutlivesTheDaemon(t *testing.T) {
	d, a, serve := promising(t)
	serve(30, map[string]uint64{"v1": 100})
	burnt := d.sloStatus("shop", a.runner.State(), time.Now().Add(5*time.Minute))
	d.slos.of = nil
	if err := d.store.Note(t.Context(), sloNote, &d.slos.of); err != nil {
		t.Fatal(err)
	}
	again := d.sloStatus("shop", a.runner.State(), time.Now().Add(5*time.Minute))
	if again.Bad == 0 || again.Bad > burnt.Bad || again.Bad < burnt.Bad*8/10 || !slices.Equal(again.Burning, burnt.Burning) {
		t.Errorf("%+v, before %+v", again, burnt)
	}
}

// What the candidate got before the daemon was restarted is not taken for stable's.
func TestSLOKnowsTheCandidateAfterARestart(t *testing.T) {
	d, a, serve := promising(t)
	serve(30, nil)
	d.saveSLOs(t.Context(), time.Now())
	for n := 0; len(told(t, d)) < 1; n++ { // until little is lacking
		if n == 40 {
			t.Fatal("it does not burn")
		}
		serve(1, map[string]uint64{"v2": 100})
	}
	d.saveSLOs(t.Context(), time.Now())
	d.slos.of = nil
	if err := d.store.Note(t.Context(), sloNote, &d.slos.of); err != nil {
		t.Fatal(err)
	}
	before := d.slos.of["shop"]
	if before.Rollout != "r1" || before.Candidate.Over(time.Now().Add(10*time.Minute), time.Hour).Bad == 0 {
		t.Errorf("%q, %+v", before.Rollout, before.Candidate)
	}
	serve(40, map[string]uint64{"v2": 100})
	if s := a.runner.State(); !s.Back || s.Paused {
		t.Errorf("%+v", s.Rollout)
	}
}

func TestServed(t *testing.T) {
	c := served(gapless.ReleaseTraffic{Requests: 99, Status: [6]uint64{7, 0, 80, 5, 3, 2}, Aborted: 4})
	if c.All != 93 || c.Bad != 5 {
		t.Errorf("%+v", c)
	}
	if c := served(gapless.ReleaseTraffic{Status: [6]uint64{2, 0, 8}, Aborted: 5}); c.All != 8 || c.Bad != 0 {
		t.Errorf("%+v", c)
	}
}
