package judge

import (
	"hash/fnv"
	"slices"
	"time"

	"gapless"
)

// Replay judges a recorded stream of requests as the edge and the daemon
// judge a rollout: limits of age from what stable took before, of a session
// its first request and its first bad answer, no latencies while instances
// warm up, a look after every request. Requests of stable that no coin was
// tossed for, before the rollout, tell what is normal: how bad answers and slow
// ones fall on its instances, how long it takes, how often it fails.
//
// It keeps a bounded amount, however long the stream is.
type Replay struct {
	config Config
	before before
	begun  bool
	judge  Judge

	start, t  float64 // of the first event that a coin was tossed for, and of the last one
	weight    float64 // of the last coin
	limited   []limited
	sessions  map[uint64]*session
	order     []uint64 // sessions by age, a ring
	oldest    int
	instances map[string]bool
	look      gapless.LatencyLook
	looked    float64

	candidate, stable gapless.Arm // of all weights

	decided Standing // the first that decides; Verdict.Kind "" until then
}

// Standing is how things stand at a time of the stream.
type Standing struct {
	T                 float64 // seconds, of the last event that counts
	Verdict           gapless.Verdict
	Candidate, Stable gapless.Arm // independent events until then: requests, or sessions where they stick
}

// Event is one request of a recorded stream.
type Event struct {
	T         float64 // seconds, when it ended
	Candidate bool    // whose it was by the coin
	W         float64 // candidate's share when the coin was tossed, over 0, at most 1; 0: there was no coin yet
	Bad       bool
	MS        float64 // how long it took
	Session   string  // "": the coin was of this request alone
	Instance  string  // "": not known
}

// Release names of a replay.
const (
	ReplayStable    = "stable"
	ReplayCandidate = "candidate"
)

// limited is since when which limits held.
type limited struct {
	since  float64
	limits gapless.LatencyLimits
}

type session struct {
	candidate, bad bool
	weight         float64
}

const (
	mostLimited  = 1024    // limits that a request may have come under and not ended yet
	mostSessions = 1 << 17 // then the oldest is forgotten, and new if it comes back
)

// NewReplay returns a replay that has seen nothing, or a gapless.Error about
// config, whose releases need not be named.
func NewReplay(config Config) (*Replay, error) {
	config.Candidate, config.Stable = ReplayCandidate, ReplayStable
	if _, err := New(config); err != nil {
		return nil, err
	}
	return &Replay{config: config, sessions: map[uint64]*session{}, instances: map[string]bool{}}, nil
}

// Add takes in the next event. It refuses what cannot be: time that runs
// backwards, a session that changes its release.
func (r *Replay) Add(e Event) error {
	if (r.begun || r.before.begun) && e.T < r.t {
		return gapless.Errorf(gapless.Invalid, "time runs backwards: t is %v after %v", e.T, r.t).
			WithHint("sort the requests by when they ended")
	}
	if e.W == 0 {
		if r.begun || e.Candidate {
			return gapless.Errorf(gapless.Invalid, "w is missing").
				WithHint("w is the candidate's share when the coin was tossed; only requests of stable before the rollout have none")
		}
		r.t = e.T
		r.before.add(e)
		return nil
	}
	if !r.begun {
		if err := r.begin(e); err != nil {
			return err
		}
	}
	again, err := r.session(e)
	if err != nil {
		return err
	}
	r.t, r.weight = e.T, e.W
	if r.Kind() == gapless.Worse {
		return nil
	}
	if isNew := r.meet(e); isNew || e.T-r.looked >= limitEvery.Seconds() {
		r.learn(e.T)
	}
	switch {
	case again == nil:
		r.observe(e)
	case e.Bad && !again.bad:
		again.bad = true
		r.count(gapless.Tally{Release: r.release(e), Weight: again.weight, Bad: 1, Late: 1})
	default:
		return nil
	}
	_, kind := r.judge.Glance(r.weight)
	if kind == gapless.Worse || kind == gapless.NotWorse && r.Kind() == gapless.Undecided {
		r.decided = r.standing()
	}
	return nil
}

