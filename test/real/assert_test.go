package real

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gapless/internal/load"
	"gapless/test/rig"
)

// every kind of traffic that a drain can hurt.
var every = []load.Kind{load.Slow, load.Upload, load.WebSocket}

// lossless checks a stopped run: nothing lost, nothing hidden, and not void:
// each drained instance had traffic of the needed kinds when it was drained.
func lossless(t testing.TB, r *rig.Rig, run *load.Run, drains []load.Drain, need ...load.Kind) {
	t.Helper()
	report := run.Stop()
	t.Logf("load:\n%s", report)
	if report.Dropped > 0 || report.Bad > 0 {
		t.Errorf("%d dropped, %d bad: %v", report.Dropped, report.Bad, report.Errors)
		tell(t, lost(run))
	}
	if report.Requests < 500 {
		t.Errorf("void: only %d requests were sent", report.Requests)
	}
	for code := range report.WSClosed {
		if code != 1001 && code != 1000 {
			t.Errorf("WebSockets were closed with %d: %v", code, report.WSClosed)
		}
	}
	// A client says something every 100 ms and hears it in a few: at a close
	// one message may be under way, on a busy machine two. A WebSocket that was
	// left unheard for longer before it was closed was lost, politely.
	if most := 2 * report.WSClosed[1001]; report.WSUnanswered > most {
		t.Errorf("%d messages were not answered in %d closes", report.WSUnanswered, report.WSClosed[1001])
	}
	for _, err := range load.Overlaps(run.Samples(), drains, need...) {
		t.Error(err)
	}
	r.Bounded(t, time.Second, stale+len(drains))
}

// stale is how many requests may be repeated in any run. A drain costs none:
// an instance is out of the pick and has nothing in flight before it is told
// to stop. What is left is a kept connection that the app closes just as it is
// used. Edges leave them a second before the app's own timeout, so this takes
// an app that is starved for a second, and happens once per connection.
const stale = 3

// lost lists what was lost, in the order in which it ended.
func lost(run *load.Run) []load.Sample {
	var out []load.Sample
	for _, s := range run.Samples() {
		if s.Err != "" {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b load.Sample) int { return a.End.Compare(b.End) })
	return out
}

func tell(t testing.TB, samples []load.Sample) {
	t.Helper()
	for _, s := range samples[:min(len(samples), 20)] {
		t.Logf("%s %s on %s from %s for %s: %s", s.Err, s.Kind, s.Instance, s.Start.Format("15:04:05.000"), s.End.Sub(s.Start), s.Detail)
	}
}

// crashed checks what was lost with instances of the candidate that died while
// they served. Only what was in flight in them at that moment can be lost, and
// of that only what cannot be repeated: uploads (not idempotent), WebSockets
// and event streams (a byte of the answer is out). A GET whose answer had not
// begun is repeated on another instance, however long it had been waiting.
// So no more moments are needed than there were deaths such that every loss
// was under way at one of them; at one moment a client has one stream at most,
// and of uploads there are as many as the load keeps open.
func crashed(t testing.TB, samples []load.Sample, deaths int, candidate string) {
	t.Helper()
	var moments []time.Time // the fewest that meet every loss
	for _, s := range samples {
		switch s.Kind {
		case load.Upload, load.WebSocket, load.SSE:
		default:
			t.Errorf("a request that could be repeated was lost: %s %s from %s for %s: %s",
				s.Kind, s.Err, s.Start.Format("15:04:05.000"), s.End.Sub(s.Start), s.Detail)
		}
		if s.Release != "" && s.Release != candidate {
			t.Errorf("lost on %s, which did not die: %s %s", s.Release, s.Kind, s.Detail)
		}
		// A client hears of it at once; an upload with its next piece.
		if n := len(moments); n == 0 || s.Start.After(moments[n-1]) {
			moments = append(moments, s.End)
		}
	}
	if len(moments) > deaths {
		t.Errorf("what was lost was not under way at the same moment: %d moments for %d deaths", len(moments), deaths)
		tell(t, samples)
	}
}

// only checks that no other release answered anything at all.
func only(t testing.TB, report load.Report, release string) {
	t.Helper()
	if len(report.Releases) != 1 || report.Releases[release] == 0 {
		t.Errorf("answers by release: %v, want %s alone", report.Releases, release)
	}
}

// witness hears what an assertion says instead of failing its test.
type witness struct {
	testing.TB
	said []string
}

func (w *witness) Error(args ...any) { w.said = append(w.said, fmt.Sprint(args...)) }
func (w *witness) Errorf(format string, args ...any) {
	w.said = append(w.said, fmt.Sprintf(format, args...))
}

// heard counts the complaints that contain a text.
func (w *witness) heard(text string) (n int) {
	for _, s := range w.said {
		if strings.Contains(s, text) {
			n++
		}
	}
	return n
}

func TestCrashedSeesWhatItMust(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(1e6 + ms)) }
	sample := func(kind load.Kind, release string, from, to int) load.Sample {
		return load.Sample{Kind: kind, Release: release, Err: load.Closed, Start: at(from), End: at(to)}
	}
	together := []load.Sample{sample(load.Upload, "", 900, 1000), sample(load.WebSocket, "v2", 0, 1001), sample(load.SSE, "v2", 500, 1002)}
	later := sample(load.Upload, "", 1500, 2000)
	for name, c := range map[string]struct {
		samples []load.Sample
		deaths  int
		want    int
	}{
		"nothing":                  {nil, 0, 0},
		"one death":                {together, 1, 0},
		"another moment":           {append(slices.Clone(together), later), 1, 1},
		"two deaths":               {append(slices.Clone(together), later), 2, 0},
		"no death":                 {together, 0, 1},
		"could be repeated":        {[]load.Sample{sample(load.Slow, "", 0, 1000)}, 1, 1},
		"the other release's loss": {[]load.Sample{sample(load.WebSocket, "v1", 0, 1000)}, 1, 1},
	} {
		w := &witness{TB: t}
		if crashed(w, c.samples, c.deaths, "v2"); len(w.said) != c.want {
			t.Errorf("%s: %q, want %d complaints", name, w.said, c.want)
		}
	}
}
