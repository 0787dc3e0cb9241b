package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gapless"
	"gapless/internal/judge"
	"gapless/internal/rollout"
	"gapless/internal/store"
)

const app = "shop"

// schedule is one random story: an engine that dies now and then, its store,
// the machine that it acts on and a person.
type schedule struct {
	t       *testing.T
	rng     *rand.Rand
	m       *machine
	dir     string
	n       int // files so far
	st      *store.Store
	runner  *rollout.Runner
	alive   chan struct{} // closed when the engine is dead
	cancel  context.CancelFunc
	saved   []byte // what a model of the journal would have
	before  []byte // the same one save earlier
	torn    bool   // the engine died in a save: either is right
	died    int
	tornAny int

	mu       sync.Mutex
	releases map[string]*gapless.Release
}

func (s *schedule) path() string { return filepath.Join(s.dir, strconv.Itoa(s.n), "gapless.db") }

// Save implements rollout.Journal on SQLite, beside the model.
func (s *schedule) Save(ctx context.Context, state rollout.State) error {
	defer s.m.enter()()
	data, err := json.Marshal(state)
	if err != nil {
		return err
	}
	log := s.path() + "-wal"
	was := size(log)
	if err := s.st.SaveApp(ctx, app, state, state.Rollout); err != nil {
		return err
	}
	s.before, s.saved, s.torn = s.saved, data, false
	if s.m.dies > 0 && s.m.rng.Float64() < s.m.dies {
		// It dies in the middle of the save: some of what it wrote is on the disk.
		if now := size(log); now > was {
			s.crash(was + s.m.rng.Int64N(now-was+1))
			s.torn = true
		}
		s.m.dead = true
		runtime.Goexit()
	}
	return nil
}

func size(file string) int64 {
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return info.Size()
}

// crash takes the files as they are, without a proper end, to a new place. Of
// the log only so much is there.
func (s *schedule) crash(log int64) {
	from := s.path()
	s.n++
	if err := os.MkdirAll(filepath.Dir(s.path()), 0o700); err != nil {
		s.t.Fatal(err)
	}
	for _, part := range []string{"", "-wal"} {
		data, err := os.ReadFile(from + part)
		if err != nil && !os.IsNotExist(err) {
			s.t.Fatal(err)
		}
		if part == "-wal" && int64(len(data)) > log {
			data = data[:log]
		}
		if err == nil {
			err = os.WriteFile(s.path()+part, data, 0o600)
		}
		if err != nil && !os.IsNotExist(err) {
			s.t.Fatal(err)
		}
	}
}

// boot opens the store and starts an engine from it.
func (s *schedule) boot() {
	var err error
	if s.st, err = store.Open(context.Background(), s.path()); err != nil {
		s.t.Fatalf("open the store: %v", err)
	}
	state := rollout.State{App: app, Down: true}
	if s.saved != nil {
		state = rollout.State{}
		if err := s.st.App(context.Background(), app, &state); err != nil && !(s.torn && s.before == nil) {
			s.t.Fatalf("read the state: %v", err)
		}
		s.compare(&state)
	}
	s.m.mu.Lock()
	s.m.hooks, s.m.dead = map[string]time.Time{}, false
	s.m.mu.Unlock()
	s.runner = &rollout.Runner{
		App: app, Fleet: s.m, Router: s.m, Journal: s, Evidence: s.m, Hooks: hooks{s.m},
		Emit: func(gapless.Event) {}, Log: slog.New(slog.DiscardHandler), ReadJudge: rollout.ReadJudge[judge.Judge],
		Release: func(_, name string) (*gapless.Release, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if rel := s.releases[name]; rel != nil {
				return rel, nil
			}
			return nil, fmt.Errorf("no release %s", name)
		},
	}
	s.runner.Init(state)
	ctx, cancel := context.WithCancel(context.Background())
	s.alive, s.cancel = make(chan struct{}), cancel
	go func(dead chan struct{}, r *rollout.Runner) {
		defer close(dead)
		_ = r.Run(ctx)
	}(s.alive, s.runner)
}

// compare holds what the store gives back against the model.
func (s *schedule) compare(state *rollout.State) {
	got, err := json.Marshal(state)
	if err != nil {
		s.t.Fatal(err)
	}
	switch {
	case bytes.Equal(got, s.saved):
	case s.torn && s.before == nil:
		*state, s.saved = rollout.State{App: app, Down: true}, nil
	case s.torn && bytes.Equal(got, s.before):
		s.saved = s.before
		s.tornAny++
	default:
		s.t.Fatalf("the store has\n%s\nthe model\n%s\nand before\n%s", got, s.saved, s.before)
	}
	s.torn = false
}

