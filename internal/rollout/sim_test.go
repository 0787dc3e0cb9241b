package rollout

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gapless"
)

// story is one random schedule: faults and commands for a while, then calm.
func (w *world) story() {
	w.faults = w.randomFaults()
	if w.rng.IntN(2) == 0 {
		w.hasty()
		w.big = w.rng.IntN(8) == 0
	}
	w.noise = []float64{0, 0, 0.02, 0.3}[w.rng.IntN(4)]
	for range 30 + w.rng.IntN(40) {
		w.tick()
		if w.rng.IntN(12) == 0 {
			w.command()
		}
		if s := w.runner.state; s.Bake != nil && w.temper[s.Stable] == good && w.rng.IntN(3) == 0 {
			w.sour(s.Stable)
		}
		if s := w.runner.state; len(s.of(Kept, "")) > 0 && !s.Busy() && w.rng.IntN(8) == 0 {
			w.rollback(fmt.Sprintf("r%d", w.rounds))
		}
		if w.broken != nil {
			return
		}
	}
	w.calm()
}

func (w *world) tick() {
	w.pass([]time.Duration{10 * time.Millisecond, 100 * time.Millisecond, 400 * time.Millisecond, time.Second}[w.rng.IntN(4)])
	if w.chance(w.faults.away) {
		w.away()
	}
	was := w.runner.state
	w.lost, w.unsaved = false, false
	if w.round(); w.broken == nil {
		w.walked(was, w.runner.state)
		w.ended(was, w.runner.state)
	}
}

// calm ends all faults and waits until nothing changes any more.
func (w *world) calm() {
	w.log("calm")
	w.faults = w.faults.quiet()
	heals := w.now
	if w.rotten != "" {
		heals = w.now.Add(2 * StuckLimit)
	}
	clear(w.sick)
	clear(w.cut)
	deadline := w.now.Add(10 * time.Minute)
	for still := 0; still < 3 && w.now.Before(deadline) && w.broken == nil; {
		if w.tick(); w.rotten != "" && w.now.After(heals) {
			w.temper[w.rotten], w.rotten = good, ""
		}
		if s := w.runner.state; s.Busy() && s.Rollout.Waiting != "" && w.rng.IntN(5) == 0 {
			if w.rng.IntN(4) == 0 {
				w.abort()
			} else {
				w.steer(1 + w.rng.IntN(3))
			}
		}
		if w.settled() {
			still++
		} else {
			still = 0
			w.pass(time.Duration(w.rng.Int64N(int64(500 * time.Millisecond))))
		}
	}
	if w.broken == nil {
		w.atRest()
	}
}

func (w *world) randomFaults() faults {
	some := func(p float64) float64 {
		if w.rng.IntN(2) == 0 {
			return 0
		}
		return p * w.rng.Float64()
	}
	return faults{
		crash: some(0.03), loseSave: some(0.5), save: some(0.2), lost: some(0.3), refuse: some(0.1),
		stale: some(0.4), apply: some(0.3), delay: some(0.4), dark: some(0.05), edges: some(0.02),
		sick: some(0.01), die: some(0.02), hang: some(0.1), vanish: some(0.02), reboot: some(0.01), slowStop: w.rng.IntN(2) == 0,
		away: some(0.03), blind: some(0.3), late: some(0.3), double: some(0.3), backward: some(0.3), absurd: some(0.2), clock: some(0.5),
		cut: some(0.01),
	}
}

// tell runs the story of a seed, with a bug planted where plant is not nil.
func tell(seed uint64, verbose bool, plant func(*world)) *world {
	w := newWorld(seed)
	w.verbose = verbose
	if plant != nil {
		plant(w)
	}
	w.story()
	return w
}

