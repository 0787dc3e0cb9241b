package rollout

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"gapless"
)

// Observed is what the world looks like at one moment.
type Observed struct {
	Releases  map[string]*gapless.Release // every release a member or the rollout names
	Instances map[string]gapless.Instance // by ID
	Served    Served
	First     bool                 // nothing was applied yet since the state was read: Served is of those before
	Tallies   []gapless.Tally      // since State.Cursor
	Cursor    Cursor               // nil: no evidence could be had
	Blind     bool                 // there should be evidence, but it could not be read
	Look      *gapless.LatencyLook // nil: the judge has learned what there is
	Hooks     map[string]HookState
	Mirrors   map[string]gapless.MirrorCounts // per edge process: of copies for this rollout
	Metrics   map[string]Asked                // by name: what outside sources said for this rollout
}

// ActionKind names what the runner is to do.
type ActionKind string

const (
	ActStart   ActionKind = "start"
	ActStop    ActionKind = "stop"
	ActForget  ActionKind = "forget"
	ActRoute   ActionKind = "route"
	ActHook    ActionKind = "hook"
	ActMeasure ActionKind = "measure" // ask outside
	ActNote    ActionKind = "note"    // tell people
)

// Action is one thing to do; all but notes are idempotent.
type Action struct {
	Kind     ActionKind
	Instance gapless.Instance // start; ID only for stop and forget
	Route    *gapless.Route   // route; nil removes it
	Event    gapless.Event    // note
	Key      string           // hook
	Command  string           // hook
	Question Question         // measure
}

// SickLimit is how long a serving instance may fail the edge's probes before it is replaced.
const SickLimit = 30 * time.Second

// decision is one call of Decide.
type decision struct {
	s    State
	obs  Observed
	now  time.Time
	acts []Action
}

// Decide looks at an app and says what to do next. It is called again and
// again with what was observed since; every action that the last call asked
// for may have happened, half happened or not happened.
func Decide(s State, obs Observed, now time.Time) (State, []Action) {
	return decide(s, obs, now, false)
}

// decide is Decide; with hold, while the journal cannot be written, the plan
// does not advance unless it leads back, see retreat.
func decide(s State, obs Observed, now time.Time, hold bool) (State, []Action) {
	d := &decision{s: s.Clone(), obs: obs, now: now}
	d.recall()
	d.adopt()
	d.settle()
	if d.s.Down {
		d.down()
	} else {
		d.bake()
		if d.s.Busy() && !d.s.Back {
			d.learn()
			d.weigh()
			d.shadow()
			d.measure()
			d.watch()
		}
		switch {
		case !d.s.Busy() || d.s.Back:
		case hold && !d.s.homeward():
			d.retreat()
		default:
			d.rewarm()
			d.answer()
			d.advance()
		}
		if d.s.Busy() && d.s.Back {
			d.back()
		}
		d.maintain()
	}
	d.start()
	d.route()
	d.leave()
	if d.s.Busy() {
		d.s.Rollout.Weight = d.share()
	}
	return d.s, d.acts
}

func (d *decision) act(a Action) { d.acts = append(d.acts, a) }

func (d *decision) note(level, kind, instance, format string, args ...any) {
	e := gapless.Event{Time: d.now, App: d.s.App, Kind: kind, Instance: instance, Level: level, Message: fmt.Sprintf(format, args...)}
	if r := d.s.Rollout; r != nil && r.Outcome == gapless.Running || kind == "rollout.finished" {
		e.Rollout, e.Release = r.ID, r.To
		e.Step, e.Steps = min(r.Cursor+1, len(r.Plan)), len(r.Plan)
	}
	d.act(Action{Kind: ActNote, Event: e})
}

// noteOf is note about one instance.
func (d *decision) noteOf(in gapless.Instance, level, kind, format string, args ...any) {
	d.note(level, kind, in.Label(), format, args...)
	d.acts[len(d.acts)-1].Event.InstanceID = in.ID
}

