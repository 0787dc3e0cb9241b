package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"gapless"
)

// process is one run of an instance's command.
type process struct {
	inst    *instance
	hostID  string
	pid     int    // 0 until it runs
	port    int    // 0: none
	socket  string // path that it is to listen on; "": none
	started time.Time
	adopted time.Time // when an earlier supervisor's process was taken over; zero: it is our own
	cgroups []string
	exited  chan gapless.Exit // one value
	lost    chan why          // one value: what the watcher found, so that it has to go
	quiet   quiet             // the watcher's own notes
}

// meta is what the host keeps for us, so that the next Supervisor knows what
// the process is. It holds no secrets.
type meta struct {
	Instance gapless.Instance `json:"instance"` // identity and Restarts only
	Crashes  int              `json:"crashes"`  // in a row
	Port     int              `json:"port,omitempty"`
	Socket   string           `json:"socket,omitempty"`
	Cgroups  []string         `json:"cgroups,omitempty"`
	Grace    gapless.Duration `json:"grace"`
}

// oomScoreAdj makes the kernel kill instances before gapless itself when the
// machine runs out of memory.
const oomScoreAdj = 500

// errStopped is returned by launch when the instance was told to stop first.
var errStopped = errors.New("told to stop before it started")

// hostID names one run: the instance's ID, then <ID>#1, #2 … for each restart.
func hostID(id string, run int64) string {
	if run == 0 {
		return id
	}
	return id + "#" + strconv.FormatInt(run, 10)
}

// launch starts one run of the instance's command. While the host cannot be
// asked it keeps asking for the same run, which is safe. Other errors are
// final and carry a hint.
func (i *instance) launch(run int64) (*process, error) {
	s := i.s
	p := &process{inst: i, hostID: hostID(i.id, run), exited: make(chan gapless.Exit, 1), lost: make(chan why, 1)}
	spec, err := i.spec(p)
	if err != nil {
		p.release()
		return nil, err
	}
	// Known before it runs: it may end before the host has answered.
	s.mu.Lock()
	s.processes[p.hostID] = p
	s.mu.Unlock()
	p.started = time.Now()
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		var pid int
		err = s.ask(func(ctx context.Context) error {
			var err error
			pid, err = s.cfg.Host.Start(ctx, spec)
			return err
		})
		if err == nil {
			p.setPID(pid)
			return p, nil
		}
		if s.ctx.Err() != nil {
			return nil, s.ctx.Err() // it may run: leave everything to who adopts it
		}
		if !unreachable(err) && len(spec.Cgroups) > 0 {
			// It may be the cgroups that it cannot enter: better without than not at all.
			s.cfg.Log.Warn("could not start inside cgroups, trying without limits", "instance", p.hostID, "err", err)
			if err := removeCgroups(p.cgroups); err != nil {
				s.cfg.Log.Warn("could not remove the cgroup of an instance", "instance", p.hostID, "err", err)
			}
			spec.Cgroups, p.cgroups = nil, nil
			continue
		}
		if !unreachable(err) {
			p.release()
			w := whyNotStarted(err, spec)
			return nil, gapless.Errorf(gapless.NotStarted, "%s", w.reason).WithHint("%s", w.hint)
		}
		select {
		case <-i.stop:
			// An answer may have been lost on the way: make sure that nothing runs.
			p.signal(syscall.SIGKILL)
			p.release()
			p.forget()
			return nil, errStopped
		case <-s.ctx.Done():
			return nil, s.ctx.Err()
		case <-time.After(wait):
		}
	}
}

// spec takes the port and the cgroups of a run and writes down how it starts.
func (i *instance) spec(p *process) (Spec, error) {
	s, app := i.s, i.rel.Spec
	u, err := LookupUser(app.User)
	if err != nil {
		return Spec{}, err
	}
	in := i.observe()
	switch {
	case !i.proc.Web():
	case app.Socket:
		p.socket, err = s.takeSocket(in.App, p.hostID, u)
	default:
		p.port, err = s.ports.take()
	}
	if err != nil {
		return Spec{}, err
	}
	handed := p.socket != "" && app.SocketFD
	port := p.listens()
	if handed {
		port = ""
	}
	r, err := makeRecipe(in, i.rel, i.values, u, port, s.cfg.TZ)
	if err != nil {
		return Spec{}, err
	}
	if handed {
		r = r.handed()
	}
	log, err := s.logFile(in.App)
	if err != nil {
		return Spec{}, err
	}
	p.cgroups, err = s.limits.make(p.hostID, i.proc.Memory, i.proc.CPU)
	if err != nil {
		s.cfg.Log.Warn("limits of this instance are not enforced by the kernel", "instance", in.ID, "err", err)
	} else if len(p.cgroups) == 0 && (i.proc.Memory > 0 || i.proc.CPU > 0) {
		s.warned.Do(func() {
			s.cfg.Log.Warn("this system lets gapless make no cgroups", "capabilities", s.Capabilities(),
				"memory", s.limits.noMemory, "cpu", s.limits.noCP)
		})
	}
	m, err := json.Marshal(meta{
		Instance: gapless.Instance{ID: in.ID, App: in.App, Release: in.Release, Process: in.Process, Slot: in.Slot, Restarts: in.Restarts},
		Crashes:  i.crashes, Port: p.port, Socket: p.socket, Cgroups: p.cgroups, Grace: app.Grace,
	})
	if err != nil {
		return Spec{}, fmt.Errorf("write down what %s is: %w", in.ID, err)
	}
	spec := Spec{
		ID: p.hostID, Argv: r.argv, Env: r.env, Dir: r.dir,
		Log:     Log{Path: log, Label: in.Label(), MaxSize: app.Logs.MaxSize, MaxAge: app.Logs.MaxAge.Std(), Keep: app.Logs.Keep},
		Cgroups: p.cgroups, OOMScoreAdj: oomScoreAdj, Grace: app.Grace.Std(), Meta: string(m),
	}
	if handed {
		spec.Listen = p.socket
	}
	if app.User != "" {
		spec.User = u
	}
	return spec, nil
}

