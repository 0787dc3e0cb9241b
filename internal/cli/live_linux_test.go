package cli

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"gapless"
)

func TestLiveViewFitsEveryTerminal(t *testing.T) {
	for _, size := range [][2]int{{40, 24}, {80, 24}, {200, 50}, {20, 10}, {80, 5}} {
		t.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(t *testing.T) {
			t.Parallel()
			s := newFake()
			x := watchIn(t, s, size[0], size[1])
			s.say("instance.ready", "v42/1 is ready")
			if size[1] > 5 {
				x.shows("v41 █")
			} else {
				x.shows("shop")
			}
			for i := range 12 {
				s.say("note", fmt.Sprintf("event %d of a story", i))
				time.Sleep(20 * time.Millisecond)
			}
			s.say("note", "a very long event "+strings.Repeat("goes on and ", 40)+"ends")
			s.change(func(r *gapless.Rollout) { r.Cursor = 5 })
			s.finish(gapless.Promoted)
			if code := x.exit(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			screen := x.screen()
			t.Logf("\n%s", screen)
			for i := range 12 {
				if n := strings.Count(screen, fmt.Sprintf("event %d of", i)); n != 1 {
					t.Errorf("event %d is there %d times", i, n)
				}
			}
			if n := len(regexp.MustCompile(`(?m)^shop  \d\d:\d\d`).FindAllString(screen, -1)); n != 1 {
				t.Errorf("the head is there %d times, it should have been drawn in place", n)
			}
			if !strings.Contains(screen, "✓ shop v42 serves") {
				t.Error("the end does not say how it ended")
			}
		})
	}
}

func TestLiveViewShowsTheEvidence(t *testing.T) {
	t.Parallel()
	s := newFake()
	x := watchIn(t, s, 160, 40)
	for _, text := range []string{
		"v41 → v42  canary  ▸ step 4 of 6: judge for at most 1m, then pause if undecided",
		"v41 ███████████████████████░   95 %  12031 requests · 0 bad · p50 10.24 ms · p99 10.24 ms",
		"v42 █░░░░░░░░░░░░░░░░░░░░░░░    5 %  630 requests · 2 bad",
		"undecided  v42: 2 of 630 bad · v41: 3 of 12000 bad",
		"2 bad in a row needed to go back; good ones end this step no sooner",
		"new v42/1 ready · v42/2 crashed",
		"v42/2 │ TypeError: x is not a function zzz",
		"p pause · a abort · q leave, it goes on",
	} {
		x.shows(text)
	}
	s.finish(gapless.Promoted)
	x.exit()
	if screen := x.screen(); strings.Contains(screen, "p pause") || strings.Contains(screen, "TypeError") {
		t.Errorf("what is over stays on the screen:\n%s", screen)
	}
}

func TestLiveViewDrawsSeldom(t *testing.T) {
	t.Parallel()
	s := newFake()
	x := watchIn(t, s, 100, 30)
	x.shows("v41 █")
	before, began := strings.Count(x.output(), "\x1b[J"), time.Now()
	for time.Since(began) < 1500*time.Millisecond {
		s.say("note", "again")
		time.Sleep(5 * time.Millisecond)
	}
	frames := strings.Count(x.output(), "\x1b[J") - before
	if most := int(time.Since(began)/frameEvery) + 2; frames > most || frames < 3 {
		t.Errorf("%d frames in %s, at most %d are fine", frames, time.Since(began), most)
	}
	s.finish(gapless.Promoted)
	x.exit()
}

func TestKeysOfTheLiveView(t *testing.T) {
	t.Parallel()
	s := newFake()
	x := watchIn(t, s, 100, 30)
	x.shows("p pause")
	x.hit("p")
	s.called(t, "pause")
	x.shows("p go on") // it waits for the one who paused it, and does not leave
	x.hit("p")
	s.called(t, "resume")
	x.shows("p pause")
	x.hit("a")
	s.called(t, "abort")
	if code := x.exit(); code != gapless.RolledBack.Exit() {
		t.Errorf("exit code %d after an abort", code)
	}
}