// revive starts a new engine where the last one is dead.
func (s *schedule) revive() {
	select {
	case <-s.alive:
	default:
		return
	}
	s.died++
	s.cancel()
	if old := s.st; !s.torn {
		s.crash(1 << 40)
		_ = old.Close()
	} else {
		_ = old.Close()
	}
	s.boot()
}

// order is a command of a person; the engine may die in it.
func (s *schedule) order(f func(rollout.State) (rollout.State, error)) {
	done := make(chan struct{})
	died := true
	go func() {
		defer close(done)
		_ = s.runner.Do(context.Background(), f)
		died = false
	}()
	<-done
	if died { // the whole process is gone, not only the one who asked
		s.cancel()
		<-s.alive
	}
}

func (s *schedule) release() *gapless.Release {
	s.mu.Lock()
	defer s.mu.Unlock()
	short := func(d time.Duration) gapless.Duration { return gapless.Duration(1 + s.rng.Int64N(int64(d))) }
	undecided := []string{gapless.OnUndecidedContinue, gapless.OnUndecidedPause, gapless.OnUndecidedRollback}[s.rng.IntN(3)]
	rel := &gapless.Release{App: app, Name: fmt.Sprintf("v%d", len(s.releases)+1), Spec: gapless.App{
		Name: app, Path: "/", Drain: gapless.Duration(time.Second), Soak: short(2 * time.Second), Keep: short(5 * time.Second),
		Strategy:  []string{gapless.StrategyRolling, gapless.StrategyBlueGreen, gapless.StrategyCanary}[s.rng.IntN(3)],
		Judge:     gapless.JudgeSpec{Within: short(2 * time.Second), OnUndecided: undecided},
		Processes: []gapless.Process{{Name: gapless.WebProcess, Instances: 1 + s.rng.IntN(3)}, {Name: "clock", Instances: 1, Singleton: true}},
	}}
	if s.rng.IntN(3) == 0 {
		how := []string{rollout.OnResumeFail, rollout.OnResumeAsk, rollout.OnResumeRerun, "broken"}[s.rng.IntN(4)]
		rel.Spec.Steps = []gapless.Step{
			{Kind: gapless.StepWeight, Weight: 0.1}, {Kind: gapless.StepHook, Run: how, OnResume: how},
			{Kind: gapless.StepJudge, For: short(time.Second)}, {Kind: gapless.StepPause, For: short(time.Second)},
		}
	}
	s.m.mu.Lock()
	s.m.sloppy[rel.Name], s.m.frail[rel.Name] = s.rng.IntN(4) == 0, s.rng.IntN(6) == 0
	s.m.mu.Unlock()
	s.releases[rel.Name] = rel
	return rel
}

func judgeOf(from string, to *gapless.Release) rollout.Judge {
	j, err := judge.New(judge.Config{Candidate: to.Name, Stable: from})
	if err != nil { // there is nothing to compare
		return nil
	}
	return rollout.JudgeBy(j)
}

func counts(rel *gapless.Release) map[string]int {
	out := map[string]int{}
	for _, p := range rel.Spec.Processes {
		out[p.Name] = p.Instances
	}
	return out
}

// command is something that a person says.
func (s *schedule) command() {
	now, id := time.Now(), fmt.Sprintf("r%d", s.rng.Uint32())
	state := s.runner.State()
	switch n := s.rng.IntN(10); {
	case n < 3 || state.Stable == "":
		rel := s.release()
		s.order(func(st rollout.State) (rollout.State, error) {
			return rollout.Begin(st, id, "deploy", rel, counts(rel), judgeOf(st.Stable, rel), now)
		})
	case n < 4:
		s.order(func(st rollout.State) (rollout.State, error) { return rollout.Abort(st, "a person said so", now), nil })
	case n < 5:
		s.order(rollout.Pause)
	case n < 7:
		s.order(rollout.Resume)
	case n < 8 && state.Busy():
		s.order(func(st rollout.State) (rollout.State, error) {
			return rollout.Promote(st, s.releases[state.Rollout.To])
		})
	case n < 9:
		to := s.releases[fmt.Sprintf("v%d", 1+s.rng.IntN(len(s.releases)))]
		s.order(func(st rollout.State) (rollout.State, error) {
			return rollout.BeginRollback(st, id, to, counts(to), now)
		})
	default:
		s.order(func(st rollout.State) (rollout.State, error) {
			return rollout.BeginRestart(st, id, s.releases[st.Stable], now)
		})
	}
}