func envInt(t *testing.T, name string, or uint64) uint64 {
	v := os.Getenv(name)
	if v == "" {
		return or
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestSimulation runs many random schedules. GAPLESS_SIM_SEED=n runs and tells
// the one story n; GAPLESS_SIM_N sets how many stories are run, GAPLESS_SIM_FROM
// the seed of the first one.
func TestSimulation(t *testing.T) {
	if os.Getenv("GAPLESS_SIM_SEED") != "" {
		w := tell(envInt(t, "GAPLESS_SIM_SEED", 0), true, nil)
		t.Log("\n" + strings.Join(w.trace, "\n"))
		if w.broken != nil {
			t.Fatal(w.broken)
		}
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(1000))
	n := envInt(t, "GAPLESS_SIM_N", simStories)
	began := time.Now()
	from := envInt(t, "GAPLESS_SIM_FROM", 1)
	var next, failures atomic.Uint64
	next.Store(from - 1)
	var mu sync.Mutex
	tally := map[string]int{}
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed := next.Add(1); seed < from+n && failures.Load() < 20; seed = next.Add(1) {
				w := tell(seed, false, nil)
				if w.broken != nil {
					failures.Add(1)
					t.Errorf("GAPLESS_SIM_SEED=%d: %v", seed, w.broken)
				}
				mu.Lock()
				for o, k := range w.tally {
					tally[o] += k
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d stories in %s: %v", n, time.Since(began).Round(time.Millisecond), tally)
	for what, least := range map[string]uint64{
		string(gapless.Promoted): 10, string(gapless.TakenBack): 10, string(gapless.NothingStarted): 10,
		"promoted after judging": 50, "proven worse": 200, "the edge fell back": 1000, "no request got through": 1000, "undecided": 1000, "a hook failed": 1000,
		"a hook may have run": 2000, "aborted": 200, "a person promoted": 200, "a person was asked": 50, "back to a kept set": 1000,
		"a kept instance was replaced": 4000, "stable is lost": 2000, "mirrored": 200, "answers differ": 10000, "paced": 10, "climbed": 200, "proven in a ramp": 400, "watched after promote": 100, "taken back after promote": 1000,
		"passed with a metric": 1000, "a metric failed": 2000, "answered by itself": 2000,
	} {
		if n >= 20000 && uint64(tally[what]) < n/least {
			t.Errorf("%q happened only %d times in %d stories: they say little of it", what, tally[what], n)
		}
	}
}

// met counts what a rollout that ended went through.
func (w *world) met(r *gapless.Rollout) {
	for reason, what := range map[string]string{
		"false-alarm guarantee": "proven worse", "nobody judged": "the edge fell back", "requests get through": "no request got through", "undecided": "undecided",
		"hook failed": "a hook failed", "the daemon died": "a hook may have run", "answers otherwise": "answers differ", "metric outside": "a metric failed", "aborted": "aborted", "cannot become ready either": "stable is lost",
	} {
		if strings.Contains(r.Reason, reason) {
			w.tally[what]++
		}
	}
	if r.Outcome == gapless.Promoted && r.Verdict != nil && !r.Verdict.NoData {
		w.tally["promoted after judging"]++
	}
	if r.Outcome == gapless.Promoted && r.Auto {
		w.tally["taken back after promote"]++
	}
	if r.Outcome == gapless.Promoted && r.ID == w.forced {
		w.tally["a person promoted"]++
	}
}

// TestSimulationRepeats proves that a seed tells the same story again.
func TestSimulationRepeats(t *testing.T) {
	for seed := range uint64(50) {
		a, b := tell(seed, true, nil), tell(seed, true, nil)
		if !slices.Equal(a.trace, b.trace) {
			t.Fatalf("seed %d tells two stories", seed)
		}
	}
}

// TestCrashesChangeNothing tells stories without commands in between, with and
// without deaths of the engine and lost calls: they end alike.
func TestCrashesChangeNothing(t *testing.T) {
	died := 0
	for seed := range uint64(simStories / 300) {
		told := ""
		end := func(f faults) string {
			w := newWorld(seed)
			w.verbose = os.Getenv("GAPLESS_SIM_TELL") != ""
			type wish struct {
				kind string
				rel  *gapless.Release
			}
			var wishes []wish
			for _, temper := range []temper{good, w.sureTemper(), w.sureTemper()} {
				rel := w.release(temper) // no plan that may end otherwise because nobody watched for a while
				rel.Spec.Steps, rel.Spec.Judge.OnUndecided, rel.Spec.Mirror.OnDifference = nil, gapless.OnUndecidedContinue, gapless.OnUndecidedContinue
				rel.Spec.Judge.Metrics = nil // what is asked how often is not the same
				wishes = append(wishes, wish{"deploy", rel})
			}
			wishes = append(wishes, wish{kind: "restart"}, wish{kind: "scale"})
			w.rng.Shuffle(4, func(i, j int) { wishes[i+1], wishes[j+1] = wishes[j+1], wishes[i+1] })
			out := ""
			for i, x := range wishes {
				id := fmt.Sprintf("r%d", i)
				w.faults = faults{}
				clear(w.gone) // the releases of this test are made ahead
				err := w.order(x.kind, func(s State) (State, error) {
					switch x.kind {
					case "restart":
						return BeginRestart(s, id, w.releases[s.Stable], w.clock())
					case "scale":
						return BeginScale(s, id, w.releases[s.Stable], gapless.WebProcess, 1+i%3, w.clock())
					}
					return Begin(s, id, x.kind, x.rel, counts(x.rel), w.judgeOf(s.Stable, x.rel), w.clock())
				})
				w.faults, w.before = f, w.saved // what a person was told is not lost
				for n := 0; err == nil && n < 5000 && !w.settled(); n++ {
					w.tick()
				}
				w.faults = faults{}
				w.calm()
				s := w.runner.state
				out += fmt.Sprintf("%v %s %v; ", err, s.Stable, s.Counts)
				if s.Rollout != nil {
					out += fmt.Sprintf("%s %s; ", s.Rollout.ID, s.Rollout.Outcome)
				}
				if w.broken != nil {
					t.Fatalf("seed %d: %v", seed, w.broken)
				}
			}
			died += w.died
			told = strings.Join(w.trace, "\n")
			return out
		}
		without, with := end(faults{}), end(faults{crash: 0.02, loseSave: 0.3, lost: 0.1, apply: 0.1, delay: 0.1})
		if without != with {
			t.Fatalf("seed %d ends\n%s\nand with crashes\n%s\n%s", seed, without, with, told)
		}
	}
	if died < simStories/300 {
		t.Errorf("the engine died only %d times", died)
	}
}
