package supervise

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gapless"
)

// adoptWait is how long Adopt waits for instances to be found ready, so that
// its caller does not take serving ones for starting ones.
const adoptWait = 2 * time.Second

// Adopt takes over what an earlier Supervisor left with the host. Instances
// that run keep running, and Adopt returns when they were found ready, after
// 2 s at most; those that ended are Crashed and started again after their
// back-off; those of a release that is not known any more (nil) are stopped, unless
// Config.KeepUnknown. A
// cron process is found only while a run goes on: start it again by its ID.
func (s *Supervisor) Adopt(ctx context.Context, releases func(app, name, process string) (*gapless.Release, map[string]string)) error {
	list, err := s.cfg.Host.List(ctx)
	if err != nil {
		return fmt.Errorf("list the processes that run: %w", err)
	}
	latest := map[string]Proc{}
	for _, p := range list {
		id, _, _ := strings.Cut(p.ID, "#")
		old, ok := latest[id]
		if ok && old.Started.After(p.Started) {
			old, p = p, old
		}
		latest[id] = p
		if ok {
			s.discard(old)
		}
	}
	var adopted []*instance
	for id, p := range latest {
		var m meta
		if err := json.Unmarshal([]byte(p.Meta), &m); err != nil || m.Instance.ID != id {
			s.cfg.Log.Warn("a process is none of ours and left alone", "process", p.ID, "err", err)
			continue
		}
		rel, values := releases(m.Instance.App, m.Instance.Release, m.Instance.Process)
		if rel == nil && s.cfg.KeepUnknown {
			s.leave(p, m)
			continue
		}
		if rel != nil && rel.Spec.Process(m.Instance.Process) == nil {
			rel = nil
		}
		if i := s.adopt(p, m, rel, values); i != nil {
			adopted = append(adopted, i)
		}
	}
	if _, err := s.catchUp(); err != nil { // what ended since the list was made
		return err
	}
	s.sweepSockets()
	s.awaitReady(ctx, adopted)
	return nil
}

// adopt takes over one process.
func (s *Supervisor) adopt(proc Proc, m meta, rel *gapless.Release, values map[string]string) *instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.instances[m.Instance.ID] != nil {
		return nil
	}
	i := s.newInstance(m.Instance, rel, values)
	i.crashes = m.Crashes
	if rel == nil {
		i.grace = m.Grace.Std()
	}
	if _, n, ok := strings.Cut(proc.ID, "#"); ok {
		i.run, _ = strconv.ParseInt(n, 10, 64)
	}
	p := &process{
		inst: i, hostID: proc.ID, pid: proc.PID, port: m.Port, socket: m.Socket, started: proc.Started, adopted: time.Now(), cgroups: m.Cgroups,
		exited: make(chan gapless.Exit, 1), lost: make(chan why, 1),
	}
	if p.port != 0 {
		s.ports.hold(p.port)
	}
	if !proc.Running {
		exit := gapless.Exit{Code: -1, At: time.Now()}
		if proc.Exit != nil {
			exit = *proc.Exit
		}
		p.end(exit)
	}
	s.instances[i.id] = i
	s.processes[p.hostID] = p
	s.wg.Go(func() { i.live(p) })
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return i
}

// leave notes only what must not be given to another instance.
func (s *Supervisor) leave(p Proc, m meta) {
	s.cfg.Log.Warn("an instance of an unknown release is left alone", "process", p.ID, "pid", p.PID)
	if p.Running && m.Port != 0 {
		s.ports.hold(m.Port)
	}
}

// discard ends an earlier run of an instance that has a later one.
func (s *Supervisor) discard(p Proc) {
	if p.Running {
		if err := s.ask(func(ctx context.Context) error { return s.cfg.Host.Signal(ctx, p.ID, syscall.SIGKILL) }); err != nil {
			s.cfg.Log.Warn("could not end an earlier run of an instance", "process", p.ID, "err", err)
		}
	}
	s.forget(p.ID)
}

// readySince is since when a process that is ready now has been so: where it
// was adopted a moment ago, ready already, about since it started, and not
// since a daemon began to look.
func (p *process) readySince(now time.Time) time.Time {
	if p.adopted.IsZero() || now.Sub(p.adopted) > adoptWait || p.started.After(now) {
		return now
	}
	return p.started
}

func (s *Supervisor) awaitReady(ctx context.Context, list []*instance) {
	ctx, cancel := context.WithTimeout(ctx, adoptWait)
	defer cancel()
	for _, i := range list {
		for i.observe().State == gapless.Starting && ctx.Err() == nil && s.ctx.Err() == nil {
			pause(ctx, 5*time.Millisecond)
		}
	}
}
