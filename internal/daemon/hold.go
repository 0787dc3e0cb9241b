package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"gapless/internal/keeper"
)

const (
	// keeperPatience bounds how long a call waits while keeper is replaced.
	keeperPatience = 15 * time.Second
	// edgeWaits is how long an edge leaves it to the daemon to start keeper.
	edgeWaits = 500 * time.Millisecond
)

// dialKeeper connects to keeper, and again to each one that replaces it.
func dialKeeper(ctx context.Context, home Home) (*keeper.Client, error) {
	k, err := keeper.Dial(ctx, keeper.SocketPath(home.Run()))
	if err != nil {
		return nil, fmt.Errorf("reach keeper: %w", err)
	}
	return k.Patient(keeperPatience), nil
}

// hold makes this process one of those that have a copy of what keeper holds,
// and start it again when it dies. The returned function ends that.
func hold(ctx context.Context, home Home, after time.Duration, log *slog.Logger) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	exe, err := Executable()
	h := &keeper.Holder{RunDir: home.Run(), After: after, Log: log, Revive: func() error {
		if err != nil {
			return err
		}
		return reviveKeeper(home, exe)
	}}
	go func() {
		defer close(done)
		if err := h.Run(ctx); err != nil {
			log.Warn("nothing is held for the next keeper", "err", err)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// reviveKeeper starts keeper from one of its own children.
func reviveKeeper(home Home, exe string) error {
	if _, err := os.Stat(exe); err != nil {
		exe = "/proc/self/exe" // the file is gone, but this is still it
	}
	cmd := exec.Command(exe, "keeper")
	cmd.Dir = string(home)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, keeper.GenerationEnv+"=") || strings.HasPrefix(v, keeper.RunEnv+"=")
	})
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if os.Getenv(logEnv) != "" { // ours is a pipe, which must end with us
		cmd.Stdout, cmd.Stderr = nil, nil
		if log, err := openLog(home); err == nil {
			defer func() { _ = log.Close() }()
			cmd.Stdout, cmd.Stderr = log, log
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start keeper: %w", err)
	}
	go func() { _ = cmd.Wait() }() // it outlives us, or another one was quicker
	return nil
}

// watch watches keeper: first all that is there is told, then every change.
// When it returns the router knows every edge that lives, so that no look at
// some of them is taken for a look at all.
func (d *Daemon) watch(ctx context.Context) (<-chan keeper.Proc, error) {
	procs, err := d.keeper.Watch(ctx)
	if err != nil {
		return nil, err
	}
	list, err := d.keeper.List(ctx)
	if err != nil {
		return nil, err
	}
	d.router.live(list)
	return procs, nil
}

// rewatch watches keeper again after it was replaced. What changed meanwhile
// is told first.
func (d *Daemon) rewatch(ctx context.Context) (<-chan keeper.Proc, error) {
	for end := time.Now().Add(2 * keeperPatience); ; {
		procs, err := d.watch(ctx)
		if err == nil {
			return procs, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if time.Now().After(end) {
			return nil, errors.Join(errors.New("keeper is gone"), err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// live takes in which edges run, and drops those that ended while nobody told us.
func (r *router) live(procs []keeper.Proc) {
	live := map[int]bool{}
	for _, p := range procs {
		if p.Kind == keeper.KindEdge && p.Running {
			live[p.Generation] = true
			r.edge(p)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n, g := range r.edges {
		if !live[n] {
			r.lose(g)
		}
	}
}
