package cli

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"

	"gapless"
	"gapless/internal/api"
)

func TestVerdictIsExplained(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	bands := &gapless.Bands{Rate: gapless.Band{Low: 1.0986, High: 7807}, Latency: [gapless.Quantiles]gapless.Band{{Low: 0.97, High: 1.04}, {Low: 0.9, High: 0}}}
	r := gapless.Rollout{From: "v1", To: "v2", Started: began, Outcome: gapless.Running,
		Failing:    []gapless.Failing{{Method: "GET", Path: "/cart/:id", Kind: "500", Count: 2}},
		Complaints: []gapless.LogCount{{Text: "TypeError:\x1b[31m x is undefined", Count: 17}},
		Verdict: &gapless.Verdict{Kind: gapless.Undecided, Bound: 0.0032, Bands: bands,
			Evidence: gapless.Figures{Candidate: gapless.Arm{Requests: 912, Bad: 2}, LnE: math.Log(10), Threshold: 100},
			Terms:    []gapless.Term{{Test: gapless.TestErrors, LnE: 2.9}, {Test: gapless.TestP90, LnE: -1}},
			Proofs:   []gapless.Proof{{Test: gapless.TestErrors, Margin: 0.005, Proven: true}, {Test: gapless.TestP99, Needed: 812}, {Test: gapless.TestP50}}},
	}
	for i := range 20 {
		m := gapless.Moment{At: began.Add(time.Duration(i+1) * time.Second), Weight: 0.1, LnE: float64(i) / 10, Candidate: gapless.Arm{Requests: uint64(i)}}
		if i > 10 {
			m.Bands = bands
		}
		r.Course = append(r.Course, m)
	}
	got := ansi.Strip(strings.Join(append(explained(r), complaintLines(r, 5)...), "\n"))
	want := `  evidence █████░░░░░ 10 of 100 : 1, most of it errors
  errors   over 1.10 × of v1 · at most 0.32 points more (allowed 0.5)
  latency  p50 0.97–1.04 × · p90 over 0.90 × of v1
  proven   ✓ errors · p99 needs about 812 more · p50 open
  bad     2 × GET /cart/:id: 500
  log    17 × TypeError: x is undefined`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	table := courseLines(r, 4)
	if len(table) != 5 {
		t.Fatalf("%d lines:\n%s", len(table), strings.Join(table, "\n"))
	}
	text := ansi.Strip(strings.Join(table, "\n"))
	for _, part := range []string{"1s ", "20s ", "0 of 19 bad", "p90"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing in\n%s", part, text)
		}
	}
	if strings.Contains(text, "p99") {
		t.Errorf("a column of nothing is shown:\n%s", text)
	}

	r.Verdict.Warming = true
	if got := ansi.Strip(strings.Join(explained(r), "\n")); !strings.Contains(got, "instances warm up") {
		t.Errorf("warming up is not told:\n%s", got)
	}
	r.Verdict = &gapless.Verdict{NoData: true}
	if got := explained(r); got != nil {
		t.Errorf("no data is explained by %q", got)
	}
}

// TestWorseIsPastProof: where a candidate is worse, nobody asks what would have
// proven it good.
func TestWorseIsPastProof(t *testing.T) {
	v := gapless.Verdict{Kind: gapless.Worse, Evidence: gapless.Figures{LnE: math.Log(120), Threshold: 100}, Proofs: []gapless.Proof{{Test: gapless.TestP99, Needed: 812}}}
	r := gapless.Rollout{From: "v1", To: "v2", Outcome: gapless.TakenBack, Verdict: &v}
	if got := ansi.Strip(strings.Join(explained(r), "\n")); !strings.Contains(got, "120 of 100 : 1") || strings.Contains(got, "more") {
		t.Error(got)
	}
	v.Kind = gapless.Undecided
	if got := ansi.Strip(strings.Join(explained(r), "\n")); !strings.Contains(got, "p99 needs about 812 more") {
		t.Error(got)
	}
}

func TestWatchLine(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	w := api.Watch{Release: "v2", Before: "v1", Until: now.Add(150 * time.Second)}
	if got := watchLine(w, now); got != "v2 is watched for another 2m30s: if it breaks, v1, which stays warm, serves again" {
		t.Error(got)
	}
	if got := watchLine(w, now.Add(time.Hour)); !strings.Contains(got, "another 0s") {
		t.Error(got)
	}
}
