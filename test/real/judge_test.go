package real

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"gapless"
	"gapless/test/rig"
)

// answer is one answer that a visitor of a judged app got.
type answer struct {
	began, ended time.Time
	release      string
	status       int
}

// crowd asks an app at a fixed rate, whatever it answers, until stop is called.
func crowd(t *testing.T, address string, perSecond int) (stop func() []answer) {
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 256}}
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	var all []answer
	var asking, clock sync.WaitGroup
	ask := func() {
		path := "/"
		if rand.IntN(3) == 0 {
			path = "/cart"
		}
		a := answer{began: time.Now()}
		res, err := client.Get("http://" + address + path)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			a.release, a.status = res.Header.Get("x-release"), res.StatusCode
		}
		if err != nil {
			t.Errorf("lost: %v", err)
		}
		a.ended = time.Now()
		mu.Lock()
		all = append(all, a)
		mu.Unlock()
	}
	clock.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				asking.Go(ask)
			}
		}
	})
	return func() []answer {
		cancel()
		clock.Wait()
		asking.Wait()
		client.CloseIdleConnections()
		return all
	}
}

// given picks the answers of a release, in the order in which they ended.
func given(all []answer, release string, bad bool) (out []answer) {
	for _, a := range all {
		if a.release == release && (!bad || a.status >= 500) {
			out = append(out, a)
		}
	}
	return out
}

// margins are wide, so that a good release is proven within seconds. The tail
// of one process on a busy machine is not: where a good release must ship, the
// p99 is not asked for.
const margins = "judge: { within: 90s, errors: +4%, p50: +60%, p90: +80%, p99: +200%, budget: 4%, bake: 1s }\n"

// judgedDeploy ships an app whose first version is set up by before and whose
// second one by after, as a canary under load, and tells what its visitors got.
func judgedDeploy(t *testing.T, code int, yaml string, before, after map[string]string) (gapless.Rollout, []answer) {
	r := rig.New(t, "")
	r.App("http")
	configure(r, "http", 2, "strategy: canary\n"+yaml)
	write := func(files map[string]string) {
		for name, text := range files {
			r.Write(name, text)
		}
	}
	write(before)
	r.Rollout(0, "up")
	stop := crowd(t, r.Address, 150)
	time.Sleep(4 * time.Second) // stable's own latencies become known
	r.Write("VERSION", "2")
	write(after)
	ro := r.Rollout(code, "deploy")
	time.Sleep(time.Second)
	all := stop()
	if ro.Verdict != nil {
		t.Logf("%s after %s: %s", ro.Outcome, ro.Finished.Sub(ro.Started).Round(time.Millisecond), ro.Verdict.Reason)
	}
	for _, e := range events(t, r, ro.ID) {
		if e.Kind == "weight" || e.Kind == gapless.EventComplaint {
			t.Logf("%s %s", e.Time.Sub(ro.Started).Round(time.Millisecond), e.Message)
		}
	}
	if len(ro.Course) == 0 && ro.Verdict != nil {
		t.Error("nothing is kept of how the verdict came about")
	}
	return ro, all
}

// reaction is how long requests were still given to a release after the n-th
// bad answer of it had reached its client.
func reaction(all []answer, release string, n int) time.Duration {
	bad := given(all, release, true)
	if n < 1 || len(bad) < n {
		return 0
	}
	decided, last := bad[n-1].ended, time.Time{}
	for _, a := range given(all, release, false) {
		if a.began.After(last) {
			last = a.began
		}
	}
	return max(0, last.Sub(decided))
}

// mostReaction is how long a proven release may be given requests: 250 ms on a
// quiet machine, where GAPLESS_TIMES asks for it; a busy one is given more.
func mostReaction() time.Duration {
	if os.Getenv("GAPLESS_TIMES") != "" {
		return 250 * time.Millisecond
	}
	return 3 * time.Second
}

// TestJudgeTakesBackBroken: every answer of the new version is bad. A few of
// them decide, and no request goes to it a moment later.
func TestJudgeTakesBackBroken(t *testing.T) {
	t.Parallel()
	base := map[string]string{"BASE_MS": "10"}
	ro, all := judgedDeploy(t, 3, margins, base, map[string]string{"BREAK": "500"})
	if ro.Outcome != gapless.TakenBack || ro.Verdict == nil || ro.Verdict.Kind != gapless.Worse || ro.Verdict.Test != gapless.TestErrors {
		t.Fatalf("%+v", ro)
	}
	seen := int(ro.Verdict.Evidence.Candidate.Bad)
	took := reaction(all, "v2", min(4, seen))
	bad := len(given(all, "v2", true))
	t.Logf("%d bad answers decided, %d were given, the last request %s after the deciding answer", seen, bad, took)
	if seen > 8 || bad == 0 || bad > 20 {
		t.Errorf("%d bad answers decided, %d were given", seen, bad)
	}
	if took > mostReaction() {
		t.Errorf("v2 was given requests for %s after it was proven bad", took)
	}
	if n := len(given(all, "v1", true)); n > 0 {
		t.Errorf("v1 gave %d bad answers", n)
	}
	if len(ro.Failing) == 0 || ro.Failing[0].Path != "/" && ro.Failing[0].Path != "/cart" {
		t.Errorf("the failing paths are not told: %+v", ro.Failing)
	}
}

