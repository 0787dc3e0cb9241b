package cli

import (
	"context"
	"errors"
	"time"

	"gapless"
	"gapless/internal/api"
)

// reconnectLimit is how long a watcher waits for a daemon that went away.
const reconnectLimit = 20 * time.Second

// follow sends a rollout's events until it is finished; it outlives a restart of the daemon.
func follow(ctx context.Context, client *api.Client, id string, to chan<- gapless.Event) error {
	var since int64
	lost := time.Time{}
	for {
		var broken error
		for e, err := range client.Events(ctx, id, since) {
			if err != nil {
				broken = err
				break
			}
			since, lost = max(since, e.Seq), time.Time{} // one that could not be saved has no number
			select {
			case to <- e:
			case <-ctx.Done():
				return ctx.Err()
			}
			if e.Kind == "rollout.finished" {
				return nil
			}
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case broken != nil && gapless.CodeOf(broken) != gapless.Unavailable:
			return broken
		case lost.IsZero():
			lost = time.Now()
		case time.Since(lost) > reconnectLimit:
			return errors.Join(gapless.Errorf(gapless.Unavailable, "the daemon is gone, the outcome is not known").
				WithHint("see: gapless status"), broken)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// look is the state of a rollout and its app at one moment.
type look struct {
	rollout gapless.Rollout
	app     api.AppStatus
	tail    []api.LogLine // of the candidate's instances that are in trouble
}

// tailLines is how much of a failing instance's log the live view shows.
const tailLines = 5

// look sends what it sees now and then. A daemon that is away is not looked for here.
func (w *watcher) look(ctx context.Context, to chan<- look) {
	for tick := time.NewTicker(lookEvery); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		l, err := w.lookOnce(ctx)
		if err != nil {
			continue
		}
		select {
		case to <- l:
		case <-ctx.Done():
		}
	}
}

func (w *watcher) lookOnce(ctx context.Context) (look, error) {
	var l look
	var err error
	if w.live == nil { // plain lines need no more
		l.rollout, err = w.client.Rollout(ctx, w.id)
		return l, err
	}
	st, err := w.client.Status(ctx)
	if err != nil {
		return l, err
	}
	apps := only(st.Apps, w.app)
	if len(apps) == 0 || apps[0].Rollout == nil || apps[0].Rollout.ID != w.id {
		return l, gapless.Errorf(gapless.NotFound, "no rollout %s", w.id)
	}
	l.app, l.rollout = apps[0], *apps[0].Rollout
	for _, in := range l.app.Instances {
		if in.Release != l.rollout.To || !troubled(in) || len(l.tail) > 0 {
			continue
		}
		for line, err := range w.client.Logs(ctx, l.app.Name, api.LogRequest{Lines: tailLines, Instance: in.Label()}) {
			if err != nil {
				break
			}
			l.tail = append(l.tail, line)
		}
	}
	return l, nil
}

func troubled(in api.InstanceStatus) bool {
	return in.State == gapless.Crashed || in.State == gapless.Failed || in.Restarts > 0 || in.Exit != nil || !in.Healthy
}
