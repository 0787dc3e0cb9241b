package rollout

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"gapless"
	"gapless/internal/judge"
)

// judgeOf is the judge of a rollout from one release to another, as the daemon
// makes it; nil where there is nothing to compare.
func judgeOf(from string, to *gapless.Release, record gapless.Arm) Judge {
	j, err := judge.New(judge.Config{Candidate: to.Name, Stable: from, PMax: to.Spec.Judge.MaxErrors, Record: record})
	if err != nil {
		return nil
	}
	return JudgeBy(j)
}

// seenBy is what the production judge of a state saw.
func seenBy(s State) judge.Judge {
	if b, ok := s.Judge.(bench[eager]); ok {
		return b.j.J
	}
	return s.Judge.(bench[judge.Judge]).j
}

// strict is another judge, as simple as can be: it knows one number, two bad
// answers of the candidate are too many, and a hundred good ones are enough.
type strict struct {
	Of        string `json:"of"`
	Bad, Good uint64
}

func (s strict) Observe(batch []gapless.Tally) strict {
	for _, t := range batch {
		if t.Release == s.Of {
			s.Bad, s.Good = s.Bad+t.Bad, s.Good+t.Requests-t.Bad
		}
	}
	return s
}

func (s strict) Equal(o strict) bool { return s == o }

func (s strict) Verdict(float64) gapless.Verdict {
	v := gapless.Verdict{Kind: gapless.Undecided, Reason: "not enough"}
	switch {
	case s.Bad > 1:
		v.Kind, v.Reason = gapless.Worse, "strict: two bad answers"
	case s.Good >= 100:
		v.Kind, v.Reason = gapless.NotWorse, "strict: a hundred good answers"
	}
	return v
}

// TestAnotherJudge: the engine runs with a judge that it knows nothing of,
// over deaths of the daemon, and does what that one says.
func TestAnotherJudge(t *testing.T) {
	for name, c := range map[string]struct {
		temper  temper
		stable  string
		outcome gapless.Outcome
		reason  string
	}{
		"not worse": {good, "v2", gapless.Promoted, ""},
		"worse":     {sloppy, "v1", gapless.TakenBack, "strict: two bad answers"},
	} {
		t.Run(name, func(t *testing.T) {
			s := onStage(t)
			s.readJudge = ReadJudge[strict]
			s.boot()
			s.deploy(s.made(good))
			s.rest("v1", gapless.Promoted, "")
			rel := s.made(c.temper)
			rel.Spec.Soak = gapless.Duration(time.Hour) // only a verdict ends it
			s.must("deploy", func(st State) (State, error) {
				return Begin(st, "r2", "deploy", rel, counts(rel), JudgeBy(strict{Of: rel.Name}), s.now)
			})
			deaths := 0
			s.until("its verdict", func(st State) bool {
				if st.Busy() && st.Judge != nil && st.Judge.(bench[strict]).j.Good > 20 && deaths == 0 {
					deaths++
					s.boot()
				}
				return !st.Busy()
			})
			s.rest(c.stable, c.outcome, c.reason)
			if c.temper == good && deaths == 0 {
				t.Error("the daemon never died: this proves little")
			}
			if c.temper == good && !s.told("verdict") {
				t.Error("nobody was told of the verdict")
			}
		})
	}
}

// TestJudgeOfEarlierVersions: a state of before the engine stopped to look into
// its judge is read, and what it saw is still known.
func TestJudgeOfEarlierVersions(t *testing.T) {
	const saved = `{"app":"shop","seq":4,"stable":"v1","counts":{"web":2},"members":[],"cursor":{"1/v2/0.25":[40,3]},
"rollout":{"id":"r2","app":"shop","kind":"deploy","from":"v1","to":"v2","plan":[{"kind":"judge","for":"10s"}],"cursor":0,"outcome":"running","started":"2026-01-02T03:04:05Z","launched":true,"weight":0.25},
"judge":{"config":{"candidate":"v2","stable":"v1","alpha":0.01,"ratio":1,"p_max":0.01,"phi":1},"rows":[{"weight":0.25,"candidate":{"requests":40,"bad":3},"stable":{"requests":120,"bad":0}}]}}`
	var s State
	if err := json.Unmarshal([]byte(saved), &s); err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(s); err != nil || !strings.Contains(string(again), `"bad":3`) {
		t.Fatalf("unread it is not kept: %v\n%s", err, again)
	}
	if err := s.unseal(ReadJudge[judge.Judge]); err != nil {
		t.Fatal(err)
	}
	v := s.Judge.Observe([]gapless.Tally{{Release: "v2", Weight: 0.25, Requests: 1, Bad: 1}}).Verdict(0.25)
	if v.Kind != gapless.Worse || v.Evidence.Candidate.Bad != 4 {
		t.Errorf("%+v", v)
	}
	data, err := json.Marshal(s)
	if err != nil || !strings.Contains(string(data), `"judge":{"config":{"candidate":"v2"`) {
		t.Errorf("the version before could not read it: %v\n%s", err, data)
	}
}

// TestUnreadableJudge: what a judge saw that nobody can read is kept as it is,
// and is no pass.
func TestUnreadableJudge(t *testing.T) {
	var s State
	if err := json.Unmarshal([]byte(`{"app":"shop","judge":{"config":7}}`), &s); err != nil {
		t.Fatal(err)
	}
	if err := s.unseal(ReadJudge[judge.Judge]); err == nil {
		t.Error("read without a word")
	}
	v := s.Judge.Observe([]gapless.Tally{{Release: "v2", Weight: 0.25, Requests: 9, Bad: 9}}).Verdict(0.25)
	if v.Kind != gapless.Undecided || !v.NoData {
		t.Errorf("%+v", v)
	}
	if data, err := json.Marshal(s); err != nil || !strings.Contains(string(data), `"judge":{"config":7}`) {
		t.Errorf("%v\n%s", err, data)
	}
	other := s.Clone()
	if other.Judge = sealed("{}"); s.same(&other) {
		t.Error("two of them are taken for the same")
	}
}
