package supervise

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"time"

	"gapless"
)

// instance is one running copy of a release: a process at a time, started
// again when it crashes. Its life is one goroutine; Observe and the watcher
// look at it from outside.
type instance struct {
	s      *Supervisor
	id     string
	rel    *gapless.Release // nil: adopted, and its release is not known any more
	values map[string]string
	proc   gapless.Process
	grace  time.Duration

	// Of the life goroutine alone:
	run      int64  // number of the next run
	crashes  int    // in a row
	previous string // host ID of the last run, kept by the host until the next one runs

	stop     chan struct{} // closed by Stop
	stopOnce sync.Once
	launched chan struct{} // closed when the first process runs, or cannot
	startErr error         // valid once launched is closed

	mu   sync.Mutex
	view gapless.Instance
}

const (
	aliveFor       = time.Second      // a process without HTTP is ready after this
	calmAfter      = time.Minute      // ready and this long alive: the back-off starts anew
	defaultTimeout = 60 * time.Second // to get ready, where a release says nothing
	defaultGrace   = 10 * time.Second
)

// backoff is the wait before the restart after n crashes in a row.
func backoff(n int) time.Duration {
	const first, longest = 100 * time.Millisecond, 30 * time.Second
	switch {
	case n < 1:
		return 0
	case n > 10: // 100 ms · 2⁹ is over the longest already
		return longest
	}
	return min(first<<(n-1), longest)
}

func (s *Supervisor) newInstance(in gapless.Instance, rel *gapless.Release, values map[string]string) *instance {
	i := &instance{
		s: s, id: in.ID, rel: rel, values: values, grace: defaultGrace,
		stop: make(chan struct{}), launched: make(chan struct{}),
		view: gapless.Instance{
			ID: in.ID, App: in.App, Release: in.Release, Process: in.Process, Slot: in.Slot,
			State: gapless.Starting, Since: time.Now(), Restarts: in.Restarts,
		},
	}
	if rel != nil {
		i.proc = *rel.Spec.Process(in.Process)
		i.grace = orDefault(rel.Spec.Grace.Std(), defaultGrace)
	}
	return i
}

func (i *instance) observe() gapless.Instance {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.view
}

// set changes what is observed, and says so unless only the memory changed,
// which it always does. A new state has lasted since now, unless change says
// since when.
func (i *instance) set(change func(*gapless.Instance)) {
	i.mu.Lock()
	before := i.view
	change(&i.view)
	if i.view.State != before.State && i.view.Since.Equal(before.Since) {
		i.view.Since = time.Now()
	}
	before.Memory = i.view.Memory
	changed := i.view != before
	i.mu.Unlock()
	if changed {
		i.s.cfg.Changed()
	}
}

// live is the life of the instance. p is its process if it was adopted.
func (i *instance) live(p *process) {
	switch {
	case p != nil && i.rel == nil:
		close(i.launched)
		i.end(p)
		return
	case i.proc.Cron != "":
		i.liveCron(p)
		return
	case p != nil:
		close(i.launched)
	default:
		if p = i.first(); p == nil {
			return
		}
	}
	for {
		c, crashed := i.attend(p)
		for p = nil; p == nil; {
			if !crashed || !i.rest(c) {
				return
			}
			var err error
			if p, err = i.launch(i.run); err != nil {
				c, crashed = crash{why: why{err.Error(), gapless.HintOf(err)}}, !i.over(err)
			}
		}
	}
}

// first starts the first process. Where that cannot work, the instance is
// Failed until somebody stops or forgets it.
func (i *instance) first() *process {
	p, err := i.launch(i.run)
	if err == nil {
		close(i.launched)
		return p
	}
	i.startErr = err
	if !i.over(err) {
		i.fail(err)
	}
	close(i.launched)
	if i.observe().State == gapless.Failed {
		select {
		case <-i.stop:
			i.stopped(nil)
		case <-i.s.ctx.Done():
		}
	}
	return nil
}

// over reports whether err from launch means that nothing is to follow.
func (i *instance) over(err error) bool {
	if errors.Is(err, errStopped) {
		i.stopped(nil)
		return true
	}
	return i.s.ctx.Err() != nil
}

// crash is how a process ended that should have stayed.
type crash struct {
	why
	exit *gapless.Exit // nil: it could not even be started
	calm bool          // it had been fine for long
}

