package rollout

import (
	"maps"
	"slices"
	"sort"
	"time"

	"gapless"
)

// Role is what an instance is to its app.
type Role string

const (
	Stable    Role = "stable"
	Candidate Role = "candidate"
	Leaving   Role = "leaving" // drained, then stopped, then forgotten
	Kept      Role = "kept"    // of the release before, warm and without new traffic, for an instant way back
)

// Member is one instance that the engine wants to exist or to go.
type Member struct {
	ID      string    `json:"id"`
	Release string    `json:"release"`
	Process string    `json:"process"`
	Slot    int       `json:"slot"`
	Role    Role      `json:"role"`
	Since   time.Time `json:"since"`             // of Role
	Stop    bool      `json:"stop,omitempty"`    // drained: Stop was decided
	Ousts   string    `json:"ousts,omitempty"`   // replaces this member once ready
	WasUp   bool      `json:"was_up,omitempty"`  // had become ready once
	SickAt  time.Time `json:"sick_at,omitzero"`  // unhealthy since, by the edge's probes
	Worried bool      `json:"worried,omitempty"` // its crash was reported
	Seen    bool      `json:"seen,omitempty"`    // the fleet listed it once
	Out     time.Time `json:"out,omitzero"`      // leaving: since when no edge picks it
	Until   time.Time `json:"until,omitzero"`    // kept: when it leaves
	Warm    bool      `json:"warm,omitempty"`    // candidate that was kept: if it dies another one takes its place
}

// State is all that the engine remembers of one app. It is saved before the
// actions that follow from it, so that a restarted daemon goes on from it.
type State struct {
	App     string           `json:"app"`
	Seq     int              `json:"seq"`              // last instance number given out
	Stable  string           `json:"stable"`           // release name; "" while none serves
	Before  string           `json:"before,omitempty"` // release that was stable before it
	Counts  map[string]int   `json:"counts"`           // wanted instances per process
	Members []Member         `json:"members"`          // ordered by start
	Rollout *gapless.Rollout `json:"rollout,omitempty"`
	Since   time.Time        `json:"since,omitzero"`    // when the current step began
	Entered bool             `json:"entered,omitempty"` // the current step's one-time part is done
	Weight  float64          `json:"weight,omitempty"`  // candidate's share
	Auto    bool             `json:"auto,omitempty"`    // candidate's share follows its share of ready instances
	Drained map[string]int   `json:"drained,omitempty"` // per process: old instances given up by drain steps
	Next    map[string]int   `json:"next,omitempty"`    // counts of the candidate, Counts once it is promoted
	Back    bool             `json:"back,omitempty"`    // rolling back
	Known   bool             `json:"known,omitempty"`   // the rollout goes back to a release that served last: it needs no journal
	Down    bool             `json:"down,omitempty"`    // everything stops

	Held        bool                 `json:"held,omitempty"`        // a person holds the traffic
	Maintenance *gapless.Maintenance `json:"maintenance,omitempty"` // a person closed the app; never changed, only replaced

	Keep    gapless.Duration `json:"keep,omitempty"`    // the old set stays warm for this long after promote
	Baking  gapless.Duration `json:"baking,omitempty"`  // the candidate is watched for this long after promote
	Bake    *Bake            `json:"bake,omitempty"`    // what was promoted last is watched
	Preview bool             `json:"preview,omitempty"` // people can reach the candidate
	Paused  bool             `json:"paused,omitempty"`  // the plan waits for a person
	Skip    bool             `json:"skip,omitempty"`    // a person resumed: the current step counts as done
	Hook    string           `json:"hook,omitempty"`    // key of the hook that was asked to run
	Judge   Judge            `json:"judge,omitempty"`   // what was seen of the candidate; nil: nothing to judge
	Cursor  Cursor           `json:"cursor"`            // evidence up to here is in Judge; nil: nothing was read yet, empty: nothing was counted yet
	Folded  time.Time        `json:"folded,omitzero"`   // when Judge was last brought up to date
	Learned time.Time        `json:"learned,omitzero"`  // when Judge learned last how long requests take
	Watched gapless.Duration `json:"watched,omitempty"` // how long the judged step was watched, up to Looked
	Looked  time.Time        `json:"looked,omitzero"`
	Met     uint64           `json:"met,omitempty"`     // requests of both releases that were judged in this step
	Alarmed bool             `json:"alarmed,omitempty"` // the judge said once that both releases are in trouble

	Mirrors  map[string]gapless.MirrorCounts `json:"mirrors,omitempty"` // what each edge process counted of copies
	Shadowed time.Time                       `json:"shadowed,omitzero"` // when that was last brought up to date
}