// begin freezes what is known of stable, as a rollout does when it starts.
func (r *Replay) begin(e Event) (err error) {
	r.begun = true
	r.judge, err = New(r.before.into(r.config))
	r.before = before{}
	r.start, r.looked = e.T, e.T
	return err
}

// session notes the session of an event and returns it if it was known.
func (r *Replay) session(e Event) (*session, error) {
	if e.Session == "" {
		return nil, nil
	}
	h := fnv.New64a()
	h.Write([]byte(e.Session))
	id := h.Sum64()
	if s := r.sessions[id]; s != nil {
		if s.candidate != e.Candidate {
			return nil, gapless.Errorf(gapless.Invalid, "session %q changes its release", e.Session).
				WithHint("the coin is tossed once for a session; leave session out where it is tossed for each request")
		}
		return s, nil
	}
	if len(r.order) < mostSessions {
		r.order = append(r.order, id)
	} else {
		delete(r.sessions, r.order[r.oldest])
		r.order[r.oldest] = id
		r.oldest = (r.oldest + 1) % mostSessions
	}
	r.sessions[id] = &session{candidate: e.Candidate, bad: e.Bad, weight: e.W}
	return nil, nil
}

// meet notes the instance of an event and reports whether it is new. One
// stands for all that are not known.
func (r *Replay) meet(e Event) bool {
	id := r.release(e) + "/" + e.Instance
	isNew := !r.instances[id]
	if len(r.instances) >= mostInstances {
		clear(r.instances)
	}
	r.instances[id] = true
	if !slices.Contains(r.look.Instances, id) {
		r.look.Instances = append(r.look.Instances, id)
	}
	return isNew
}

func (r *Replay) release(e Event) string {
	if e.Candidate {
		return ReplayCandidate
	}
	return ReplayStable
}

func (r *Replay) learn(now float64) {
	r.look.At = time.Unix(0, 0).Add(time.Duration((now - r.start) * float64(time.Second)))
	r.judge = r.judge.Learn(r.look)
	r.look, r.looked = gapless.LatencyLook{}, now
	limits := r.judge.Limits()
	if n := len(r.limited); n == 0 || r.limited[n-1].limits.Version != limits.Version {
		if n >= mostLimited {
			r.limited = slices.Delete(r.limited, 0, n/2)
		}
		r.limited = append(r.limited, limited{now, limits})
	}
}

// observe takes in a request whose coin was its own, or a session's first.
func (r *Replay) observe(e Event) {
	t := gapless.Tally{Release: r.release(e), Weight: e.W, Requests: 1}
	if e.Bad {
		t.Bad = 1
	}
	limits := r.limitsAt(e.T - e.MS/1000)
	age := time.Duration(e.MS * float64(time.Millisecond))
	for q, limit := range limits.Quantile {
		if limit == 0 {
			continue
		}
		worse, margin := limit, limit
		if e.Candidate {
			worse, margin = limits.Worse[q], limits.Margin[q]
		}
		t.Paces.Worse[q], t.Paces.Margin[q] = paceOf(age > worse), paceOf(age > margin)
	}
	r.count(t)
	if e.Candidate {
		r.look.Candidate = counted(r.look.Candidate, e.MS)
	} else {
		r.look.Stable = counted(r.look.Stable, e.MS)
	}
}

func paceOf(slow bool) gapless.Pace {
	if slow {
		return gapless.Pace{Slow: 1}
	}
	return gapless.Pace{Fast: 1}
}

func counted(counts []uint64, ms float64) []uint64 {
	if counts == nil {
		counts = make([]uint64, gapless.LatencyBuckets)
	}
	counts[gapless.LatencyBucket(uint64(ms*1000))]++
	return counts
}

