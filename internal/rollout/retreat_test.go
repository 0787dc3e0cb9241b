package rollout

import (
	"strings"
	"testing"
	"time"

	"gapless"
)

// asking is a candidate in a judged step that is undecided and waits.
func asking(t *testing.T) *measured {
	t.Helper()
	m := newMeasured(t, gapless.OnUndecidedPause)
	m.answers(121, value(0.01))
	if !m.s.asked() || m.s.Rollout.Cursor != 0 {
		t.Fatalf("%+v", m.s.Rollout)
	}
	return m
}

var provenLater = &gapless.Verdict{Kind: gapless.NotWorse, Reason: "proven", Share: 0.5}

// TestProofAnswers: the proof ends the wait for a person, with good metrics.
func TestProofAnswers(t *testing.T) {
	m := asking(t)
	m.answers(30, value(0.01))
	if m.s.Rollout.Cursor != 0 || !m.s.Paused {
		t.Fatal("it goes on without a proof")
	}
	m.answers(11, gapless.Reading{Kind: gapless.ReadEmpty})
	m.s.Rollout.Verdict = provenLater
	m.look()
	if m.s.Rollout.Cursor != 0 || !m.s.Paused {
		t.Fatal("it goes on without data")
	}
	if next, _ := decide(m.s, m.obs, m.now, true); next.Rollout.Cursor != 0 {
		t.Error("it goes on without a journal")
	}
	m.answers(12, value(0.01))
	if m.s.Rollout.Cursor != 1 || !strings.Contains(m.s.Rollout.Waiting, "pauses here") { // the next step
		t.Errorf("step %d, %q", m.s.Rollout.Cursor, m.s.Rollout.Waiting)
	}
}

// TestMetricAnswers: a plan that goes on without evidence, and waited only for
// a metric, goes on with it.
func TestMetricAnswers(t *testing.T) {
	m := newMeasured(t, gapless.OnUndecidedContinue)
	if m.answers(121, gapless.Reading{Kind: gapless.ReadEmpty}); !m.s.asked() {
		t.Fatalf("%+v", m.s.Rollout)
	}
	if m.answers(12, value(0.01)); m.s.Rollout.Cursor != 1 {
		t.Errorf("it waits: %q", m.s.Rollout.Waiting)
	}
}

// TestAPersonsPauseStays: whoever says that it is to wait is asked, whatever is
// proven; so is who said it while it waited anyway. Then it goes on with the
// next step.
func TestAPersonsPauseStays(t *testing.T) {
	for name, pause := range map[string]func(State) (State, error){
		"paused by a person":           Pause,
		"paused because it is on fire": func(s State) (State, error) { return PauseFor(s, "it is on fire") },
	} {
		m := asking(t)
		question := m.s.Rollout.Waiting
		for range 2 {
			var err error
			if m.s, err = pause(m.s); err != nil {
				t.Fatal(err)
			}
		}
		if w := m.s.Rollout.Waiting; !strings.HasPrefix(w, question+"; "+name) || strings.Count(w, "paused") != 1 {
			t.Errorf("%q", w)
		}
		m.s.Rollout.Verdict = provenLater
		if m.answers(12, value(0.01)); m.s.Rollout.Cursor != 0 || !m.s.Paused {
			t.Errorf("%s: it goes on", name)
		}
		m.s.Rollout.Verdict = nil
		s, err := Resume(m.s)
		if err != nil {
			t.Fatal(err)
		}
		m.s = s
		if m.look(); m.s.Rollout.Cursor != 1 {
			t.Errorf("%s: it asks again: %q", name, m.s.Rollout.Waiting)
		}
	}
}

// TestRampGoesDownWhileAsked: no one waits with too large a share, and no one
// gets more while a person is asked.
func TestRampGoesDownWhileAsked(t *testing.T) {
	m := newMeasured(t, gapless.OnUndecidedPause)
	m.s.Rollout.Plan[0].Kind = gapless.StepRamp
	m.s.Rollout.Verdict = &gapless.Verdict{Kind: gapless.Undecided, Share: 0.25}
	if m.answers(121, value(0.01)); !m.s.asked() || m.s.Weight != 0.25 {
		t.Fatalf("%v %+v", m.s.Weight, m.s.Rollout)
	}
	for _, c := range []struct{ allowed, want float64 }{{0.05, 0.05}, {0.5, 0.05}} {
		m.s.Rollout.Verdict = &gapless.Verdict{Kind: gapless.Undecided, Share: c.allowed}
		if m.look(); m.s.Weight != c.want || !m.s.Paused {
			t.Errorf("allowed %v, it has %v", c.allowed, m.s.Weight)
		}
	}
	m.s, _ = Pause(m.s)
	m.s.Rollout.Verdict = &gapless.Verdict{Kind: gapless.Undecided, Share: 0.01}
	if m.look(); m.s.Weight != 0.05 {
		t.Errorf("a person holds it where it was, and it has %v", m.s.Weight)
	}
}

// TestRampAnswersItself tells the same with everything around it.
func TestRampAnswersItself(t *testing.T) {
	s := begun(t, good, 3, func(rel *gapless.Release) {
		rel.Spec.Judge.Within, rel.Spec.Judge.OnUndecided = gapless.Duration(300*time.Millisecond), gapless.OnUndecidedPause
	})
	s.until("asked", func(st State) bool { return st.asked() })
	s.rest("v2", gapless.Promoted, "")
	if !s.told("rollout.answered") {
		t.Error("nobody was told")
	}
}

// TestRampGoesDownWithoutJournal: to give the candidate less needs no journal,
// to give it more again does.
func TestRampGoesDownWithoutJournal(t *testing.T) {
	s := begun(t, good, 4, nil)
	s.until("more", func(State) bool { return s.share("v2") > 0.1 })
	s.faults.save = 1
	for i := range 5 { // of both, so that it is no proof
		s.edges[0].add([]string{"v1", "v2"}[i/3], s.share("v2"), "5xx")
	}
	s.until("less", func(State) bool { return s.share("v2") == 0.1 })
	for range 200 {
		s.pass(50 * time.Millisecond)
		if s.round(); s.share("v2") != 0.1 {
			t.Fatalf("it has %v", s.share("v2"))
		}
	}
	s.faults.save = 0
	s.rest("v2", gapless.Promoted, "")
}

// TestUndecidedGoesBackWithoutJournal: nor does to give it nothing.
func TestUndecidedGoesBackWithoutJournal(t *testing.T) {
	m := newMeasured(t, gapless.OnUndecidedRollback)
	m.s.Watched = gapless.Duration(2 * time.Minute)
	m.now = m.now.Add(time.Second)
	next, acts := decide(m.s, m.obs, m.now, true)
	if !next.Back || len(acts) == 0 {
		t.Errorf("%+v", next.Rollout)
	}
	for _, on := range []string{gapless.OnUndecidedContinue, gapless.OnUndecidedPause} {
		m.s.Rollout.Plan[0].OnUndecided = on
		m.obs.Releases["v2"].Spec.Judge = gapless.JudgeSpec{OnUndecided: on}
		if next, _ := decide(m.s, m.obs, m.now, true); next.Back || next.Paused || next.Rollout.Cursor != 0 {
			t.Errorf("%s: %+v", on, next.Rollout)
		}
	}
}
