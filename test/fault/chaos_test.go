package fault

import (
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"gapless"
	"gapless/internal/load"
	"gapless/test/rig"
)

// victim is something that is killed, and what may be lost with it.
type victim struct {
	what []string
	at   []rig.Death
}

// chaos are the parts that are killed, alone and in pairs.
var chaos = [][]string{{"daemon"}, {"edge"}, {"instance"}, {"daemon", "edge"}, {"daemon", "instance"}, {"edge", "instance"},
	{"keeper"}, {"keeper", "daemon"}, {"keeper", "edge"}, {"keeper", "instance"}}

// TestRandomKills kills parts at random moments of deployments of all
// strategies, good and broken. Every rollout ends, stable is whole, and what
// was lost was under way in what was killed.
func TestRandomKills(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 1))
	r := rig.New(t, "")
	judged := "judge: { within: 2s, on_undecided: continue }\n"
	strategies := []string{"", "strategy: canary\n" + judged, "strategy: blue-green\nkeep: 2s\n" + judged, "strategy: blue-green\nflip: true\nkeep: 2s\n" + judged}
	serve(t, r, 2, probe)
	run := r.Load(mix, "v1")
	settle()
	var victims []victim
	stable := "v1"
	for i := range times(5, 50) {
		configure(r, 2, probe+strategies[i%len(strategies)])
		broken := i%5 == 4
		r.Write("VERSION", strconv.Itoa(i+2))
		r.Write("BREAK", map[bool]string{true: "500"}[broken])
		if broken {
			r.Write("BREAK_PATH", "/cart") // nobody asks for it: the release is only good by luck
		}
		r.Allow(upTo(stable, i+2)...)
		done := r.Go("deploy", "--json")
		var res rig.Result
		for ended, left := false, 4; !ended; {
			select {
			case res = <-done:
				ended = true
			case <-time.After(time.Duration(400+dice.IntN(1200)) * time.Millisecond):
				if left == 0 {
					continue
				}
				left--
				v := strike(r, dice)
				victims = append(victims, v)
				t.Logf("deploy %d: killed %v", i+1, v.what)
			}
		}
		var ro gapless.Rollout
		if err := json.Unmarshal([]byte(res.Stdout), &ro); err != nil {
			t.Fatalf("deploy %d: exit %d\n%s\n%s", i+1, res.Code, res.Stdout, res.Stderr)
		}
		t.Logf("deploy %d: exit %d, %s after %s: %s", i+1, res.Code, ro.Outcome, res.Took.Round(time.Millisecond), ro.Reason)
		if ro.Outcome == gapless.Running {
			t.Errorf("deploy %d did not end", i+1)
		}
		if ro.Outcome == gapless.Promoted {
			stable = ro.To
		}
		rig.Eventually(t, 30*time.Second, "the old set leaves", func() bool { return len(r.Look().Apps) == 1 && len(r.Look().Apps[0].Instances) == 2 })
		whole(t, r, stable, 2)
		r.Allow(stable)
	}
	for len(victims) < times(20, 200) { // a deploy may be too short for its share
		victims = append(victims, strike(r, dice))
		time.Sleep(time.Duration(300+dice.IntN(700)) * time.Millisecond)
	}
	whole(t, r, stable, 2)
	settle()
	rep := run.Stop()
	t.Logf("%d kills; load:\n%s", len(victims), rep)
	var stray []load.Sample
	for _, s := range lost(run) {
		if !blamed(s, victims) {
			stray = append(stray, s)
		}
	}
	if len(stray) > 0 {
		t.Errorf("%d lost that were not under way in what was killed", len(stray))
		tell(t, stray)
	}
}

// strike kills one part, or two at once.
func strike(r *rig.Rig, dice *rand.Rand) victim {
	v := victim{what: chaos[dice.IntN(len(chaos))]}
	var pids []int
	for _, what := range v.what {
		if pid := pick(r, what, dice); pid > 0 {
			pids = append(pids, pid)
		}
	}
	if len(pids) > 0 {
		v.at = append(v.at, rig.Kill(r.T, pids...))
	}
	return v
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

// blamed reports whether a loss belongs to a kill: whatever was open in an
// edge, and in an instance what cannot be repeated. What can is repeated once:
// a request that loses two instances may be what brings them down.
func blamed(s load.Sample, victims []victim) bool {
	instances := 0
victims:
	for _, v := range victims {
		what := strings.Join(v.what, " ")
		for _, d := range v.at {
			underWay := s.Start.Before(d.Gone.Add(50*time.Millisecond)) && s.End.After(d.Sent.Add(-50*time.Millisecond))
			repeatable := s.Kind == load.KeepAlive || s.Kind == load.Fresh || s.Kind == load.Slow
			switch {
			case !underWay:
			case strings.Contains(what, "edge"):
				return true
			case strings.Contains(what, "instance"):
				if instances++; !repeatable || instances > 1 {
					return true
				}
				continue victims // one instance for each of them
			}
		}
	}
	return false
}
