package rollout

import (
	"fmt"
	"testing"
	"time"

	"gapless"

	"github.com/google/go-cmp/cmp"
)

func TestWhatIsBesideTheCoin(t *testing.T) {
	match := []gapless.MatchRule{{Cookie: "tester", Content: "yes"}}
	spec := func(change func(*gapless.App)) gapless.App {
		a := gapless.App{Name: "a", Listen: []string{":80"}, Path: "/p", Processes: []gapless.Process{{Name: gapless.WebProcess, Run: "x", Instances: 1}}}
		change(&a)
		return a
	}
	plain := spec(func(*gapless.App) {})
	all := spec(func(a *gapless.App) {
		a.Strip, a.Sticky, a.Match, a.Skew = true, gapless.Duration(time.Hour), match, gapless.SkewPin
	})
	rules := []gapless.MatchRule{{Cookie: "tester", Content: "yes", Release: "v2"}}
	state := func(share float64, change func(*State)) State {
		s := State{App: "a", Stable: "v1", Rollout: &gapless.Rollout{ID: "r7", From: "v1", To: "v2", Outcome: gapless.Running},
			Members: []Member{{ID: "1", Release: "v1", Process: gapless.WebProcess, Role: Stable}, {ID: "2", Release: "v2", Process: gapless.WebProcess, Role: Candidate}}}
		change(&s)
		return s
	}
	same := func(*State) {}
	idle := func(s *State) { s.Rollout.Outcome, s.Members = gapless.Promoted, s.Members[:1] }
	promoted := func(s *State) {
		s.Stable, s.Rollout.Outcome = "v2", gapless.Promoted
		s.Members[0].Role, s.Members[1].Role = Kept, Stable
	}
	for _, c := range []struct {
		name     string
		v1, v2   gapless.App
		share    float64
		change   func(*State)
		strip    []string
		match    []gapless.MatchRule
		sessions *gapless.Sessions
	}{
		{name: "nothing", v1: plain, v2: plain, share: 0.1, change: same},
		{name: "the candidate's", v1: plain, v2: all, share: 0.1, change: same, strip: []string{"v2"}, match: rules,
			sessions: &gapless.Sessions{Sticky: true, TTL: gapless.Duration(time.Hour), Coin: "r7"}},
		{name: "both", v1: all, v2: all, share: 0.1, change: same, strip: []string{"v1", "v2"}, match: rules,
			sessions: &gapless.Sessions{Sticky: true, Skew: true, TTL: gapless.Duration(time.Hour), Coin: "r7"}},
		{name: "stable's", v1: all, v2: plain, share: 0.1, change: same, strip: []string{"v1"}, sessions: &gapless.Sessions{Skew: true, TTL: gapless.SessionTTL, Coin: "r7"}},
		{name: "no coin yet", v1: plain, v2: all, change: same},
		{name: "a preview", v1: plain, v2: all, change: func(s *State) { s.Preview = true }, strip: []string{"v2"}, match: rules},
		{name: "no coin any more", v1: plain, v2: all, share: 1, change: same, strip: []string{"v2"}, match: rules},
		{name: "on the way back", v1: plain, v2: all, change: func(s *State) { s.Back = true }},
		{name: "between rollouts", v1: all, v2: plain, change: idle, strip: []string{"v1"}, sessions: &gapless.Sessions{Skew: true, TTL: gapless.SessionTTL}},
		{name: "kept warm", v1: plain, v2: all, change: promoted, strip: []string{"v2"}, sessions: &gapless.Sessions{Skew: true, TTL: gapless.SessionTTL, Kept: "v1"}},
		{name: "kept warm, not pinned", v1: all, v2: plain, change: promoted, strip: []string{"v1"}},
	} {
		obs := Observed{Releases: map[string]*gapless.Release{"v1": {Name: "v1", Spec: c.v1}, "v2": {Name: "v2", Spec: c.v2}}, Instances: map[string]gapless.Instance{}}
		for _, id := range []string{"1", "2"} {
			obs.Instances[id] = gapless.Instance{ID: id, State: gapless.Ready, Address: "127.0.0.1:" + id}
		}
		r := route(state(c.share, c.change), obs, c.share, 0)
		if d := cmp.Diff([]any{c.strip, c.match, c.sessions}, []any{r.Strip, r.Match, r.Sessions}); d != "" {
			t.Errorf("%s (-want +have):\n%s", c.name, d)
		}
		if err := r.Validate(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, target := range r.Targets { // what pages may load from takes requests, and has no share
			if pinned := r.Sessions != nil && r.Sessions.Kept == target.Release; pinned && (target.Draining || r.Share(target.Release) != 0 || len(r.Weights) != 2) {
				t.Errorf("%s: %+v, weights %v", c.name, target, r.Weights)
			} else if kept := r.Stable == "v2" && target.Release == "v1"; kept && !pinned && !target.Draining {
				t.Errorf("%s: what is kept takes requests: %+v", c.name, target)
			}
		}
	}
}

// Of a session's bad answers the first one counts, and no request of those
// that follow: they say nothing new.
func TestFoldCountsASessionOnce(t *testing.T) {
	of := func(n uint64, session string, requests, bad, late uint64) gapless.Counter {
		return gapless.Counter{Number: n, App: "a", Release: "v2", Weight: 0.1, Session: session, Requests: requests, Bad: bad, Late: late}
	}
	report := gapless.EdgeReport{Start: "e", Seq: 2, Counters: []gapless.Counter{
		of(1, gapless.SessionGood, 100, 0, 0), of(2, gapless.SessionFirst, 3, 4, 1), of(3, gapless.SessionAgain, 50, 51, 1), of(4, "", 7, 2, 0),
	}}
	got, cursor := Fold("a", Cursor{}, []gapless.EdgeReport{report})
	want := []gapless.Tally{{Release: "v2", Weight: 0.1, Requests: 110, Bad: 6, Late: 1}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +have:\n%s", d)
	}
	if got[0].Validate() != nil || fmt.Sprint(cursor["e/3"]) != "[50 51]" {
		t.Errorf("%v, cursor %v", got[0].Validate(), cursor)
	}
	// Edges that tell first requests from later ones: sessions are counted, each
	// with its first request, also by a daemon that hears of both kinds of edges.
	newer := gapless.EdgeReport{Start: "f", Seq: 1, Counters: []gapless.Counter{
		of(1, gapless.SessionNew, 20, 0, 0), of(2, gapless.SessionNewBad, 3, 3, 0), of(3, gapless.SessionMore, 400, 0, 0),
		of(4, gapless.SessionLate, 2, 5, 3), of(5, gapless.SessionAgain, 60, 61, 1),
	}}
	got, _ = Fold("a", Cursor{}, []gapless.EdgeReport{newer})
	if d := cmp.Diff([]gapless.Tally{{Release: "v2", Weight: 0.1, Requests: 23, Bad: 8, Late: 5}}, got); d != "" {
		t.Errorf("-want +have:\n%s", d)
	}
	got, _ = Fold("a", Cursor{}, []gapless.EdgeReport{report, newer})
	if d := cmp.Diff([]gapless.Tally{{Release: "v2", Weight: 0.1, Requests: 133, Bad: 14, Late: 6}}, got); d != "" {
		t.Errorf("-want +have:\n%s", d)
	}
}