// Clone returns a deep copy.
func (s State) Clone() State {
	s.Counts = maps.Clone(s.Counts)
	s.Drained = maps.Clone(s.Drained)
	s.Next = maps.Clone(s.Next)
	s.Members = slices.Clone(s.Members)
	s.Cursor = maps.Clone(s.Cursor)
	s.Mirrors = maps.Clone(s.Mirrors)
	s.Bake = s.Bake.clone()
	if s.Rollout != nil {
		r := *s.Rollout
		r.Plan = slices.Clone(r.Plan)
		r.LogTail = slices.Clone(r.LogTail)
		r.Metrics = slices.Clone(r.Metrics)
		s.Rollout = &r
	}
	return s
}

// Busy reports whether a rollout is under way.
func (s State) Busy() bool { return s.Rollout != nil && s.Rollout.Outcome == gapless.Running }

// homeward reports whether a rollout leads to a release that is known to
// serve. That may go on while the journal cannot be written; whatever a crash
// makes of it is observed then, and recorded later.
func (s State) homeward() bool {
	return s.Busy() && (s.Back || s.Known || s.Rollout.Cursor == len(s.Rollout.Plan))
}

// previous is the release that served before the present one, "" if none did.
func (s State) previous() string {
	if r := s.Rollout; s.Before == "" && r != nil && r.Outcome == gapless.Promoted && r.To == s.Stable && r.From != r.To {
		return r.From // saved by a version that did not write it down
	}
	return s.Before
}

// promoted reports whether the rollout is past the point of no return: the
// candidate is stable and the old release is on its way out.
func (s State) promoted() bool {
	r := s.Rollout
	for i := 0; i <= r.Cursor && i < len(r.Plan); i++ {
		if r.Plan[i].Kind == gapless.StepPromote && (i < r.Cursor || s.Entered) {
			return true
		}
	}
	return false
}

// woke makes a state that was read back fit to go on from. While nobody was
// there deadlines did not run: an hour without a daemon, or a clock that was
// set, neither cuts requests off nor gives stable up. What lies in the future
// begins now.
func (s *State) woke(now time.Time) {
	latest := func(t *time.Time) {
		if t.After(now) {
			*t = now
		}
	}
	if latest(&s.Since); s.Busy() && s.Back {
		s.Since = now
	}
	s.Folded, s.Learned, s.Shadowed = time.Time{}, time.Time{}, time.Time{}
	if b := s.Bake; b != nil && b.Since.After(now) {
		b.Since, b.Until = now, now.Add(b.Until.Sub(b.Since))
	}
	for i := range s.Members {
		m := &s.Members[i]
		if m.Role == Kept && m.Since.After(now) {
			m.Until = now.Add(m.Until.Sub(m.Since))
		}
		latest(&m.Since)
		latest(&m.SickAt)
		if m.Role == Leaving {
			m.Since, m.Out = now, time.Time{}
		}
	}
}

// InUse are the releases whose tree, environment and start recipe must stay:
// what serves, what served before it, what any instance is of, and both ends of
// the last rollout, also when it is over.
func (s State) InUse() map[string]bool {
	used := map[string]bool{s.Stable: true, s.Before: true}
	for _, m := range s.Members {
		used[m.Release] = true
	}
	if s.Rollout != nil {
		used[s.Rollout.From], used[s.Rollout.To] = true, true
	}
	delete(used, "")
	return used
}

// Idle reports whether nothing is left of the app but its record.
func (s State) Idle() bool { return s.Down && len(s.Members) == 0 }

func (s *State) member(id string) *Member {
	for i := range s.Members {
		if s.Members[i].ID == id {
			return &s.Members[i]
		}
	}
	return nil
}

// of lists the members of a role and process ("" is every process).
func (s *State) of(role Role, process string) []*Member {
	var out []*Member
	for i := range s.Members {
		m := &s.Members[i]
		if m.Role == role && (process == "" || m.Process == process) {
			out = append(out, m)
		}
	}
	return out
}

// freeSlot is the smallest slot number that no staying member of that release and process has.
func (s *State) freeSlot(release, process string) int {
	used := map[int]bool{}
	for _, m := range s.Members {
		if m.Release == release && m.Process == process && m.Role != Leaving {
			used[m.Slot] = true
		}
	}
	for n := 1; ; n++ {
		if !used[n] {
			return n
		}
	}
}

func (s State) processes() []string {
	names := make([]string, 0, len(s.Counts))
	for n := range s.Counts {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}
