package rollout

import (
	"strings"
	"testing"
	"time"

	"gapless"
)

// An instance that died before the verdict is what the bad answers came from,
// although its end is told after them; one that ended because it was told to is not.
func TestTheEndThatCameLateIsTold(t *testing.T) {
	turned := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		name string
		kind gapless.VerdictKind
		exit *gapless.Exit
		want string
	}{
		{"died before", gapless.Worse, &gapless.Exit{Code: 7, At: turned.Add(-time.Millisecond)}, "4 of 100 bad; v2/1 ended with exit code 7"},
		{"told to end", gapless.Worse, &gapless.Exit{Code: -1, Signal: "SIGTERM", At: turned.Add(time.Second)}, "4 of 100 bad"},
		{"lives", gapless.Worse, nil, "4 of 100 bad"},
		{"not the judge's reason", gapless.Undecided, &gapless.Exit{Code: 7, At: turned.Add(-time.Millisecond)}, "4 of 100 bad"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := State{App: "shop", Stable: "v1", Back: true, Since: turned, Counts: map[string]int{gapless.WebProcess: 1},
				Rollout: &gapless.Rollout{From: "v1", To: "v2", Outcome: gapless.Running, Reason: "4 of 100 bad", Verdict: &gapless.Verdict{Kind: c.kind}},
				Members: []Member{{ID: "b", Release: "v2", Process: gapless.WebProcess, Slot: 1, Role: Leaving, WasUp: true}}}
			in := gapless.Instance{ID: "b", App: "shop", Release: "v2", Process: gapless.WebProcess, Slot: 1, State: gapless.Stopped, Exit: c.exit}
			d := &decision{s: s, obs: Observed{Instances: map[string]gapless.Instance{"b": in}}, now: turned.Add(2 * time.Second)}
			d.explain()
			d.explain() // again and again, said once
			if got := d.s.Rollout.Reason; got != c.want {
				t.Errorf("reason %q, want %q", got, c.want)
			}
			if told := strings.Contains(c.want, "v2/1"); told != (d.s.Rollout.Instance == "v2/1") {
				t.Errorf("instance %q", d.s.Rollout.Instance)
			}
		})
	}
}