func (d *decision) seen(m *Member) gapless.Instance {
	in, ok := d.obs.Instances[m.ID]
	if !ok {
		in = gapless.Instance{ID: m.ID, App: d.s.App, Release: m.Release, Process: m.Process, Slot: m.Slot}
	}
	return in
}

func (d *decision) ready(m *Member) bool {
	return d.seen(m).State == gapless.Ready && !d.obs.Served.Unhealthy[m.ID]
}

func (d *decision) countReady(role Role, process string) int {
	n := 0
	for _, m := range d.s.of(role, process) {
		if d.ready(m) {
			n++
		}
	}
	return n
}

// adopt makes members of the instances that are not: the save that named them
// was lost. What stable can use stays, the others leave.
func (d *decision) adopt() {
	var strangers []string
	for id := range d.obs.Instances {
		if d.s.member(id) == nil {
			strangers = append(strangers, id)
		}
	}
	sort.Strings(strangers)
	for _, id := range strangers {
		in := d.obs.Instances[id]
		m := Member{ID: id, Release: in.Release, Process: in.Process, Slot: in.Slot, Role: Leaving, Since: d.now}
		if in.Release == d.s.Stable && !d.s.Down && d.s.Counts[in.Process] > 0 && in.State == gapless.Ready && !d.singleton(in.Process) {
			m.Role = Stable
		}
		d.s.Members = append(d.s.Members, m)
	}
}

// singleton reports whether two of a process of the stable release must never run at once.
func (d *decision) singleton(process string) bool {
	rel := d.obs.Releases[d.s.Stable]
	if rel == nil {
		return false
	}
	p := rel.Spec.Process(process)
	return p != nil && p.Singleton
}

// settle takes over what was observed of each member.
func (d *decision) settle() {
	for i := range d.s.Members {
		m := &d.s.Members[i]
		in := d.seen(m)
		if _, known := d.obs.Instances[m.ID]; known {
			m.Seen = true
		}
		switch {
		case in.State == gapless.Ready && !m.WasUp:
			m.WasUp = true
			d.noteOf(in, "", "instance.ready", "%s is ready", in.Label())
		case in.State == gapless.Ready:
			m.Worried = false
		case (in.State == gapless.Crashed || in.State == gapless.Failed) && m.Role == Stable && !m.Worried:
			m.Worried = true
			d.noteOf(in, "error", "instance.crashed", "%s %s, it is started again", in.Label(), why(in))
		}
		switch {
		case !d.obs.Served.Unhealthy[m.ID] || in.State != gapless.Ready:
			m.SickAt = time.Time{}
		case m.SickAt.IsZero():
			m.SickAt = d.now
		}
		if d.s.Busy() && (m.Role == Candidate || m.Role == Leaving && m.Release != d.s.Rollout.From) && m.Release == d.s.Rollout.To && launched(in) {
			d.s.Rollout.Launched = true
		}
	}
}

// launched reports whether a process of the instance had run.
func launched(in gapless.Instance) bool {
	return in.PID > 0 || in.Exit != nil || in.Restarts > 0 || in.State == gapless.Ready
}

// why says in a few words what is wrong with an instance.
func why(in gapless.Instance) string {
	switch {
	case in.Reason != "":
		return in.Reason
	case in.Exit != nil:
		return "ended with " + in.Exit.String()
	}
	return string(in.State)
}