func TestLeavingTheLiveView(t *testing.T) {
	for key, name := range map[string]string{"q": "q", "\x03": "Ctrl-C"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFake()
			x := watchIn(t, s, 60, 30)
			x.shows("q leave")
			x.hit(key)
			if code := x.exit(); code != gapless.Detached.Exit() {
				t.Errorf("exit code %d", code)
			}
			if screen := x.screen(); !strings.Contains(screen, "detached, the deploy goes on") || !strings.Contains(screen, "gapless abort shop") {
				t.Errorf("the way back is not shown:\n%s", screen)
			}
			if len(s.calls) > 0 {
				t.Errorf("leaving asked for %v", s.calls)
			}
		})
	}
}

func TestCtrlCMayAbort(t *testing.T) {
	t.Parallel()
	s := newFake()
	x := watchIn(t, s, 80, 30, "GAPLESS_TEST_INTERRUPT=abort")
	x.shows("p pause")
	x.hit("\x03")
	if code := x.exit(); code != gapless.RolledBack.Exit() {
		t.Errorf("exit code %d", code)
	}
	s.called(t, "abort")
}

func TestWaitingForAPersonEndsTheLiveView(t *testing.T) {
	t.Parallel()
	s := newFake()
	x := watchIn(t, s, 80, 30)
	x.shows("v41 █")
	s.change(func(r *gapless.Rollout) { r.Waiting = "v42 is undecided after 1m" })
	if code := x.exit(); code != gapless.Waiting.Exit() {
		t.Errorf("exit code %d", code)
	}
	if screen := x.screen(); !strings.Contains(screen, "gapless resume shop") {
		t.Errorf("what to type is not shown:\n%s", screen)
	}
}

func TestNoColor(t *testing.T) {
	t.Parallel()
	s := newFake()
	x := watchIn(t, s, 80, 30, "NO_COLOR=1")
	x.shows("crashed")
	s.finish(gapless.Promoted)
	x.exit()
	if colour := regexp.MustCompile(`\x1b\[[0-9;]*(3[0-7]|38|9[0-7])[;m]`).FindString(x.output()); colour != "" {
		t.Errorf("NO_COLOR is set, and there is %q", colour)
	}
}

// No view where nobody looks.
func TestPlainWhereNobodyLooks(t *testing.T) {
	for _, env := range []string{"CI=1", "TERM=dumb"} {
		t.Run(env, func(t *testing.T) {
			t.Parallel()
			s := newFake()
			x := watchIn(t, s, 80, 30, env)
			s.say("instance.ready", "v42/1 is ready")
			x.shows("shop instance.ready: v42/1 is ready")
			s.finish(gapless.Promoted)
			x.exit()
			if strings.Contains(x.output(), "\x1b[J") || strings.Contains(x.output(), "█") {
				t.Errorf("a view in %q", x.output())
			}
		})
	}
}

// TestNeeded: a judge that can prove a release good says how many requests
// that takes, one that cannot does not promise it.
func TestNeeded(t *testing.T) {
	for _, c := range []struct {
		verdict *gapless.Verdict
		want    string
	}{
		{nil, ""},
		{verdict(gapless.Arm{Requests: 30}, gapless.Arm{Requests: 600}), "2 bad in a row needed to go back; good ones end this step no sooner"},
		{&gapless.Verdict{Kind: gapless.Undecided, Needed: gapless.Needed{Bad: 2, Requests: 900}}, "900 good requests needed to go on, or 2 bad in a row to go back"},
		{&gapless.Verdict{Kind: gapless.Worse, Needed: gapless.Needed{Bad: 2}}, ""},
	} {
		if got := needed(c.verdict); got != c.want {
			t.Errorf("%+v: %q, want %q", c.verdict, got, c.want)
		}
	}
}