// attend watches one run from its start to its end. crashed is false when the
// instance was told to stop and did, or the supervisor is closed.
func (i *instance) attend(p *process) (c crash, crashed bool) {
	ctx, cancel := context.WithCancel(i.s.ctx)
	defer cancel()
	i.run++
	if i.previous != "" {
		i.s.forget(i.previous)
	}
	i.previous = p.hostID
	i.set(func(v *gapless.Instance) { v.State, v.PID = gapless.Starting, p.pid })

	type answer struct {
		address string
		why
	}
	answered := make(chan answer, 1)
	i.s.wg.Go(func() {
		address, w := i.getReady(ctx, p)
		answered <- answer{address, w}
	})
	ready := false
	for {
		select {
		case exit := <-p.exited:
			i.cleanUp(p, &exit)
			after := exit.At.Sub(p.started)
			w := whyExited(exit, after, i.proc.Memory)
			if p.socket != "" && !ready && exit.Code > 0 && w.hint == "" {
				w.hint = "see its log; " + asNumber
				if i.rel.Spec.SocketFD {
					w.hint = "see its log; " + asDescriptor
				}
			}
			return crash{w, &exit, ready && after >= calmAfter}, true
		case <-i.stop:
			i.end(p)
			return crash{}, false
		case <-ctx.Done():
			return crash{}, false
		case a := <-answered:
			if ctx.Err() != nil {
				return crash{}, false
			}
			if a.reason != "" {
				return i.putDown(p, a.why, 0)
			}
			ready = true
			i.set(func(v *gapless.Instance) {
				v.State, v.Address, v.Reason, v.Hint, v.Since = gapless.Ready, a.address, "", "", p.readySince(time.Now())
			})
		case w := <-p.lost:
			return i.putDown(p, w, i.grace)
		}
	}
}

// getReady waits until the process is ready. A reason says why it will not be.
func (i *instance) getReady(ctx context.Context, p *process) (address string, w why) {
	if !i.proc.Web() {
		pause(ctx, min(aliveFor, aliveFor-time.Since(p.started))) // the clock may have been set back since
		return "", why{}
	}
	app := i.rel.Spec
	r := readiness{
		h2c: app.Protocol == gapless.ProtocolH2C,
		pid: p.pid, port: p.port, socket: p.socket, handed: app.SocketFD, health: app.Health,
		timeout: orDefault(app.StartTimeout.Std(), defaultTimeout),
	}
	if len(app.Hosts) > 0 && !strings.Contains(app.Hosts[0], "*") {
		r.host = app.Hosts[0]
	}
	return r.wait(ctx, func(w why) {
		i.set(func(v *gapless.Instance) {
			if v.State == gapless.Starting {
				v.Reason, v.Hint = w.reason, w.hint
			}
		})
	})
}

// putDown ends a run that is of no use, for the reason w.
func (i *instance) putDown(p *process, w why, grace time.Duration) (crash, bool) {
	i.set(func(v *gapless.Instance) {
		v.State, v.Address, v.Reason, v.Hint = gapless.Crashed, "", w.reason, w.hint
	})
	exit, ok := p.terminate(grace)
	if !ok {
		return crash{}, false
	}
	i.cleanUp(p, &exit)
	return crash{why: w, exit: &exit}, true
}

// cleanUp cleans up after a process that ended.
func (i *instance) cleanUp(p *process, exit *gapless.Exit) {
	p.signal(syscall.SIGKILL) // what it left behind
	if exit.Signal == "SIGKILL" && oomKills(p.cgroups) > 0 {
		exit.OOM = true
	}
	p.release()
}

// end stops a process as asked, and with it the instance.
func (i *instance) end(p *process) {
	i.set(func(v *gapless.Instance) { v.State, v.PID = gapless.Stopping, p.pid })
	exit, ok := p.terminate(i.grace)
	if !ok {
		return
	}
	p.release()
	i.previous = p.hostID
	i.stopped(&exit)
}

// rest lets the back-off after a crash pass. It returns false when the
// instance is over.
func (i *instance) rest(c crash) bool {
	if c.calm {
		i.crashes = 0
	}
	i.crashes++
	i.set(func(v *gapless.Instance) {
		v.State, v.PID, v.Address, v.Memory, v.OverMem = gapless.Crashed, 0, "", 0, false
		v.Reason, v.Hint = c.reason, c.hint
		if c.exit != nil {
			v.Exit = c.exit
		}
	})
	t := time.NewTimer(backoff(i.crashes))
	defer t.Stop()
	select {
	case <-t.C:
	case <-i.stop:
		i.stopped(nil)
		return false
	case <-i.s.ctx.Done():
		return false
	}
	i.set(func(v *gapless.Instance) {
		v.State = gapless.Starting // the reason stays until it is ready
		v.Restarts++
	})
	return true
}

// stopped is the end. The reason of an earlier crash stays to be read.
func (i *instance) stopped(exit *gapless.Exit) {
	if i.previous != "" {
		i.s.forget(i.previous)
	}
	i.set(func(v *gapless.Instance) {
		v.State, v.PID, v.Address, v.Memory, v.OverMem = gapless.Stopped, 0, "", 0, false
		if exit != nil {
			v.Exit = exit
		}
	})
}

// fail is for what cannot be started at all.
func (i *instance) fail(err error) {
	i.set(func(v *gapless.Instance) {
		v.State, v.Reason, v.Hint = gapless.Failed, err.Error(), gapless.HintOf(err)
	})
}
