package cli

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"time"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/api"
)

// watchFlags say how a rollout is watched.
type watchFlags struct {
	detach      bool
	timeout     time.Duration // 0: none
	pauseIsFine bool
	onInterrupt string // detach, abort
}

func (f *watchFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.BoolVarP(&f.detach, "detach", "d", false, "do not wait for the outcome")
	fl.DurationVar(&f.timeout, "timeout", 0, "stop waiting after this long, with exit code 5; the rollout goes on")
	fl.BoolVar(&f.pauseIsFine, "success-on-pause", false, "exit with 0 instead of 8 when the rollout waits for a person")
	fl.StringVar(&f.onInterrupt, "on-interrupt", "detach", "what Ctrl-C does: detach, or abort to take the rollout back")
}

func (f *watchFlags) check() error {
	switch {
	case f.onInterrupt != "detach" && f.onInterrupt != "abort":
		return gapless.Errorf(gapless.Invalid, "--on-interrupt %s is neither detach nor abort", f.onInterrupt).
			WithHint("write --on-interrupt detach, which is the default, or --on-interrupt abort")
	case f.timeout < 0:
		return gapless.Errorf(gapless.Invalid, "--timeout %s is negative", f.timeout).
			WithHint("write how long to wait, as in --timeout 10m, or leave it out to wait to the end")
	}
	return nil
}

// How often a watcher looks, and how long it may be silent off a terminal.
const (
	lookEvery      = 500 * time.Millisecond
	heartbeatEvery = 30 * time.Second
)

// watcher follows one rollout and shows it.
type watcher struct {
	id, app   string // of the rollout; r changes
	c         *command
	client    *api.Client
	r         gapless.Rollout // as last seen
	f         watchFlags
	began     time.Time
	from      time.Time // what happened before is not shown
	live      *live     // nil off a terminal
	paused    bool      // by a key of this view
	heartbeat time.Duration
}

// watch follows a rollout to its end, prints what happens and turns the
// outcome into the command's result. Ctrl-C only detaches: the daemon goes on.
func (c *command) watch(ctx context.Context, client *api.Client, r gapless.Rollout, f watchFlags) error {
	return c.watchFrom(ctx, client, r, f, time.Time{})
}

// watchFrom is watch that is silent about what happened before from.
func (c *command) watchFrom(ctx context.Context, client *api.Client, r gapless.Rollout, f watchFlags, from time.Time) error {
	if f.detach {
		if c.json {
			return c.answer(r)
		}
		c.term.answerf("%s", r.ID)
		return nil
	}
	w := &watcher{c: c, client: client, id: r.ID, app: r.App, r: r, f: f, began: time.Now(), from: from, heartbeat: heartbeatEvery}
	if c.term.live && !c.stream {
		w.live = newLive(c.term, r)
	}
	err := w.run(ctx)
	if w.live != nil {
		if l, lost := w.lookOnce(ctx); lost == nil {
			w.live.update(l)
		}
		w.live.close()
	}
	return w.end(ctx, err)
}

// Why a watcher stopped before the end.
var (
	errTimeout = errors.New("timeout")
	errWaiting = errors.New("waiting")
	errLeft    = errors.New("left")
)

// run returns nil when the rollout is over, else why it stopped to watch.
func (w *watcher) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, looks := make(chan gapless.Event), make(chan look)
	over := make(chan error, 1)
	go func() { over <- follow(ctx, w.client, w.r.ID, events) }()
	go w.look(ctx, looks)
	var timeout <-chan time.Time
	if w.f.timeout > 0 {
		timeout = time.After(w.f.timeout)
	}
	silent := time.NewTimer(w.heartbeat)
	defer silent.Stop()
	for {
		select {
		case e := <-events:
			if e.Kind == gapless.EventEvidence && !w.c.stream {
				continue // too many to print; the view looks by itself
			}
			silent.Reset(w.heartbeat)
			w.event(e)
			if e.Kind == "rollout.waiting" && w.waits(ctx) {
				return errWaiting
			}
		case l := <-looks:
			w.r = l.rollout
			w.live.update(l)
			if l.rollout.Waiting != "" && w.waits(ctx) {
				return errWaiting
			}
		case key := <-w.live.typed():
			if err := w.key(ctx, key); err != nil {
				return err
			}
		case <-w.live.tick():
			w.live.draw()
		case <-silent.C:
			silent.Reset(w.heartbeat)
			w.beat()
		case <-timeout:
			return errTimeout
		case err := <-over:
			return err
		}
	}
}