func (p *process) setPID(pid int) {
	p.inst.s.mu.Lock()
	p.pid = pid
	p.inst.s.mu.Unlock()
	select {
	case p.inst.s.wake <- struct{}{}:
	default:
	}
}

// end records how it ended; only the first time counts.
func (p *process) end(e gapless.Exit) {
	select {
	case p.exited <- e:
	default:
	}
}

// signal sends sig to the process group, and keeps trying while the host
// cannot be asked. A group that is gone is no error. A host that was replaced
// may not know the process: if it lives and carries the instance's name, it is
// signalled without the host.
func (p *process) signal(sig syscall.Signal) {
	s := p.inst.s
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := s.ask(func(ctx context.Context) error { return s.cfg.Host.Signal(ctx, p.hostID, sig) })
		if err == nil || s.ctx.Err() != nil {
			return
		}
		if !unreachable(err) {
			switch unknown := errors.Is(err, syscall.ESRCH) || gapless.CodeOf(err) == gapless.NotFound; {
			case unknown && p.pid > 0 && carriesName(p.pid, p.inst.id):
				err = syscall.Kill(-p.pid, sig)
			case unknown:
				err = nil
			}
			if err != nil {
				s.cfg.Log.Warn("could not signal an instance", "instance", p.hostID, "signal", sig.String(), "err", err)
			}
			return
		}
		pause(s.ctx, wait)
	}
}

// terminate ends the process and all that belongs to it: SIGTERM, up to grace,
// SIGKILL. ok is false if the supervisor is closed meanwhile.
func (p *process) terminate(grace time.Duration) (exit gapless.Exit, ok bool) {
	deadline := time.NewTimer(grace)
	defer deadline.Stop()
	ended := false
	if grace > 0 {
		p.signal(syscall.SIGTERM)
		select {
		case exit = <-p.exited:
			ended = true
		case <-deadline.C:
		case <-p.inst.s.ctx.Done():
			return exit, false
		}
		// A shell ends at once on SIGTERM; what it started may still be working.
		for wait := 5 * time.Millisecond; ended && p.pid > 0 && groupAlive(p.pid); wait = min(2*wait, 100*time.Millisecond) {
			select {
			case <-time.After(wait):
				continue
			case <-deadline.C:
			case <-p.inst.s.ctx.Done():
				return exit, false
			}
			break
		}
	}
	for {
		p.signal(syscall.SIGKILL)
		if ended {
			return exit, true
		}
		select {
		case exit = <-p.exited:
			ended = true
		case <-time.After(time.Second):
		case <-p.inst.s.ctx.Done():
			return exit, false
		}
	}
}

// release gives back what the run held: port, cgroups and whatever is left in
// them, its entry in the list.
func (p *process) release() {
	s := p.inst.s
	if err := removeCgroups(p.cgroups); err != nil {
		s.cfg.Log.Warn("could not remove the cgroup of an instance", "instance", p.hostID, "err", err)
	}
	s.mu.Lock()
	if s.processes[p.hostID] == p {
		delete(s.processes, p.hostID)
	}
	s.mu.Unlock()
	if p.port != 0 {
		s.ports.give(p.port)
	}
	if p.socket != "" {
		os.Remove(p.socket)
	}
}

// listens is what PORT says.
func (p *process) listens() string {
	if p.port != 0 {
		return strconv.Itoa(p.port)
	}
	return p.socket
}

// forget drops the host's record of a run that ended. If that fails, whoever
// adopts next sees a run that ended, and forgets it then.
func (p *process) forget() { p.inst.s.forget(p.hostID) }

func (s *Supervisor) forget(id string) {
	err := s.ask(func(ctx context.Context) error { return s.cfg.Host.Forget(ctx, id) })
	if err != nil && s.ctx.Err() == nil && gapless.CodeOf(err) != gapless.NotFound {
		s.cfg.Log.Debug("could not forget a process", "process", id, "err", err)
	}
}
