package rollout

import (
	"time"

	"gapless"
)

// leave stops drained members and forgets stopped ones.
func (d *decision) leave() {
	keep := d.s.Members[:0]
	for i := range d.s.Members {
		m := d.s.Members[i]
		in, known := d.obs.Instances[m.ID]
		if m.Role != Leaving {
			keep = append(keep, m)
			continue
		}
		if !known && !m.Seen && d.now.Sub(m.Since) < RetryStart {
			keep = append(keep, m) // its start may not be visible yet
			continue
		}
		if !m.Stop && d.drained(&m, known) {
			m.Stop = true
			if known && m.Process == gapless.WebProcess && m.WasUp {
				d.noteOf(in, "", "instance.drained", "%s is drained", in.Label())
			}
		}
		if m.Stop && (!known || in.State == gapless.Stopped) {
			if known {
				d.act(Action{Kind: ActForget, Instance: gapless.Instance{ID: m.ID}})
			}
			continue
		}
		if m.Stop && in.State != gapless.Stopping {
			d.act(Action{Kind: ActStop, Instance: gapless.Instance{ID: m.ID}})
		}
		keep = append(keep, m)
	}
	d.s.Members = keep
}

// drainSlack is what an edge gets to say that it ended what was left at the deadline.
const drainSlack = time.Second

// drained reports whether a leaving member may be stopped: every live edge
// generation serves a table in which it is not picked, and nothing is in
// flight for it or its drain deadline passed since then. Unknown is not zero;
// only edges that are out of reach for minutes are not waited for.
func (d *decision) drained(m *Member, known bool) bool {
	if m.Process != gapless.WebProcess || !known || plantedStopFirst {
		return true
	}
	drain := d.obs.drain(m.Release, d.s.Stable).Std()
	if !d.obs.Served.Known {
		return d.now.Sub(m.Since) >= drain+StuckLimit
	}
	if d.picked(m.ID) {
		m.Out = time.Time{}
		return false
	}
	if m.Out.IsZero() {
		m.Out = d.now
	}
	switch {
	case d.obs.Served.InFlight[m.ID] == 0, plantedEarlyZero:
		return true
	case d.now.Sub(m.Out) < drain+drainSlack:
		return false
	}
	d.noteOf(d.seen(m), "warn", "instance.drain_timeout", "%s still has work in flight after %s, it is stopped now",
		d.seen(m).Label(), drain)
	return true
}

// picked reports whether the served route gives new requests to an instance.
func (d *decision) picked(id string) bool {
	if d.obs.Served.Route != nil {
		for _, t := range d.obs.Served.Route.Targets {
			if t.Instance == id {
				return !t.Draining
			}
		}
	}
	return false
}
