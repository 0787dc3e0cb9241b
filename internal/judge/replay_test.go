package judge

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"gapless"
)

// recorded draws a stream of n requests at 100/s with a coin of 10 %.
func recorded(n int, change func(r *rand.Rand, e *Event)) []Event {
	r := rand.New(rand.NewPCG(6, 1))
	var all []Event
	t := 1e9
	for range n {
		t += r.ExpFloat64() / 100
		e := Event{T: t, Candidate: r.Float64() < 0.1, W: 0.1, MS: 50 * math.Exp(0.5*r.NormFloat64())}
		e.Instance = fmt.Sprint(r.IntN(4))
		change(r, &e)
		all = append(all, e)
	}
	return all
}

func replay(t *testing.T, all []Event) *Replay {
	t.Helper()
	r, err := NewReplay(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		line := e.Append(nil)
		back, err := ParseEvent(line)
		if err != nil || back != e {
			t.Fatalf("%s became %+v %v, want %+v", line, back, err, e)
		}
		if err := r.Add(back); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func TestReplayDecides(t *testing.T) {
	for _, x := range []struct {
		name   string
		n      int
		change func(r *rand.Rand, e *Event)
		want   gapless.VerdictKind
		test   gapless.VerdictTest
	}{
		{"broken", 3000, func(_ *rand.Rand, e *Event) { e.Bad = e.Candidate }, gapless.Worse, gapless.TestErrors},
		{"slow", 8000, func(_ *rand.Rand, e *Event) {
			if e.Candidate {
				e.MS *= 3
			}
		}, gapless.Worse, ""},
		{"good", 60000, func(*rand.Rand, *Event) {}, gapless.NotWorse, ""},
		{"little traffic", 60, func(*rand.Rand, *Event) {}, gapless.Undecided, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := replay(t, recorded(x.n, x.change)).Standing()
			if s.Verdict.Kind != x.want || x.test != "" && s.Verdict.Test != x.test {
				t.Fatalf("%s by %s after %v: %s", s.Verdict.Kind, s.Verdict.Test, s.T, s.Verdict.Reason)
			}
			if x.name == "broken" && (s.Candidate.Bad > 4 || s.Candidate.Bad < 3) {
				t.Errorf("%d bad answers decided, want 3 or 4", s.Candidate.Bad)
			}
		})
	}
}

// Latencies are no evidence while instances warm up, so a candidate that is
// slow at first is not taken back.
func TestReplayWaitsForWarmth(t *testing.T) {
	all := recorded(6000, func(_ *rand.Rand, e *Event) {
		if e.Candidate {
			e.MS *= 1 + 9*math.Exp(-(e.T-1e9)/3)
		}
	})
	if s := replay(t, all).Standing(); s.Verdict.Kind == gapless.Worse {
		t.Errorf("worse after %v: %s", s.T-1e9, s.Verdict.Reason)
	}
}

// What fails for a client fails again: only a session's first bad answer and
// its first request count.
func TestReplayCountsSessionsOnce(t *testing.T) {
	r, err := NewReplay(Config{})
	if err != nil {
		t.Fatal(err)
	}
	add := func(e Event) {
		t.Helper()
		e.W, e.MS = 0.1, 1
		if err := r.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 40 {
		add(Event{T: float64(i), Candidate: true, Session: "a", Bad: i > 0})
		add(Event{T: float64(i), Session: "b"})
	}
	s := r.Standing()
	if s.Candidate != (gapless.Arm{Requests: 1, Bad: 1}) || s.Stable != (gapless.Arm{Requests: 1}) || s.Verdict.Kind != gapless.Undecided {
		t.Errorf("%+v %+v %s", s.Candidate, s.Stable, s.Verdict.Kind)
	}
	if err := r.Add(Event{T: 50, W: 0.1, Session: "a"}); err == nil || !strings.Contains(err.Error(), "changes its release") {
		t.Errorf("another release for a session: %v", err)
	}
}

func TestReplayForgetsTheOldestSession(t *testing.T) {
	r, _ := NewReplay(Config{})
	for i := range mostSessions + 10 {
		if _, err := r.session(Event{Session: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.sessions) > mostSessions || len(r.order) > mostSessions {
		t.Errorf("%d sessions are kept", len(r.sessions))
	}
	if s, _ := r.session(Event{Session: "5"}); s != nil {
		t.Error("the oldest is known")
	}
	if s, _ := r.session(Event{Session: fmt.Sprint(mostSessions)}); s == nil {
		t.Error("a new one is not known")
	}
}

// Stable's own instances differ by hiccups before the rollout: then more bad
// answers of the candidate are needed.
func TestReplayLearnsWhatIsNormal(t *testing.T) {
	r, _ := NewReplay(Config{})
	for i := range 30000 {
		at := float64(i) / 100
		e := Event{T: at, Instance: fmt.Sprint(i % 4), MS: 10}
		e.Bad = int(at)%40 == 20 && i%4 == 1 // one instance fails for a second
		if err := r.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 4 {
		if err := r.Add(Event{T: 301, Candidate: true, W: 0.1, Bad: true, MS: float64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if phi := r.judge.Config.Phi; phi < 3 || r.Kind() != gapless.Undecided {
		t.Errorf("phi %v, %s after 4 bad answers", phi, r.Kind())
	}
	if err := r.Add(Event{T: 302, MS: 1}); err == nil {
		t.Error("a request without a coin was taken in after the rollout began")
	}
}

func TestReplayRefusesTimeThatRunsBackwards(t *testing.T) {
	for _, w := range []float64{0, 0.1} {
		r, _ := NewReplay(Config{})
		if err := r.Add(Event{T: -5, W: w}); err != nil {
			t.Fatal(err)
		}
		if err := r.Add(Event{T: -5, W: 0.1}); err != nil {
			t.Errorf("the same time again: %v", err)
		}
		if err := r.Add(Event{T: -5.001, W: 0.1}); err == nil || gapless.HintOf(err) == "" {
			t.Errorf("backwards: %v", err)
		}
	}
}

// A glance says what the verdict says.
func TestGlance(t *testing.T) {
	for _, bad := range []float64{0, 0.3} {
		r, _ := NewReplay(Config{})
		seen := map[gapless.VerdictKind]bool{}
		for i, e := range recorded(60000, func(rnd *rand.Rand, e *Event) { e.Bad = e.Candidate && rnd.Float64() < bad }) {
			if err := r.Add(e); err != nil {
				t.Fatal(err)
			}
			if i%997 != 0 && r.Kind() == gapless.Undecided {
				continue
			}
			lnE, kind := r.judge.Glance(0.1)
			if v := r.judge.Verdict(0.1); v.Kind != kind || v.Evidence.LnE != lnE {
				t.Fatalf("glance %v %s, verdict %v %s", lnE, kind, v.Evidence.LnE, v.Kind)
			}
			if seen[kind] = true; r.Kind() != gapless.Undecided {
				break
			}
		}
		if len(seen) != 2 {
			t.Errorf("only %v came about", seen)
		}
	}
}

func TestParseEvent(t *testing.T) {
	const good = `{"t":12.5,"arm":"candidate","w":0.25,"bad":true,"ms":12.3,"session":"s","instance":"v2/1"}`
	e, err := ParseEvent([]byte(good + "\r\n"))
	if want := (Event{12.5, true, 0.25, true, 12.3, "s", "v2/1"}); err != nil || e != want {
		t.Errorf("%+v %v", e, err)
	}
	for _, x := range []struct{ from, to, want string }{
		{`"t":12.5`, `"t":"12.5"`, "t is"},
		{`"t":12.5`, `"t":1e300`, "t is"},
		{`"t":12.5,`, ``, "t is missing"},
		{`"t"`, `"T"`, `"T" is not known`},
		{`"arm":"candidate"`, `"arm":"canary"`, "arm is"},
		{`"arm":"candidate"`, `"arm":1`, "arm is"},
		{`"arm":"candidate",`, ``, "arm is missing"},
		{`0.25`, `0`, "w is 0"},
		{`0.25`, `1.0001`, "w is"},
		{`0.25`, `-0.1`, "w is"},
		{`0.25`, `null`, "w is null"},
		{`0.25`, `[0.25]`, "w is a list"},
		{`true`, `1`, "bad is 1"},
		{`true`, `"true"`, "bad is"},
		{`12.3`, `-1`, "ms is"},
		{`"ms":12.3,`, ``, "ms is missing"},
		{`"s"`, `7`, "session is 7"},
		{`"s"`, `"` + strings.Repeat("x", 257) + `"`, "session is"},
		{`"s"`, `"s","more":1`, `"more" is not known`},
		{`"s"`, `"s","session":"s"`, "twice"},
		{good, good + good, "more follows"},
		{good, good + "}", "more follows"},
		{good, good[:40], "not JSON"},
		{good, "", "not a JSON object"},
		{good, "[]", "not a JSON object"},
		{good, "null", "not a JSON object"},
		{good, "t=12.5", "not a JSON object"},
	} {
		line := strings.Replace(good, x.from, x.to, 1)
		_, err := ParseEvent([]byte(line))
		if err == nil || !strings.Contains(err.Error(), x.want) || gapless.CodeOf(err) != gapless.Invalid || !strings.Contains(gapless.HintOf(err), "a line is") {
			t.Errorf("%s\n%v, want %q", line, err, x.want)
		}
	}
}

func FuzzParseEvent(f *testing.F) {
	f.Add([]byte(`{"t":12.5,"arm":"candidate","w":0.25,"bad":true,"ms":12.3,"session":"s","instance":"v2/1"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := ParseEvent(line)
		if err != nil {
			return
		}
		if again, err := ParseEvent(e.Append(nil)); err != nil || again != e {
			t.Errorf("%q: %+v, written and read again %+v %v", line, e, again, err)
		}
	})
}