// event shows one event.
func (w *watcher) event(e gapless.Event) {
	switch {
	case w.c.stream:
		_ = w.c.term.jsonLine(e)
	case e.Time.Before(w.from):
	case w.live != nil:
		w.live.event(e)
	default:
		w.c.term.event(e)
	}
}

// beat says that nothing happened for a while, off a terminal.
func (w *watcher) beat() {
	r := w.r
	if w.live != nil || w.c.stream || r.Outcome != gapless.Running {
		return
	}
	at := "making the release"
	if r.Cursor < len(r.Plan) {
		at = fmt.Sprintf("step %d of %d, %s, at %s", r.Cursor+1, len(r.Plan), r.Plan[r.Cursor], gapless.Percent(r.Weight))
	}
	w.c.term.event(gapless.Event{Time: time.Now(), App: r.App, Kind: "heartbeat", Message: at})
}

// waits reports whether the rollout waits for a person now, and not for the
// one who paused it in this view.
func (w *watcher) waits(ctx context.Context) bool {
	r, err := w.client.Rollout(ctx, w.r.ID)
	if err != nil {
		return false
	}
	w.r = r
	return r.Outcome == gapless.Running && r.Waiting != "" && !w.paused
}

// key does what a key of the live view means.
func (w *watcher) key(ctx context.Context, key byte) error {
	var err error
	switch key {
	case 'q', 3:
		return errLeft
	case 'p', 'P':
		w.paused = !w.paused
		if w.paused {
			_, err = w.client.Pause(ctx, w.r.App)
		} else {
			_, err = w.client.Resume(ctx, w.r.App)
		}
		if err != nil {
			w.paused = !w.paused
		}
	case 'a':
		_, err = w.client.Abort(ctx, w.r.App)
	}
	if err != nil && ctx.Err() == nil {
		w.live.say(bad.Render("!") + " " + err.Error())
	}
	return nil
}

// end says how it ended, or how it goes on, and returns the exit code's error.
func (w *watcher) end(ctx context.Context, err error) error {
	c, r := w.c, w.r
	left := errors.Is(err, errLeft) || err != nil && ctx.Err() != nil
	if left && w.f.onInterrupt == "abort" && !errors.Is(err, errLeft) {
		return w.interrupted(ctx)
	}
	switch {
	case left:
		c.term.sayf("detached, the %s goes on", r.Kind)
		c.term.hintf("follow it: gapless status -f %s · stop it: gapless abort %s", r.App, r.App)
		return &exitCode{gapless.Detached}
	case err != nil && !errors.Is(err, errTimeout) && !errors.Is(err, errWaiting):
		return err
	}
	if now, lost := w.client.Rollout(ctx, r.ID); lost == nil {
		r = now
	} else if err == nil {
		return lost
	}
	if c.json {
		if err := c.answer(r); err != nil {
			return err
		}
	}
	switch {
	case errors.Is(err, errTimeout):
		return gapless.Errorf(gapless.TimedOut, "the %s of %s is not over after %s, it goes on", r.Kind, r.App, w.f.timeout).
			WithHint("follow it: gapless status -f %s · stop it: gapless abort %s", r.App, r.App)
	case errors.Is(err, errWaiting):
		c.waiting(r)
		if w.f.pauseIsFine {
			return nil
		}
		return &exitCode{gapless.Waiting}
	}
	return c.outcome(ctx, w.client, r, time.Since(w.began))
}

// interrupted takes the rollout back and watches that; a second Ctrl-C leaves.
func (w *watcher) interrupted(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(context.WithoutCancel(ctx), interrupts()...)
	defer stop()
	w.c.term.sayf("interrupted, taking the %s back", w.r.Kind)
	if _, err := w.client.Abort(ctx, w.r.App); err != nil {
		if r, lost := w.client.Rollout(ctx, w.r.ID); lost != nil || r.Outcome == gapless.Running {
			return err
		} // it ended by itself just now
	}
	f := w.f
	f.onInterrupt, f.timeout = "detach", 0
	return w.c.watchFrom(ctx, w.client, w.r, f, time.Now())
}
