package keeper

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// sweepTime bounds how long the dead may take to disappear.
const sweepTime = 5 * time.Second

// shutdown ends everything that keeper started and returns when only keeper
// is left. Asked again, it waits for the one under way. An instance has its
// own grace if it names one; with capped never more than grace.
func (k *keeper) shutdown(grace time.Duration, capped bool) {
	k.stop.Do(func() {
		k.log.Info("shutting down", "grace", grace)
		if err := k.orderly(grace, capped); err != nil {
			k.log.Error("shutdown", "error", err)
		}
		close(k.stopped)
	})
	<-k.stopped
}

func (k *keeper) orderly(grace time.Duration, capped bool) error {
	k.mu.Lock()
	k.stopping = true // from here on nothing is started
	k.mu.Unlock()
	_ = notify(context.Background(), "STOPPING=1") // systemd finds out anyway

	// Nobody shall wait in a queue that is not accepted from any more. Edges
	// drain while their instances still run.
	k.held.closeAll()
	children, instances := k.split()
	k.each(children, func(p *proc) { k.end(p, grace) })
	k.each(instances, func(p *proc) {
		g := p.grace
		if g <= 0 || capped && grace < g {
			g = grace
		}
		k.end(p, g)
	})

	// What escaped its instance, and strangers that were left to us.
	deadline := time.Now().Add(sweepTime)
	awaitNone(func() ([]member, error) {
		left, err := k.descendants()
		for _, m := range left {
			m.signal(syscall.SIGKILL)
		}
		return left, err
	}, deadline)
	return k.removeSockets()
}

// split returns what keeper restarts, and the instances.
func (k *keeper) split() (children, instances []*proc) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.procs {
		if p.Kind == KindInstance {
			instances = append(instances, p)
		} else {
			children = append(children, p)
		}
	}
	return children, instances
}

func (k *keeper) each(procs []*proc, f func(*proc)) {
	var wg sync.WaitGroup
	for _, p := range procs {
		wg.Go(func() { f(p) })
	}
	wg.Wait()
}

// end stops one process and its group: SIGTERM, grace, SIGKILL.
func (k *keeper) end(p *proc, grace time.Duration) {
	<-p.ready
	if p.err != nil {
		return
	}
	select {
	case <-p.ended: // before; what it left is swept up at the end
		k.releaseLogs(p)
		return
	default:
	}
	deadline := time.Now().Add(grace)
	if grace > 0 {
		if err := k.signalGroup(p, syscall.SIGTERM); err != nil {
			k.log.Warn("stop", "id", p.ID, "error", err)
		}
		select {
		case <-p.ended:
			// A wrapper may be gone before those it started.
			awaitNone(func() ([]member, error) { return k.members(p, false) }, deadline)
		case <-time.After(grace):
			k.log.Warn("still there after the grace, killed", "id", p.ID, "grace", grace)
		}
	}
	if err := k.killTree(p); err != nil {
		k.log.Warn("stop", "id", p.ID, "error", err)
	}
	select {
	case <-p.ended:
	case <-time.After(sweepTime):
		k.log.Error("process cannot be killed", "id", p.ID, "pid", p.PID)
	}
	k.releaseLogs(p)
}

func (k *keeper) removeSockets() error {
	names, err := filepath.Glob(filepath.Join(k.cfg.RunDir, "edge-*.sock"))
	if err != nil {
		return err
	}
	for _, name := range append(names, SocketPath(k.cfg.RunDir)) {
		if rerr := os.Remove(name); rerr != nil && !os.IsNotExist(rerr) {
			err = rerr
		}
	}
	return err
}
