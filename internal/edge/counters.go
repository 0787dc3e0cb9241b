package edge

import (
	"cmp"
	"slices"
	"sync"

	"gapless"
)

// Counters are the evidence that one edge process has: what the coin gave to
// each release and how it went. They are cumulative. What can grow no more is
// freed once a report of its last value was acknowledged, and nothing else
// ever is. The zero value is ready; no I/O.
type Counters struct {
	mu      sync.Mutex
	cells   map[CounterKey]*cell
	number  uint64            // last one given to a cell
	seq     uint64            // of the last report
	current map[string]uint64 // version of each app's present route
	acked   map[string]uint64 // reports up to here were taken in, per app
	recent  [4]recent         // of what was counted last: most requests are like those before
	turn    int
}

type recent struct {
	key  CounterKey
	cell *cell
}

// CounterKey is what a counter counts by.
type CounterKey struct {
	App, Release, Instance, Kind string
	Session                      string // see gapless.SessionNew
	Version                      uint64
	Weight                       float64 // when the coin was tossed
}

type cell struct {
	number              uint64
	requests, bad, late uint64
	paces               gapless.Paces // as they were reported last
	pacer               *pacer        // nil: ages are not counted here
	told                bool          // the values as they are now were reported
	at                  uint64        // in this report first
}

// mostCells bounds how many fine counters there are. From there on what is
// new is counted by release and weight only: coarser, but nothing is lost.
// Only tables bring new weights, and whoever makes tables acknowledges.
const mostCells = 2048

// kindBad stands for every kind of bad answer in a coarse counter.
const kindBad = "bad"

func (k CounterKey) coarse() CounterKey {
	k.Instance, k.Version = "", 0
	if k.Kind != "" {
		k.Kind = kindBad
	}
	return k
}

// Serve tells the version of every app's present route. Counters of others
// grow only by what is still in flight.
func (c *Counters) Serve(versions map[string]uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = versions
}

// Add counts one request, by its kind; late means that it was counted as a
// good one before.
func (c *Counters) Add(k CounterKey, late bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.find(k)
	x.told = false
	if k.Kind != "" {
		x.bad++
	}
	if late {
		x.late++
	} else {
		x.requests++
	}
}

// find returns the cell of k, a new one if there is none.
func (c *Counters) find(k CounterKey) *cell {
	for i := range c.recent {
		if r := &c.recent[i]; r.cell != nil && r.key == k {
			return r.cell
		}
	}
	fine := k
	x := c.cells[k]
	if x == nil && len(c.cells) >= mostCells {
		k = k.coarse()
		x = c.cells[k]
	}
	if x == nil {
		if c.cells == nil {
			c.cells = map[CounterKey]*cell{}
		}
		c.number++
		x = &cell{number: c.number}
		c.cells[k] = x
	}
	c.recent[c.turn] = recent{fine, x}
	c.turn = (c.turn + 1) % len(c.recent)
	return x
}

// pacer is what ages are counted by for k.
func (c *Counters) pacer(k CounterKey) *pacer {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.find(k)
	if x.pacer == nil {
		x.pacer = &pacer{}
	}
	return x.pacer
}

// age counts the requests that have become too old in flight.
func (c *Counters) age(now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.cells {
		if x.pacer != nil {
			x.pacer.look(now)
		}
	}
}

// Report lists all counters, by number. seq is the report's own number.
func (c *Counters) Report() (seq uint64, list []gapless.Counter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	c.free()
	for k, x := range c.cells {
		if x.pacer != nil {
			if now := x.pacer.sum(); now != x.paces {
				x.paces, x.told = now, false
			}
		}
		if !x.told {
			x.told, x.at = true, c.seq
		}
		if x.requests == 0 && x.bad == 0 && x.paces == (gapless.Paces{}) {
			continue // it waits for the first one
		}
		list = append(list, gapless.Counter{
			Number: x.number, App: k.App, Version: k.Version, Release: k.Release, Instance: k.Instance,
			Weight: k.Weight, Kind: k.Kind, Session: k.Session, Requests: x.requests, Bad: x.bad, Late: x.late, Paces: x.paces,
		})
	}
	slices.SortFunc(list, func(a, b gapless.Counter) int { return cmp.Compare(a.Number, b.Number) })
	return c.seq, list
}

// Acknowledge says that what the reports up to seq told of an app is kept by
// somebody for good, or that nobody wants it.
func (c *Counters) Acknowledge(app string, seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.acked == nil {
		c.acked = map[string]uint64{}
	}
	c.acked[app] = max(c.acked[app], min(seq, c.seq))
}

// free drops what can grow no more and was acknowledged. A request that is
// still in flight may bring one of them back, as another counter.
func (c *Counters) free() {
	for k, x := range c.cells {
		if x.told && c.acked[k.App] >= x.at && k.Version != c.current[k.App] && (x.pacer == nil || x.pacer.free(x.paces)) {
			delete(c.cells, k)
			c.recent = [len(c.recent)]recent{}
		}
	}
}
