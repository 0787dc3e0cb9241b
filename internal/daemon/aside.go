package daemon

import (
	"slices"
	"sync"

	"gapless/internal/rollout"
)

// mostAside bounds the states that wait.
const mostAside = 1000

// aside does what follows from a state that was saved and that no round waits
// for: what it does comes behind the actions of the round, of which one may be
// the way back. What is lost with a daemon that is killed follows from the
// states that the next one reads. The zero value is ready.
type aside struct {
	mu      sync.Mutex
	waiting []rollout.State // the oldest first
	works   bool
}

// put lets do have s after the states before it. Where too many wait, the
// oldest one is dropped; a newer one of its app tells most of it.
func (a *aside) put(s rollout.State, begin func(func()), do func(rollout.State)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) >= mostAside {
		a.waiting = slices.Delete(a.waiting, 0, 1)
	}
	a.waiting = append(a.waiting, s)
	if !a.works {
		a.works = true
		begin(func() { a.work(do) })
	}
}

// work ends when nothing waits any more.
func (a *aside) work(do func(rollout.State)) {
	for {
		a.mu.Lock()
		if len(a.waiting) == 0 {
			a.waiting, a.works = nil, false
			a.mu.Unlock()
			return
		}
		s := a.waiting[0]
		a.waiting = slices.Delete(a.waiting, 0, 1)
		a.mu.Unlock()
		do(s)
	}
}

// follow writes down what serves, and tells whom a state concerns.
func (d *Daemon) follow(s rollout.State) {
	if err := d.records.save(s); err != nil {
		d.log.Warn("the copy beside the database is old", "err", err)
	}
	d.notices.see(s)
}
