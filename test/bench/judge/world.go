package main

import (
	"math"

	"gapless"
)

// scenario is a service and its candidate.
type scenario struct {
	rps                       float64
	stableBad, candidateBad   float64 // shares of bad answers, 0…1
	stablePace, candidatePace pace

	bursts  bool // the load of each 10 s is multiplied by an exponential draw of mean 1
	drift   bool // both shares of bad answers × 0.1 … 10, a sine of ten minutes
	shared  bool // every two minutes or so something that both need fails 5 % for 5 s
	hiccups bool // each of ten instances fails 50 % for 1 s, every ten minutes or so
	sticky  bool // sessions of 20 requests; of 0.5 % of the sessions every request fails
	cold    bool // the candidate is ten times as slow when it starts; this falls off with a time constant of 10 s
	slowed  bool // every minute or so both releases are three times as slow for 5 s

	candidates int // instances of the candidate among the ten; 0: one
}

const (
	instances       = 10
	burstEvery      = 10  // seconds
	driftPeriod     = 600 // seconds
	sharedEvery     = 120
	sharedFor       = 5
	sharedBad       = 0.05
	hiccupEvery     = 600
	hiccupFor       = 1
	hiccupBad       = 0.5
	sessionRequests = 20
	sessionHalf     = 30 // seconds: time constant in which a session's later requests come
	cursedSessions  = 0.005
	coldTimes       = 10
	coldFor         = 10
	slowedEvery     = 60
	slowedFor       = 5
	slowedTimes     = 3
)

// arm is what one release was given in a stretch of time.
type arm struct {
	requests, bad uint64 // as whoever counts requests sees it
	latency       histogram
	paces         gapless.Paces
	events        events // as gapless counts: by sessions where they stick
}

// events are independent: requests, or sessions.
type events struct{ requests, bad, late uint64 }

// stretch is a short time in which nothing about the world changes.
type stretch struct {
	from, length      float64 // seconds
	weight            float64
	stable, candidate arm
}

// fault is something that comes and goes by itself.
type fault struct {
	on    bool
	until float64
}

// step brings a fault to a time: it stays on for a fixed time and off for an
// exponential one.
func (f *fault) step(d dice, now, every, length float64) {
	for now >= f.until {
		if f.on = !f.on; f.on {
			f.until += length
		} else {
			f.until += d.ExpFloat64() * every
		}
	}
}

// world plays a scenario.
type world struct {
	scenario
	dice  dice
	now   float64
	load  float64 // × rps, of the present burst
	until float64 // the burst's end

	incident, slump fault
	hiccup          [instances]fault // the candidate's first
	pool            [2]sessions      // stable's, candidate's

	cache map[cacheKey]cells
	known map[pace]*survival
}

type cacheKey struct {
	candidate bool
	version   uint64
	times     float64
}

// sessions are those that will still do something. They are all of one weight:
// no scenario has both sessions and a ramp.
type sessions struct {
	curse uint64 // requests of sessions that always fail, yet to come
	late  uint64 // sessions whose first bad answer is yet to come
}

func newWorld(s scenario, d dice) *world {
	if s.candidates == 0 {
		s.candidates = 1
	}
	w := &world{scenario: s, dice: d, load: 1, cache: map[cacheKey]cells{}, known: map[pace]*survival{}}
	off := func(every float64) fault { return fault{until: d.ExpFloat64() * every} }
	w.incident, w.slump = off(sharedEvery), off(slowedEvery)
	for i := range w.hiccup {
		w.hiccup[i] = off(hiccupEvery)
	}
	return w
}

// next plays at most so many seconds, or until something changes.
func (w *world) next(weight float64, limits gapless.LatencyLimits, most float64) *stretch {
	end := w.now + most
	if w.bursts {
		if w.now >= w.until {
			w.load, w.until = w.dice.ExpFloat64(), w.until+burstEvery
		}
		end = min(end, w.until)
	}
	if w.shared {
		w.incident.step(w.dice, w.now, sharedEvery, sharedFor)
		end = min(end, w.incident.until)
	}
	if w.slowed {
		w.slump.step(w.dice, w.now, slowedEvery, slowedFor)
		end = min(end, w.slump.until)
	}
	if w.hiccups {
		for i := range w.hiccup {
			w.hiccup[i].step(w.dice, w.now, hiccupEvery, hiccupFor)
			end = min(end, w.hiccup[i].until)
		}
	}
	s := &stretch{from: w.now, length: end - w.now, weight: weight}
	w.play(s, limits)
	w.now = end
	return s
}

