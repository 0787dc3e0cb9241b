package fault

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"gapless"
	"gapless/internal/load"
	"gapless/test/rig"
)

// victim is what was killed at one moment, and what may be lost with it.
type victim struct {
	what  []string
	death rig.Death
	open  int // connections of the edge that died
}

func (v victim) of(what string) bool { return slices.Contains(v.what, what) }

// chaos are the parts that are killed, alone and in pairs.
var chaos = [][]string{{"daemon"}, {"edge"}, {"instance"}, {"daemon", "edge"}, {"daemon", "instance"}, {"edge", "instance"},
	{"keeper"}, {"keeper", "daemon"}, {"keeper", "edge"}, {"keeper", "instance"}}

// strikesPerDeploy is how often something is killed in one deployment.
const strikesPerDeploy = 4

// TestRandomKills kills parts at random moments of deployments of all
// strategies, good and broken. Every rollout ends as it should, stable is
// whole, and what was lost was under way in what was killed.
// GAPLESS_CHAOS_SEED repeats the dice of a run that failed.
func TestRandomKills(t *testing.T) {
	dice := rand.New(rand.NewPCG(seed(t), 1))
	r := rig.New(t, "")
	judged := "judge: { within: 3s, on_undecided: continue }\n"
	strategies := []string{"", "strategy: canary\njudge: { within: 3s, on_undecided: continue, bake: off }\n", "strategy: blue-green\nkeep: 2s\n" + judged, "strategy: blue-green\nflip: true\nkeep: 2s\n" + judged}
	serve(t, r, 2, probe)
	m := mix
	m.H2C, m.Path, m.PathName = 10, 20, "/cart"
	run := r.Load(m, "v1")
	settle()
	var victims []victim
	var faulty []span // when a release that breaks /cart may have served
	stable, deploys := "v1", 0
	for ; deploys < times(5, 50) || len(victims) < times(20, 200) && deploys < times(10, 100); deploys++ {
		strategy := strategies[deploys%len(strategies)]
		configure(r, 2, probe+strategy)
		broken := deploys%5 == 4
		r.Write("VERSION", strconv.Itoa(deploys+2))
		r.Write("BREAK", map[bool]string{true: "500"}[broken])
		r.Write("BREAK_PATH", "/cart")
		began := time.Now()
		r.Allow(upTo(stable, deploys+2)...)
		ro, killed := strikeDuring(t, r, dice)
		victims = append(victims, killed...)
		for _, v := range killed {
			t.Logf("deploy %d: killed %v", deploys+1, v.what)
		}
		t.Logf("deploy %d: broken %t, %s: %s", deploys+1, broken, ro.Outcome, ro.Reason)
		may := outcomes(broken, killed)
		if !slices.Contains(may, ro.Outcome) {
			t.Errorf("deploy %d (%q): %s, want one of %v", deploys+1, strategy, ro.Outcome, may)
		}
		if ro.Outcome == gapless.Promoted {
			stable = ro.To
		}
		rig.Eventually(t, 30*time.Second, "the old set leaves", func() bool {
			apps := r.Look().Apps
			return len(apps) == 1 && len(apps[0].Instances) == 2
		})
		whole(t, r, stable, 2)
		r.Allow(stable)
		if broken {
			faulty = append(faulty, span{began, time.Now()})
		}
	}
	settle()
	rep := run.Stop()
	t.Logf("%d kills in %d deployments; load:\n%s", len(victims), deploys, rep)
	if len(victims) < times(20, 200) {
		t.Errorf("void: only %d kills during deployments", len(victims))
	}
	blame(t, run, victims, faulty)
}

// seed is what GAPLESS_CHAOS_SEED says, else a new one; it is logged.
func seed(t *testing.T) uint64 {
	t.Helper()
	n := uint64(time.Now().UnixNano())
	if text := os.Getenv("GAPLESS_CHAOS_SEED"); text != "" {
		var err error
		if n, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("GAPLESS_CHAOS_SEED: %v", err)
		}
	}
	t.Logf("seed %d", n)
	return n
}

// outcomes are the ends that a deployment may have. A candidate that loses an
// instance to us is rightly taken back; a release is not made to its end when
// the daemon dies over it.
func outcomes(broken bool, killed []victim) []gapless.Outcome {
	may := []gapless.Outcome{gapless.Promoted}
	if broken {
		may[0] = gapless.TakenBack
	}
	for _, v := range killed {
		if v.of("instance") {
			may = append(may, gapless.TakenBack)
		}
		if v.of("daemon") {
			may = append(may, gapless.NothingStarted)
		}
	}
	return may
}