// finish ends the rollout and says so.
func (d *decision) finish(o gapless.Outcome) {
	r := d.s.Rollout
	r.Outcome, r.Finished = o, d.now
	r.Waiting, r.Weight = "", 0
	d.s.Back, d.s.Weight, d.s.Auto, d.s.Drained, d.s.Next = false, 0, false, nil, nil
	d.s.Preview, d.s.Paused, d.s.Skip, d.s.Hook, d.s.Judge, d.s.Cursor, d.s.Keep, d.s.Baking = false, false, false, "", nil, nil, 0, 0
	d.s.Known, d.s.Met, d.s.Alarmed = false, 0, false
	r.Missing = gapless.Missing{}
	d.s.Folded, d.s.Learned, d.s.Watched, d.s.Looked = time.Time{}, time.Time{}, 0, time.Time{}
	d.s.Mirrors, d.s.Shadowed = nil, time.Time{}
	switch {
	case d.s.Down:
		d.note("", "rollout.finished", "", "%s of %s ended: %s", r.Kind, r.To, r.Reason)
	case o == gapless.Promoted && r.Kind == "scale":
		d.note("", "rollout.finished", "", "scaled %s", countsText(d.s.Counts))
	case o == gapless.Promoted && r.Auto && r.Cursor >= len(r.Plan):
		d.note("warn", "rollout.finished", "", "%s serves again: %s", r.To, r.Reason)
	case o == gapless.Promoted && r.Reason != "":
		d.note("warn", "rollout.finished", "", "%s serves, the rest of the plan is left out: %s; to go back: gapless rollback %s", r.To, r.Reason, d.s.App)
	case o == gapless.Promoted:
		d.note("", "rollout.finished", "", "%s serves", r.To)
	case r.From == r.To:
		d.note("error", "rollout.finished", "", "%s was taken back, %s serves as before: %s", r.Kind, r.From, r.Reason)
	case r.From != "" && d.s.Stable == r.To:
		d.note("error", "rollout.finished", "", "%s failed: %s", r.To, r.Reason)
	case r.From != "":
		d.note("error", "rollout.finished", "", "%s was taken back, %s serves: %s", r.To, r.From, r.Reason)
	default:
		d.note("error", "rollout.finished", "", "%s did not come up: %s", r.To, r.Reason)
	}
}

func countsText(counts map[string]int) string {
	names := make([]string, 0, len(counts))
	for name, n := range counts {
		names = append(names, fmt.Sprintf("%s to %d", name, n))
	}
	sort.Strings(names)
	return strings.Join(names, ", ")
}

// down stops everything: other processes first, then web.
func (d *decision) down() {
	d.s.Bake = nil
	if d.s.Busy() {
		d.s.Rollout.Reason = "the app was taken down"
		switch {
		case d.s.promoted():
			d.finish(gapless.Promoted)
		case d.s.Stable == "":
			d.finish(gapless.NothingStarted)
		default:
			d.finish(gapless.TakenBack)
		}
	}
	others := false
	for i := range d.s.Members {
		if m := &d.s.Members[i]; m.Process != gapless.WebProcess {
			others = true
			if m.Role != Leaving {
				d.dismiss(m)
			}
		}
	}
	for i := range d.s.Members {
		if m := &d.s.Members[i]; !others && m.Role != Leaving {
			d.dismiss(m)
		}
	}
	if len(d.s.Members) == 0 {
		d.s.Stable = ""
	}
}

// start asks for every member that should run and is not known to the fleet.
func (d *decision) start() {
	for i := range d.s.Members {
		m := &d.s.Members[i]
		if _, known := d.obs.Instances[m.ID]; !known && m.Role != Leaving && !d.alone(m) {
			m.Seen = false // it may run before it is visible, also where it had run before
			d.act(Action{Kind: ActStart, Instance: gapless.Instance{
				ID: m.ID, App: d.s.App, Release: m.Release, Process: m.Process, Slot: m.Slot}})
		}
	}
}

// alone reports whether a member must wait for another one of its process to
// be gone. What the disk says of a singleton may be older than the world.
func (d *decision) alone(m *Member) bool {
	single := func(release string) bool {
		rel := d.obs.Releases[release]
		p := (*gapless.Process)(nil)
		if rel != nil {
			p = rel.Spec.Process(m.Process)
		}
		return p != nil && p.Singleton
	}
	if !single(m.Release) {
		return false
	}
	for id, in := range d.obs.Instances {
		if id != m.ID && in.Process == m.Process && in.State != gapless.Stopped && in.State != gapless.Failed && single(in.Release) {
			return true
		}
	}
	return false
}

// route asks for the wanted route where another one is served.
func (d *decision) route() {
	share := d.share()
	want := route(d.s, d.obs, share, min(share, max(0, 1-d.carries(Stable))))
	if !d.obs.Served.Known || !same(want, d.obs.Served.Route) {
		d.act(Action{Kind: ActRoute, Route: want})
	}
}