// TestJudgeTakesBackSlow: the new version answers well, and takes four times
// as long. Its errors cannot tell, its latencies do.
func TestJudgeTakesBackSlow(t *testing.T) {
	t.Parallel()
	ro, all := judgedDeploy(t, 3, margins, map[string]string{"BASE_MS": "20"}, map[string]string{"BREAK": "slow", "SLOW_MS": "60"})
	if ro.Outcome != gapless.TakenBack || ro.Verdict == nil || ro.Verdict.Kind != gapless.Worse {
		t.Fatalf("%+v", ro)
	}
	switch ro.Verdict.Test {
	case gapless.TestP50, gapless.TestP90, gapless.TestP99:
	default:
		t.Errorf("it was taken back for its %s", ro.Verdict.Test)
	}
	t.Logf("%d slow answers were given", len(given(all, "v2", false)))
}

// TestJudgeTakesBackHanging: the new version never answers anything but its
// health path. Requests count as slow as soon as they are old.
func TestJudgeTakesBackHanging(t *testing.T) {
	t.Parallel()
	ro, _ := judgedDeploy(t, 3, "timeouts: { answer: 10s }\n"+margins, map[string]string{"BASE_MS": "10"}, map[string]string{"BREAK": "hang", "BREAK_PATH": "/cart"})
	if ro.Outcome != gapless.TakenBack {
		t.Fatalf("%+v", ro)
	}
	if took := ro.Finished.Sub(ro.Started); ro.Verdict != nil && strings.HasPrefix(string(ro.Verdict.Test), "p") && ro.Verdict.Kind == gapless.Worse {
		t.Logf("taken back for its %s after %s", ro.Verdict.Test, took)
	} else {
		t.Logf("taken back after %s: %s", took, ro.Reason)
	}
}

// TestJudgeTakesBackLeaky: the new version serves well until it has eaten its
// memory. That needs no statistics.
func TestJudgeTakesBackLeaky(t *testing.T) {
	t.Parallel()
	ro, all := judgedDeploy(t, 3, "memory: 200M\n"+margins, map[string]string{"BASE_MS": "10"}, map[string]string{"BREAK": "leak"})
	if ro.Outcome != gapless.TakenBack || !strings.Contains(ro.Reason, "memory") {
		t.Fatalf("%s: %s", ro.Outcome, ro.Reason)
	}
	if n := len(given(all, "v2", true)) + len(given(all, "v1", true)); n > 0 {
		t.Errorf("%d bad answers", n)
	}
}

// TestJudgeWaitsForWarmth: the new version is slow for its first seconds, as
// one that compiles and fills its caches is, and then as good as the old one.
func TestJudgeWaitsForWarmth(t *testing.T) {
	t.Parallel()
	ro, all := judgedDeploy(t, 0, strings.Replace(margins, "p99: +200%", "p99: off", 1), map[string]string{"BASE_MS": "20"}, map[string]string{"BREAK": "cold"})
	if ro.Outcome != gapless.Promoted {
		t.Fatalf("%s: %s", ro.Outcome, ro.Reason)
	}
	slow := 0
	for _, a := range given(all, "v2", false) {
		if a.ended.Sub(a.began) > 60*time.Millisecond {
			slow++
		}
	}
	t.Logf("%d answers of v2 were slow", slow)
	if slow < 5 {
		t.Error("it was never cold: nothing is proven")
	}
}

// TestJudgeBearsEqualFlaws: both versions give bad answers to 3 % of all
// requests. The new one is no worse, and ships.
func TestJudgeBearsEqualFlaws(t *testing.T) {
	t.Parallel()
	flaky := map[string]string{"BASE_MS": "20", "BREAK": "500", "BREAK_SHARE": "0.03"}
	ro, all := judgedDeploy(t, 0, strings.NewReplacer("errors: +4%", "errors: +6%, max_errors: 10%", "p99: +200%", "p99: off").Replace(margins), flaky, nil)
	if ro.Outcome != gapless.Promoted {
		t.Fatalf("%s: %s", ro.Outcome, ro.Reason)
	}
	one, two := len(given(all, "v1", true)), len(given(all, "v2", true))
	t.Logf("%d bad answers of v1, %d of v2", one, two)
	if one == 0 || two == 0 {
		t.Error("nothing was bad: nothing is proven")
	}
	if fmt.Sprint(ro.Verdict.Kind) != string(gapless.NotWorse) {
		t.Errorf("the last verdict is %s", ro.Verdict.Kind)
	}
}
