package daemon

import (
	"context"
	"iter"
	"log/slog"
	"sync"
	"time"

	"gapless"
	"gapless/internal/store"
)

// finished is the kind of a rollout's last event.
const finished = "rollout.finished"

// hub saves events and passes them on to who listens.
type hub struct {
	store *store.Store
	log   *slog.Logger

	mu        sync.Mutex
	listeners map[chan gapless.Event]string // → rollout ID
}

// emit saves and passes on one event. A listener that does not keep up loses
// its connection, never the events: they are in the store.
func (h *hub) emit(e gapless.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e, err := h.store.AddEvent(context.Background(), e)
	if err != nil { // it has no number then; who listens now hears it all the same
		h.log.Error("event lost", "err", err, "event", e.Message)
	}
	h.log.Info("event", "app", e.App, "kind", e.Kind, "rollout", e.Rollout, "instance", e.Instance, "message", e.Message)
	h.pass(e)
}

// tell passes on an event that nobody needs later. Who does not keep up
// misses it.
func (h *hub) tell(e gapless.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for ch, rollout := range h.listeners {
		if rollout == e.Rollout && len(ch) < cap(ch)/2 {
			ch <- e
		}
	}
}

// pass gives an event to those who listen. h.mu is held.
func (h *hub) pass(e gapless.Event) {
	for ch, rollout := range h.listeners {
		if rollout != e.Rollout {
			continue
		}
		select {
		case ch <- e:
		default:
			delete(h.listeners, ch)
			close(ch)
		}
	}
}

// overLooks is how many looks in a row must find a rollout over before its
// last event counts as lost.
const overLooks = 2

// follow yields a rollout's events after number since until it is finished.
// The last event may be lost: a daemon was killed after it saved the outcome,
// or the disk is full. So look tells now and then how the rollout is.
func (h *hub) follow(ctx context.Context, rollout string, since int64, look func() (gapless.Rollout, error)) iter.Seq2[gapless.Event, error] {
	return func(yield func(gapless.Event, error) bool) {
		ch := make(chan gapless.Event, 256)
		h.mu.Lock()
		h.listeners[ch] = rollout
		h.mu.Unlock()
		defer func() {
			h.mu.Lock()
			delete(h.listeners, ch)
			h.mu.Unlock()
		}()
		past, err := h.store.Events(ctx, rollout, since)
		if err != nil {
			yield(gapless.Event{}, err)
			return
		}
		for _, e := range past {
			since = e.Seq
			if !yield(e, nil) || e.Kind == finished {
				return
			}
		}
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for over := 0; ; {
			select {
			case <-ctx.Done():
				yield(gapless.Event{}, ctx.Err())
				return
			case <-tick.C:
				r, err := look()
				if err != nil || r.Outcome == gapless.Running {
					over = 0
				} else if over++; over >= overLooks {
					yield(gapless.Event{Time: r.Finished, App: r.App, Rollout: r.ID, Release: r.To, Kind: finished, Message: string(r.Outcome)}, nil)
					return
				}
			case e, open := <-ch:
				if !open {
					yield(gapless.Event{}, gapless.Errorf(gapless.Unavailable, "events came faster than they were read"))
					return
				}
				if e.Seq != 0 && e.Seq <= since {
					continue
				}
				if !yield(e, nil) || e.Kind == finished {
					return
				}
			}
		}
	}
}
