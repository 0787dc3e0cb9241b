package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"gapless"
	"gapless/internal/judge"
)

// world is a model of one machine in virtual time: processes that become
// ready, crash and are slow to stop; edges with requests in flight; a journal.
// It is Fleet, Router and Journal of a real Runner and checks, at every call,
// what must never happen. Everything random comes from rng.
type world struct {
	rng       *rand.Rand
	now       time.Time
	skew      time.Duration // of the engine's clock
	faults    faults
	decide    func(State, Observed, time.Time, bool) (State, []Action)
	readJudge func([]byte) (Judge, error)

	releases map[string]*gapless.Release
	temper   map[string]temper
	procs    []*proc // in the order of their start
	looked   []gapless.Instance
	lookedAt time.Time
	unwell   map[string]bool // as the engine was told
	failing  map[string]bool // as well
	stale    bool            // the next observation may be an old one

	rotten     string           // release that lost what it needs
	noise      float64          // share of bad answers that every release gives
	sloppiness float64          // that a sloppy one gives
	blind      bool             // no evidence was read in this round
	tables     []*gapless.Route // that the edges served at the last look
	servedAt   time.Time
	gone       map[string]bool             // releases that were collected
	inUse      func(State) map[string]bool // that must not be
	tallies    []gapless.Tally             // that the engine was told last, without those that cannot be
	bakedFrom  map[string]uint64           // per rollout: answers of what it promoted that were told before it did
	eager      bool                        // judges prove quickly
	big        bool                        // releases have many instances
	outside    map[string]gapless.Reading  // what the outside source answered, see answerKey
	limits     gapless.LatencyLimits       // that requests are counted by
	anonymous  bool                        // planted: an instance gets its identity only after the fork
	fell       bool                        // in this round the engine saw that an edge fell back
	ran        map[string]int              // hooks, by key

	watch     string                          // the judged step that is watched: rollout/cursor
	watchAt   time.Time                       // the last look at it
	watched   time.Duration                   // how long it was watched
	forgot    string                          // rollout of which a save was lost: more was watched than it knows
	judgedSum uint64                          // bad answers in the judge when its verdict was last checked
	aborted   string                          // rollout that a person took back, and the disk knows
	forced    string                          // rollout that a person promoted
	warm      []string                        // kept instances that a rollback found
	copiesOf  string                          // rollout of which told is
	told      map[string]gapless.MirrorCounts // per edge: what of copies the engine was told last

	edges   []*edge
	version uint64         // of the table applied last
	applied *gapless.Route // the table applied last
	missed  bool           // the last Apply did not reach every edge
	sick    map[string]time.Time
	cut     map[string]time.Time // requests do not get through until then
	gen     int

	saved, before State // what the disk has; what it had one save earlier
	runner        *Runner
	events        []gapless.Event
	trace         []string
	lost          bool         // in this round a save was lost
	unsaved       bool         // what this round found out is not on the disk
	amnesia       bool         // the engine died: the next table may be of a decision that is older than the world, or was forgotten
	passed        map[cell]int // nil: nobody counts
	fatal         cell         // where the engine dies, at the nth time
	nth           int
	decided, done []ActionKind // in this round, before and after their effect
	verbose       bool
	tally         map[string]int // what happened, and how often
	broken        error          // the first invariant that was broken
	rounds, died  int
}

// faults are probabilities per call; the zero value is a world without faults.
type faults struct {
	crash    float64 // the engine dies at a call, before or after its effect
	loseSave float64 // at such a death the last save is lost
	save     float64 // the journal cannot be written
	lost     float64 // a start or stop has no effect
	refuse   float64 // a start is refused
	stale    float64 // the fleet shows an earlier picture
	apply    float64 // a table reaches only some of the edges
	delay    float64 // a table arrives late
	dark     float64 // an edge does not answer for a while
	edges    float64 // an edge dies, or a new generation takes over
	cut      float64 // requests do not get through to an instance for a while
	sick     float64 // the edge's probes of an instance fail for a while
	die      float64 // an instance crashes
	vanish   float64 // the machine forgets an instance
	reboot   float64 // everything is gone but the disk
	clock    float64 // the clock is set while the engine is gone
	away     float64 // the engine is gone for a while
	blind    float64 // no evidence can be read
	double   float64 // the fleet lists an instance twice, or an edge speaks twice
	backward float64 // an edge reports what it reported before
	late     float64 // one edge's evidence comes later
	absurd   float64 // evidence contains what cannot be
	hang     float64 // an instance never becomes ready on its first run
	slowStop bool
}