// limitsAt are the limits that held at a time; none if that is not known.
func (r *Replay) limitsAt(t float64) gapless.LatencyLimits {
	for i := len(r.limited) - 1; i >= 0; i-- {
		if r.limited[i].since <= t {
			return r.limited[i].limits
		}
	}
	return gapless.LatencyLimits{}
}

func (r *Replay) count(t gapless.Tally) {
	r.judge = r.judge.Observe([]gapless.Tally{t})
	a := &r.stable
	if t.Release == ReplayCandidate {
		a = &r.candidate
	}
	a.Requests += t.Requests
	a.Bad += t.Bad
}

func (r *Replay) standing() Standing {
	return Standing{r.t, r.judge.Verdict(r.weight), r.candidate, r.stable}
}

// Standing is how things stand: as they did when the stream was decided first,
// though a candidate that was not worse may be found worse later; or else as
// they do by now.
func (r *Replay) Standing() Standing {
	switch {
	case r.decided.Verdict.Kind != "":
		return r.decided
	case !r.begun:
		return Standing{T: r.t, Verdict: gapless.Verdict{
			Kind: gapless.Undecided, Test: gapless.TestErrors, NoData: true, Reason: "no data: no coin was tossed for any request"}}
	}
	return r.standing()
}

// Kind is the kind of Standing's verdict.
func (r *Replay) Kind() gapless.VerdictKind {
	if r.decided.Verdict.Kind == "" {
		return gapless.Undecided
	}
	return r.decided.Verdict.Kind
}

// before is what is known of stable before the rollout.
type before struct {
	begun     bool
	until     float64 // end of the window
	limits    [gapless.Quantiles]time.Duration
	bad       map[string]uint64 // in the window, by instance
	slow      [gapless.Quantiles]map[string]uint64
	spread    Dispersion
	slowness  [gapless.Quantiles]Dispersion
	latencies histogram
	record    gapless.Arm
}

const dispersionWindow = 10 // seconds

func (b *before) add(e Event) {
	if !b.begun {
		*b = before{begun: true, until: e.T + dispersionWindow, bad: map[string]uint64{}}
		for q := range b.slow {
			b.slow[q] = map[string]uint64{}
		}
	}
	if e.T >= b.until {
		b.window()
		b.until = e.T + dispersionWindow
	}
	b.record.Requests++
	if e.Bad {
		b.record.Bad++
	}
	b.latencies[gapless.LatencyBucket(uint64(e.MS*1000))]++
	if e.Instance == "" || len(b.bad) >= mostInstances {
		return
	}
	count := func(m map[string]uint64, yes bool) {
		if yes {
			m[e.Instance]++
		} else {
			m[e.Instance] += 0 // it serves
		}
	}
	count(b.bad, e.Bad)
	for q, limit := range b.limits {
		if limit > 0 {
			count(b.slow[q], e.MS*float64(time.Millisecond) > float64(limit))
		}
	}
}

// window ends a window.
func (b *before) window() {
	b.spread = b.spread.Observe(values(b.bad))
	clear(b.bad)
	for q, over := range gapless.Over() {
		b.slowness[q] = b.slowness[q].Observe(values(b.slow[q]))
		clear(b.slow[q])
		if b.latencies.total() >= enough[q] {
			b.limits[q] = b.latencies.quantile(1 - over)
		}
	}
}

func values(m map[string]uint64) []uint64 {
	list := make([]uint64, 0, len(m))
	for _, n := range m {
		list = append(list, n)
	}
	return list
}

// into adds what was learned to a config.
func (b *before) into(c Config) Config {
	if !b.begun {
		return c
	}
	b.window()
	c.Phi, _ = b.spread.Phi()
	for q := range b.slowness {
		c.PhiSlow[q], _ = b.slowness[q].Phi()
	}
	c.Record = b.record
	for i, n := range b.latencies {
		c.Latency[i] = uint64(n)
	}
	return c
}