// hour plays an hour of stable alone, on all instances, and calls window with
// the bad answers of each in every ten seconds.
func (w *world) hour(window func(bad []uint64)) {
	const second, seconds = 1.0, 10
	bad := make([]uint64, instances)
	for at := 0.0; at < 3600; at += seconds {
		clear(bad)
		rate := w.rps / instances * w.stableBad
		if !w.hiccups {
			for i := range bad {
				bad[i] = w.dice.poisson(rate * seconds)
			}
			window(bad)
			continue
		}
		for i := range bad {
			for t := range seconds {
				w.hiccup[i].step(w.dice, at+float64(t), hiccupEvery, hiccupFor)
				if w.hiccup[i].on {
					bad[i] += w.dice.poisson(w.rps / instances * max(w.stableBad, hiccupBad) * second)
				} else {
					bad[i] += w.dice.poisson(rate * second)
				}
			}
		}
		window(bad)
	}
	for i := range w.hiccup { // the clock starts anew
		w.hiccup[i].until = max(0, w.hiccup[i].until-3600)
	}
}

func (w *world) play(s *stretch, limits gapless.LatencyLimits) {
	mean := w.rps * w.load * s.length
	stable, candidate := w.stableBad, w.candidateBad
	if w.drift {
		f := math.Pow(10, math.Sin(2*math.Pi*s.from/driftPeriod))
		stable, candidate = min(1, stable*f), min(1, candidate*f)
	}
	if w.shared && w.incident.on {
		stable, candidate = max(stable, sharedBad), max(candidate, sharedBad)
	}
	if w.hiccups {
		candidate = w.withHiccups(candidate, 0, w.candidates)
		stable = w.withHiccups(stable, w.candidates, instances)
	}
	w.arm(&s.candidate, 1, s, mean*s.weight, candidate, limits)
	w.arm(&s.stable, 0, s, mean*(1-s.weight), stable, limits)
}

// withHiccups is the mean over the instances, which are given equal shares.
func (w *world) withHiccups(bad float64, from, to int) float64 {
	sum := 0.0
	for _, h := range w.hiccup[from:to] {
		if h.on {
			sum += max(bad, hiccupBad)
		} else {
			sum += bad
		}
	}
	return sum / float64(to-from)
}

// arm draws what one release is given and how it answers; mean is of requests.
func (w *world) arm(a *arm, which int, s *stretch, mean, bad float64, limits gapless.LatencyLimits) {
	p := w.stablePace
	if which == 1 {
		p = w.candidatePace
		if w.cold {
			p.times = max(p.times, 1) * (1 + (coldTimes-1)*math.Exp(-math.Round(s.from)/coldFor))
		}
	}
	if w.slowed && w.slump.on {
		p.times = max(p.times, 1) * slowedTimes
	}
	c := w.cells(which == 1, p, limits)
	if w.sticky {
		c.draw(w.dice, mean/sessionRequests, a) // the first requests of sessions
		w.session(a, &w.pool[which], s, bad)
	} else {
		c.draw(w.dice, mean, a)
		a.bad = w.dice.binomial(a.requests, bad)
		a.events = events{requests: a.requests, bad: a.bad}
	}
	for q, limit := range limits.Quantile {
		if limit == 0 { // nothing is counted by it
			a.paces.Worse[q], a.paces.Margin[q] = gapless.Pace{}, gapless.Pace{}
		}
	}
}

func (w *world) cells(candidate bool, p pace, limits gapless.LatencyLimits) cells {
	k := cacheKey{candidate, limits.Version, p.times}
	c, ok := w.cache[k]
	if !ok {
		worse, margin := limits.Quantile, limits.Quantile
		if candidate {
			worse, margin = limits.Worse, limits.Margin
		}
		if len(w.cache) > 64 {
			clear(w.cache)
		}
		known := w.known[p]
		if known == nil {
			if len(w.known) > 64 {
				clear(w.known)
			}
			known = p.survival()
			w.known[p] = known
		}
		c = cut(p, known, worse, margin)
		w.cache[k] = c
	}
	return c
}

// session makes sessions of the first requests that a already has, and lets
// those of before go on.
func (w *world) session(a *arm, pool *sessions, s *stretch, bad float64) {
	begun := a.requests
	cursed := w.dice.binomial(begun, cursedSessions)
	first := w.dice.binomial(begun-cursed, bad)
	later := w.dice.binomial(begun-cursed-first, 1-math.Pow(1-bad, sessionRequests-1))
	gone := 1 - math.Exp(-s.length/sessionHalf)

	a.events = events{requests: begun, bad: cursed + first}
	pool.late += later
	late := w.dice.binomial(pool.late, gone)
	pool.late -= late
	a.events.bad += late
	a.events.late += late

	pool.curse += cursed * (sessionRequests - 1)
	curse := w.dice.binomial(pool.curse, gone)
	pool.curse -= curse
	rest := w.dice.poisson(float64(begun) * (sessionRequests - 1))
	a.requests = begun + rest
	a.bad = min(a.requests, cursed+first+curse+w.dice.binomial(rest, bad))
}
