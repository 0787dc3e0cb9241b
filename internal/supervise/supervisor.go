// Package supervise keeps instances running as processes. Its one job: start
// an instance by its release's recipe, say when it is ready (and in plain
// words why not), start it again with a back-off when it crashes, watch its
// limits, and stop it with everything it left behind.
//
// It forks nothing: a Host does, so that processes outlive this one. It knows
// no routes and no rollouts: who stops an instance drains it first. The daemon
// wires and calls it.
package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"gapless"
)

// Config is what a Supervisor works with. Host and Home are needed.
type Config struct {
	Host    Host
	Home    string       // state directory; logs go to <Home>/apps/<app>/logs/app.log
	Log     *slog.Logger // nil: discarded
	Changed func()       // called after any observable change; must not block
	TZ      string       // time zone given to instances, where the system sets one

	KeepUnknown bool // Adopt leaves instances of releases that are not known alone
}

// Supervisor runs instances. Its methods may be called from any goroutine.
type Supervisor struct {
	cfg    Config
	ports  *ports
	limits *limits
	warned sync.Once // that limits are not possible

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	wake   chan struct{} // tells the watcher that there is something to watch

	mu        sync.Mutex
	instances map[string]*instance // by ID
	processes map[string]*process  // by host ID; running or about to be
}

// New makes a Supervisor that runs nothing yet. Call Adopt before Start when
// the host may have processes of an earlier one.
func New(cfg Config) *Supervisor {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	s := &Supervisor{
		cfg: cfg, ports: newPorts(), limits: newLimits(cfg.Home), wake: make(chan struct{}, 1),
		instances: map[string]*instance{}, processes: map[string]*process{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(s.watch)
	return s
}

// Close stops supervising. The processes run on; a later Supervisor adopts them.
func (s *Supervisor) Close() {
	s.mu.Lock() // no Start is half way
	s.cancel()
	s.mu.Unlock()
	s.wg.Wait()
}

// Capabilities says in one line which limits this system can enforce.
func (s *Supervisor) Capabilities() string { return s.limits.String() }

// Start starts an instance of rel and keeps it running until Stop: after a
// crash it is started again. values is the content of the release's env file.
// It returns when the first process runs, or with an error that says why none
// can; then the instance is listed as Failed, to be forgotten. Asked again for
// an ID that it knows, it does nothing and returns that instance's error. A
// host that does not answer is not waited for: after 2 s, or when ctx ends,
// starting goes on alone.
// A process with a cron schedule is started at its times and Ready in between.
func (s *Supervisor) Start(ctx context.Context, in gapless.Instance, rel *gapless.Release, values map[string]string) error {
	if err := valid(in, rel); err != nil {
		return err
	}
	s.mu.Lock()
	i, known := s.instances[in.ID]
	switch {
	case s.ctx.Err() != nil:
		s.mu.Unlock()
		return gapless.Errorf(gapless.Unavailable, "start %s: shutting down", in.Label())
	case !known:
		i = s.newInstance(in, rel, values)
		s.instances[in.ID] = i
		s.wg.Go(func() { i.live(nil) })
	}
	s.mu.Unlock()
	wait := time.NewTimer(startWait)
	defer wait.Stop()
	select {
	case <-i.launched:
		return i.startErr
	case <-wait.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("start %s: %w", in.Label(), ctx.Err())
	case <-s.ctx.Done():
		return gapless.Errorf(gapless.Unavailable, "start %s: shutting down", in.Label())
	}
}

const startWait = 2 * time.Second

func valid(in gapless.Instance, rel *gapless.Release) error {
	if in.ID == "" || strings.ContainsAny(in.ID, "#/") {
		return gapless.Errorf(gapless.Invalid, "instance id %q is not valid", in.ID)
	}
	proc := rel.Spec.Process(in.Process)
	if proc == nil {
		return gapless.Errorf(gapless.NotFound, "release %s of %s has no process %s", rel.Name, rel.App, in.Process)
	}
	if proc.Cron != "" {
		if _, err := parseCron(*proc); err != nil {
			return err
		}
	}
	return nil
}

// Stop tells an instance to stop and returns at once: SIGTERM to its process
// group, after the release's grace SIGKILL to all that is left; then it is
// Stopped. It may be repeated; an unknown ID is stopped already.
func (s *Supervisor) Stop(_ context.Context, id string) error {
	s.mu.Lock()
	i := s.instances[id]
	s.mu.Unlock()
	if i != nil {
		i.stopOnce.Do(func() { close(i.stop) })
	}
	return nil
}

// Forget drops an instance that is Stopped or Failed; others stay.
func (s *Supervisor) Forget(id string) {
	s.mu.Lock()
	i := s.instances[id]
	gone := false
	if i != nil {
		switch i.observe().State {
		case gapless.Stopped, gapless.Failed:
			delete(s.instances, id)
			gone = true
		}
	}
	s.mu.Unlock()
	if gone {
		i.stopOnce.Do(func() { close(i.stop) }) // a Failed one waits for it
		s.cfg.Changed()
	}
}

// Observe returns every instance as it is now, sorted by ID.
func (s *Supervisor) Observe() []gapless.Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]gapless.Instance, 0, len(s.instances))
	for _, i := range s.instances {
		list = append(list, i.observe())
	}
	slices.SortFunc(list, func(a, b gapless.Instance) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// Exited takes note of a process that ended. Those of others are ignored, and
// hearing it twice does no harm.
func (s *Supervisor) Exited(p Proc) {
	if p.Running {
		return
	}
	s.mu.Lock()
	proc := s.processes[p.ID]
	s.mu.Unlock()
	if proc != nil {
		exit := gapless.Exit{Code: -1, At: time.Now()}
		if p.Exit != nil {
			exit = *p.Exit
		}
		if exit.At.IsZero() {
			exit.At = time.Now()
		}
		proc.end(exit)
	}
}

// logFile is where the output of all instances of an app goes.
func (s *Supervisor) logFile(app string) (string, error) {
	dir := filepath.Join(s.cfg.Home, "apps", app, "logs")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("make the log directory of %s: %w", app, err)
	}
	return filepath.Join(dir, "app.log"), nil
}

// ask calls the host with a bounded wait.
func (s *Supervisor) ask(call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
	defer cancel()
	return call(ctx)
}