// play runs one schedule inside a bubble of virtual time.
func play(t *testing.T, seed uint64, dir string) (died, torn int) {
	rng := rand.New(rand.NewPCG(seed, 3))
	s := &schedule{t: t, rng: rng, dir: dir, releases: map[string]*gapless.Release{}, m: &machine{
		rng: rand.New(rand.NewPCG(seed, 4)), dies: 0.04 * rng.Float64(), tossed: time.Now(),
		ran: map[string]int{}, sloppy: map[string]bool{}, frail: map[string]bool{},
	}}
	defer func() { // a bubble ends only when all in it does
		if s.cancel != nil {
			s.cancel()
			<-s.alive
		}
		_ = s.st.Close()
	}()
	s.boot()
	for range 12 {
		s.revive()
		s.command()
		time.Sleep(time.Duration(rng.Int64N(int64(1500 * time.Millisecond))))
	}
	s.m.mu.Lock()
	s.m.dies, s.m.frail = 0, map[string]bool{}
	s.m.mu.Unlock()
	for calm := time.Now(); ; time.Sleep(time.Second) {
		s.revive()
		state := s.runner.State()
		if state.Busy() && state.Paused {
			s.order(rollout.Resume)
		}
		if s.settled(state) {
			break
		}
		if time.Since(calm) > 10*time.Minute {
			t.Fatalf("it does not come to rest: %+v %+v", state, state.Rollout)
		}
	}
	s.cancel()
	<-s.alive
	s.n++ // a clean end: the same state comes back
	last, old := s.saved, s.st
	s.n--
	_ = old.Close()
	s.boot()
	if s.cancel(); !bytes.Equal(last, s.saved) {
		t.Fatal("after a clean end another state comes back")
	}
	<-s.alive
	_ = s.st.Close()
	if s.m.broken != nil {
		t.Fatal(s.m.broken)
	}
	return s.died, s.tornAny
}

// settled reports whether all of stable serves and nothing else is left.
func (s *schedule) settled(state rollout.State) bool {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if state.Busy() || len(s.m.procs) != len(state.Members) {
		return false
	}
	if state.Stable == "" {
		return len(state.Members) == 0
	}
	for _, m := range state.Members {
		if p := s.m.find(m.ID); m.Role != rollout.Stable || p == nil || p.state(time.Now()) != gapless.Ready {
			return false
		}
	}
	return s.m.route != nil && s.m.route.Share(state.Stable) == 1
}

// TestEngineOnStore plays random schedules with the journal in SQLite. What
// comes back after each death is what the model of a journal has, also where
// the engine died in the middle of writing it. GAPLESS_SIM_STORE_SEED=n plays
// one, GAPLESS_SIM_STORE_N sets how many. The engine and the person are two
// goroutines, so where both are due at the same moment a seed leaves their order open.
func TestEngineOnStore(t *testing.T) {
	base := t.TempDir()
	if dir, err := os.MkdirTemp("/dev/shm", "gapless-sim-"); err == nil { // nothing here waits for a disk
		base = dir
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	n := number(t, "GAPLESS_SIM_STORE_N", schedules)
	first, last := uint64(1), n
	if os.Getenv("GAPLESS_SIM_STORE_SEED") != "" {
		first = number(t, "GAPLESS_SIM_STORE_SEED", 1)
		last = first
	}
	var next, died, torn atomic.Uint64
	next.Store(first - 1)
	t.Run("schedules", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("worker", func(t *testing.T) {
				t.Parallel()
				for seed := next.Add(1); seed <= last && !t.Failed(); seed = next.Add(1) {
					dir := filepath.Join(base, strconv.FormatUint(seed, 10))
					synctest.Test(t, func(t *testing.T) {
						t.Cleanup(func() {
							if t.Failed() {
								t.Logf("GAPLESS_SIM_STORE_SEED=%d", seed)
							}
						})
						d, k := play(t, seed, dir)
						died.Add(uint64(d))
						torn.Add(uint64(k))
					})
					_ = os.RemoveAll(dir)
				}
			})
		}
	})
	t.Logf("%d schedules, the engine died %d times, %d saves were torn", n, died.Load(), torn.Load())
	if first != last && (died.Load() < n || torn.Load() < n/50) {
		t.Error("too few deaths to prove anything")
	}
}

func number(t *testing.T, name string, otherwise uint64) uint64 {
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