func (f faults) quiet() faults { return faults{slowStop: f.slowStop} }

// death is thrown where the engine dies.
type death struct{}

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const (
	simDrain = 3 * time.Second
	simApp   = "shop"
)

func newWorld(seed uint64) *world {
	w := &world{
		rng: rand.New(rand.NewPCG(seed, 7)), now: epoch, decide: decide, readJudge: ReadJudge[judge.Judge],
		releases: map[string]*gapless.Release{}, temper: map[string]temper{}, sick: map[string]time.Time{}, cut: map[string]time.Time{}, ran: map[string]int{}, tally: map[string]int{}, sloppiness: 0.4, gone: map[string]bool{}, bakedFrom: map[string]uint64{}, outside: map[string]gapless.Reading{}, inUse: State.InUse,
		saved: State{App: simApp, Down: true}, before: State{App: simApp, Down: true},
	}
	w.newEdge(nil, 0)
	w.boot()
	return w
}

var quiet = slog.New(slog.DiscardHandler)

// clock is what the engine takes for the time.
func (w *world) clock() time.Time { return w.now.Add(w.skew) }

// boot starts an engine from what the disk has.
func (w *world) boot() {
	if w.chance(w.faults.clock) {
		w.skew = w.between(-2*time.Hour, 2*time.Hour)
		w.log("the clock is off by %s", w.skew)
	}
	data, err := json.Marshal(w.saved)
	if err != nil {
		panic(err)
	}
	var s State
	if err := json.Unmarshal(data, &s); err != nil {
		panic(err)
	}
	w.runner = &Runner{
		App: simApp, Fleet: w, Router: w, Journal: w, Evidence: w, Hooks: hooks{w, map[string]*hookRun{}}, Meter: meters{w, map[string]map[string]Asked{}}, Log: quiet,
		Release: func(_, name string) (*gapless.Release, error) {
			if rel := w.releases[name]; rel != nil && !w.gone[name] {
				return rel, nil
			}
			return nil, fmt.Errorf("no release %s", name)
		},
		Emit:      w.hear,
		ReadJudge: w.readJudge,
		now:       w.clock,
		decide: func(s State, o Observed, t time.Time, hold bool) (State, []Action) {
			is, acts := w.decide(s, o, t, hold)
			if w.decided = nil; w.passed != nil {
				for _, a := range acts {
					w.decided = append(w.decided, a.Kind)
				}
			}
			return is, acts
		},
	}
	w.runner.Init(s)
	w.stale = false
	w.forgetCopies()
}

func (w *world) hear(e gapless.Event) {
	w.at(ActNote, beforeEffect)
	defer w.did(ActNote)
	w.log("event %s %s", e.Kind, e.Message)
	switch {
	case e.Kind == "rollout.waiting":
		w.tally["a person was asked"]++
	case e.Kind == "instance.replaced" && w.runner.state.Busy():
		w.tally["a kept instance was replaced"]++
	}
	if e.Kind == "rollout.finished" {
		w.collect()
		w.events = append(w.events, e)
	}
}

func (w *world) log(format string, args ...any) {
	if w.verbose {
		w.trace = append(w.trace, fmt.Sprintf("%9s  ", w.now.Sub(epoch))+fmt.Sprintf(format, args...))
	}
}

func (w *world) violate(format string, args ...any) {
	if w.broken == nil {
		w.broken = fmt.Errorf(format, args...)
		w.log("VIOLATED %v", w.broken)
	}
}

// chance is true with probability p; it draws nothing for p = 0.
func (w *world) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

// between is a random duration.
func (w *world) between(a, b time.Duration) time.Duration {
	return a + time.Duration(w.rng.Int64N(int64(b-a)+1))
}

