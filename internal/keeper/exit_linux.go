package keeper

import (
	"fmt"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gapless"
)

// lastWords is how long the announcement of an exit waits until the last
// output is in the log; a disk that hangs must not hide an exit.
const lastWords = 250 * time.Millisecond

// reap collects every process that ended: those we started, and orphans that
// became ours because keeper is a subreaper.
func (k *keeper) reap() {
	for {
		// A pid that we do not know yet may be one just being started.
		k.fork.Lock()
		k.mu.Lock()
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		p := k.pids[pid]
		if p != nil && pid > 0 {
			delete(k.pids, pid)
			exit := exitOf(ws, time.Now())
			p.reaped, p.reapedExit = true, &exit
			k.note(p)
		}
		k.mu.Unlock()
		k.fork.Unlock()
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil || pid <= 0:
			return
		case p != nil:
			go k.over(p, *p.reapedExit)
		}
	}
}

func exitOf(ws syscall.WaitStatus, at time.Time) gapless.Exit {
	if ws.Signaled() {
		name := unix.SignalName(ws.Signal())
		if name == "" {
			name = fmt.Sprintf("signal %d", int(ws.Signal()))
		}
		return gapless.Exit{Code: -1, Signal: name, At: at}
	}
	return gapless.Exit{Code: ws.ExitStatus(), At: at}
}

// over announces the exit of p once its last output is in the log. Children
// are started again first of all, and not waited for.
func (k *keeper) over(p *proc, exit gapless.Exit) {
	k.mu.Lock()
	killed := p.killed
	k.mu.Unlock()
	exit.OOM = exit.Signal == "SIGKILL" && !killed && p.cgroups.oomKilled()
	if p.Kind == KindInstance {
		limit := make(chan struct{})
		timer := time.AfterFunc(lastWords, func() { close(limit) })
		k.mu.Lock()
		pumps := slices.Clone(p.pumps)
		k.mu.Unlock()
		for _, pump := range pumps {
			pump.sync(limit)
		}
		timer.Stop()
	}
	k.mu.Lock()
	p.Running, p.Exit = false, &exit
	if p.Kind == KindEdge {
		delete(k.procs, p.ID)
		k.ledger.drop(factProcess + "/" + p.ID)
	}
	k.note(p)
	k.changed(p)
	k.mu.Unlock()
	k.log.Info("process ended", "id", p.ID, "pid", p.PID, "exit", exit.String())
	close(p.ended)
	if p.Kind != KindInstance {
		k.childEnded(p)
		k.releaseLogs(p)
	}
}

// releaseLogs ends the pumps of a process whose descendants were killed. One
// that escaped us may still hold the pipe: it is not waited for.
func (k *keeper) releaseLogs(p *proc) {
	k.mu.Lock()
	file, pumps := p.file, p.pumps
	p.file, p.logTo = nil, nil
	if file != nil && k.procs[p.ID] == p {
		k.ledger.amend(factProcess+"/"+p.ID, k.record(p), true)
	}
	k.mu.Unlock()
	if file == nil {
		return
	}
	go func() {
		timer := time.NewTimer(time.Second)
		defer timer.Stop()
		for _, pump := range pumps {
			select {
			case <-pump.done:
			case <-timer.C:
				timer.Reset(0)
				pump.close()
				<-pump.done
			}
		}
		k.logs.release(file)
	}()
}
