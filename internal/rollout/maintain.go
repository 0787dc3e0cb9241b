package rollout

import (
	"fmt"
	"time"

	"gapless"
)

// maintain keeps stable at its wanted number of instances and replaces those
// that use too much memory or stopped answering.
func (d *decision) maintain() {
	for _, m := range d.s.of(Kept, "") {
		if !d.now.Before(m.Until) || !d.ready(m) {
			d.dismiss(m)
		}
	}
	rel := d.obs.Releases[d.s.Stable]
	if d.s.Stable == "" || rel == nil {
		return
	}
	for _, name := range d.s.processes() {
		p := rel.Spec.Process(name)
		if p == nil {
			continue
		}
		d.discard(name)
		have := 0
		for _, m := range d.s.of(Stable, name) {
			if m.Ousts == "" {
				have++
			}
		}
		want := d.s.Counts[name] - d.s.Drained[name]
		if p.Singleton && len(d.s.of(Leaving, name))+len(d.s.of(Candidate, name)) > 0 {
			continue // never two at once
		}
		for ; have < want; have++ {
			d.add(d.s.Stable, name, Stable)
		}
		for ; have > want && !d.s.Busy(); have-- {
			d.dismiss(d.weakest(name))
		}
		d.replace(p)
	}
}

// discard gives up stable members that nobody starts again.
func (d *decision) discard(process string) {
	for _, m := range d.s.of(Stable, process) {
		in := d.seen(m)
		since := in.Since
		if since.Before(m.Since) || since.After(d.now) {
			since = m.Since
		}
		if in.State == gapless.Stopped || in.State == gapless.Failed && d.now.Sub(since) >= RetryStart {
			d.dismiss(m)
		}
	}
}

// replace swaps sick and overgrown instances one by one: the new one first,
// except for singletons.
func (d *decision) replace(p *gapless.Process) {
	if d.s.Busy() || p.Cron != "" {
		return
	}
	for _, m := range d.s.of(Stable, p.Name) {
		if m.Ousts != "" {
			old := d.s.member(m.Ousts)
			if old == nil || old.Role == Leaving {
				m.Ousts = ""
			} else if d.ready(m) && (!d.ready(old) || d.countReady(Stable, p.Name) > d.s.Counts[p.Name]) {
				m.Ousts = ""
				d.dismiss(old)
			}
			return // one at a time
		}
	}
	for _, m := range d.s.of(Stable, p.Name) {
		in := d.seen(m)
		sick := !m.SickAt.IsZero() && d.now.Sub(m.SickAt) >= SickLimit
		if !in.OverMem && !sick {
			continue
		}
		reason := fmt.Sprintf("has failed its probe for %s", d.now.Sub(m.SickAt).Round(time.Second))
		if in.OverMem {
			reason = fmt.Sprintf("uses %d MB, more than its memory limit of %d MB", in.Memory>>20, p.Memory>>20)
		}
		d.note("warn", "instance.replaced", in.Label(), "%s %s, it is replaced", in.Label(), reason)
		if p.Singleton {
			d.dismiss(m)
			return
		}
		id := m.ID
		d.add(d.s.Stable, p.Name, Stable).Ousts = id
		return
	}
}

// weakest is the stable member that is missed least: one that is not ready,
// else one over its memory limit, else the one of the highest slot.
func (d *decision) weakest(process string) *Member {
	var worst *Member
	rank := func(m *Member) int {
		switch {
		case !d.ready(m):
			return 2
		case d.seen(m).OverMem:
			return 1
		}
		return 0
	}
	for _, m := range d.s.of(Stable, process) {
		if worst == nil || rank(m) > rank(worst) || rank(m) == rank(worst) && m.Slot > worst.Slot {
			worst = m
		}
	}
	return worst
}