// die kills the engine here, perhaps.
func (w *world) die() {
	if w.chance(w.faults.crash) {
		panic(death{})
	}
}

// cell is one place of one kind of action.
type cell struct {
	kind  ActionKind
	point point
}

// at counts a place that the engine comes by, and is its end where one is asked for.
func (w *world) at(kind ActionKind, p point) {
	if w.passed == nil {
		return
	}
	c := cell{kind, p}
	if w.passed[c]++; c == w.fatal && w.passed[c] == w.nth {
		w.log("the engine dies %s of %s, the %d. time", p, kind, w.nth)
		panic(death{})
	}
}

// did is the end of an action that had its effect.
func (w *world) did(kind ActionKind) {
	if w.passed != nil {
		w.done = append(w.done, kind)
		w.at(kind, afterEffect)
	}
}

// safely runs f; if the engine dies in it, a new one starts from the disk.
func (w *world) safely(f func()) {
	defer func() {
		switch r := recover(); r.(type) {
		case nil:
		case death:
			w.died++
			w.amnesia, w.unsaved = true, true
			if w.chance(w.faults.loseSave) {
				w.log("the engine dies, its last save is lost")
				w.saved, w.lost = w.before, true
				clear(w.ran) // nobody can know of what only a lost save told
				w.warm = nil
				if w.saved.Rollout != nil {
					w.forgot = w.saved.Rollout.ID
				}
				if !w.saved.Back {
					w.aborted = ""
				}
			} else {
				w.log("the engine dies")
			}
			w.before = w.saved
			w.boot()
		default:
			panic(r)
		}
	}()
	f()
}

// round lets the engine look and act once.
func (w *world) round() {
	w.rounds++
	w.safely(func() { w.runner.round(context.Background()) })
}

// order gives a command of a person.
func (w *world) order(what string, f func(State) (State, error)) (err error) {
	w.safely(func() {
		err = w.runner.Do(context.Background(), f)
		w.log("%s: %v", what, err)
	})
	return err
}

// Save implements Journal.
func (w *world) Save(_ context.Context, s State) error {
	w.die()
	for _, kind := range w.decided {
		w.at(kind, beforeIntent)
	}
	w.decided = nil
	w.at(actSave, beforeEffect)
	if w.chance(w.faults.save) {
		w.log("save fails")
		w.unsaved = true
		return errors.New("disk full")
	}
	w.before, w.saved = w.saved, s.Clone()
	w.at(actSave, afterEffect)
	w.die()
	return nil
}

// away lets time pass without an engine.
func (w *world) away() {
	w.log("the engine is away")
	w.died++
	w.before = w.saved
	for end := w.now.Add(w.between(0, 90*time.Second)); w.now.Before(end); {
		w.pass(w.between(time.Second, 10*time.Second))
	}
	w.boot()
}

// reboot leaves nothing but the disk.
func (w *world) reboot() {
	w.log("the machine reboots")
	w.procs, w.edges, w.applied, w.missed = nil, nil, nil, false
	w.newEdge(nil, w.version)
	w.boot()
}

// pass lets d go by.
func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	for _, p := range w.procs {
		w.live(p)
		if p.in.State == gapless.Ready && w.chance(w.faults.sick) {
			w.sick[p.in.ID] = w.now.Add(w.between(0, 40*time.Second))
		}
		if p.in.State == gapless.Ready && w.chance(w.faults.cut) {
			w.cut[p.in.ID] = w.now.Add(w.between(0, 20*time.Second))
		}
	}
	if len(w.procs) > 0 && w.chance(w.faults.vanish) {
		i := w.rng.IntN(len(w.procs))
		w.log("%s vanishes", w.procs[i].in.ID)
		w.hangUp(w.procs[i].in.ID)
		w.procs = append(w.procs[:i:i], w.procs[i+1:]...)
	}
	if w.warm != nil && !w.allWarm() {
		w.warm = nil
	}
	if w.chance(w.faults.reboot) {
		w.reboot()
	}
	w.deliver()
	for _, e := range w.edges {
		w.serve(e)
		if w.chance(w.faults.dark) {
			e.dark = w.now.Add(w.between(0, 10*time.Second))
		}
	}
	w.generations()
}