// strikeDuring deploys and kills something at random moments until it ended.
func strikeDuring(t *testing.T, r *rig.Rig, dice *rand.Rand) (gapless.Rollout, []victim) {
	t.Helper()
	done := r.Go("deploy", "--json")
	var killed []victim
	for {
		select {
		case res := <-done:
			var ro gapless.Rollout
			if err := json.Unmarshal([]byte(res.Stdout), &ro); err != nil {
				t.Fatalf("deploy: exit %d\n%s\n%s", res.Code, res.Stdout, res.Stderr)
			}
			if ro.Outcome == gapless.Running {
				t.Fatalf("deploy: exit %d, and the rollout goes on", res.Code)
			}
			return ro, killed
		case <-time.After(time.Duration(300+dice.IntN(700)) * time.Millisecond):
			if len(killed) == strikesPerDeploy {
				continue
			}
			if v, ok := strike(t, r, dice); ok {
				killed = append(killed, v)
			}
		}
	}
}

// strike kills one part, or two at once; false if there is nothing to kill now.
func strike(t *testing.T, r *rig.Rig, dice *rand.Rand) (victim, bool) {
	t.Helper()
	v := victim{what: chaos[dice.IntN(len(chaos))]}
	var pids []int
	for _, what := range v.what {
		pid := pick(r, what, dice)
		if pid == 0 {
			return v, false
		}
		pids = append(pids, pid)
	}
	if v.of("edge") {
		v.open = report(t, r, r.Proc("edge").Generation).Connections
	}
	v.death = rig.Kill(t, pids...)
	return v, true
}

// pick finds the process to kill; 0 if there is none now.
func pick(r *rig.Rig, what string, dice *rand.Rand) int {
	if what != "instance" {
		return r.Proc(what).PID
	}
	var pids []int
	for _, a := range r.Look().Apps {
		for _, in := range a.Instances {
			if in.State == gapless.Ready && in.PID > 0 {
				pids = append(pids, in.PID)
			}
		}
	}
	if len(pids) < 2 { // never the last one
		return 0
	}
	return pids[dice.IntN(len(pids))]
}

// span is a time from … to.
type span struct{ from, to time.Time }

// blame finds for every loss what it was lost with, and fails the test where
// there is nothing, or more than there may be:
//   - bad answers on the path that a broken release breaks, while it served;
//   - what was open in an edge when that died: one request for each
//     connection, and every stream of HTTP/2;
//   - in an instance that was killed, what cannot be repeated. What can is
//     repeated once: a request that loses two instances may be what brings
//     them down.
func blame(t *testing.T, run *load.Run, victims []victim, faulty []span) {
	t.Helper()
	ofEdge := make([]int, len(victims))
	var stray []load.Sample
	bad := 0
	for _, s := range lost(run) {
		if s.Kind == load.Path && s.Status == 500 && during(s, faulty) {
			bad++
			continue
		}
		if i := edgeOf(s, victims); i >= 0 {
			if s.Kind != load.H2C {
				ofEdge[i]++
			}
			continue
		}
		if !ofInstance(s, victims) {
			stray = append(stray, s)
		}
	}
	t.Logf("%d bad answers of broken releases", bad)
	for i, n := range ofEdge {
		if victims[i].of("edge") && n > victims[i].open+slack {
			t.Errorf("%d were lost with an edge that had %d connections open", n, victims[i].open)
		}
	}
	if len(stray) > 0 {
		t.Errorf("%d lost that were not under way in what was killed", len(stray))
		tell(t, stray)
	}
}

func during(s load.Sample, spans []span) bool {
	return slices.ContainsFunc(spans, func(x span) bool { return s.End.After(x.from) && s.Start.Before(x.to) })
}

// edgeOf is the victim with whose edge a request was lost, -1 if there is
// none. A connection that was kept was open when the edge died, also if its
// reset reaches the client only with its next request.
func edgeOf(s load.Sample, victims []victim) int {
	if s.Err == load.Refused { // the socket is never closed, whoever dies
		return -1
	}
	return slices.IndexFunc(victims, func(v victim) bool {
		until := v.death.Gone
		if s.Kind != load.Fresh {
			until = until.Add(50 * time.Millisecond)
		}
		return v.of("edge") && s.Start.Before(until) && s.End.After(v.death.Sent)
	})
}

// ofInstance reports whether a loss belongs to instances that were killed.
func ofInstance(s load.Sample, victims []victim) bool {
	n := 0
	for _, v := range victims {
		if v.of("instance") && s.Start.Before(v.death.Gone) && s.End.After(v.death.Sent) {
			n++
		}
	}
	return n > 1 || n == 1 && !repeatable(s.Kind)
}

// repeatable kinds are answered in one piece at their end, and may be asked twice.
func repeatable(k load.Kind) bool {
	switch k {
	case load.KeepAlive, load.Fresh, load.Slow, load.H2C, load.Path:
		return true
	}
	return false
}
