package keeper

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gapless"
)

const (
	shortLife    = time.Second // a child that lived less was not well
	backoffFirst = 50 * time.Millisecond
	backoffMost  = 2 * time.Second
)

// child is a process that keeper restarts.
type child struct {
	Child
	short int // lives in a row that were short; guarded by keeper.mu
}

// edges are the generations of the edge.
type edges struct {
	starting sync.Mutex // one new generation at a time
	newest   int        // guarded by keeper.mu
	retired  int        // the newest, if it is not restarted; guarded by keeper.mu
}

// startChildren starts what does not run already, by the keeper before.
func (k *keeper) startChildren() {
	running := func(id string) bool { // or has just ended, and then is started again for that
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.taken[id]
	}
	if _, ok := k.children[EdgeChild]; ok && !running(edgeID(k.edges.newest)) {
		go k.restartEdge(k.edges.newest)
	}
	if c, ok := k.children[DaemonChild]; ok && !running(DaemonChild) {
		go k.restartDaemon(c)
	}
}

// childEnded starts the daemon, or the newest edge as a new generation, again.
func (k *keeper) childEnded(p *proc) {
	name := DaemonChild
	if p.Kind == KindEdge {
		name = EdgeChild
		os.Remove(k.edgeSocket(p.Generation)) // what a killed edge leaves
	}
	c := k.children[name]
	k.mu.Lock()
	again := !k.stopping && (p.Kind == KindDaemon || p.Generation == k.edges.newest && p.Generation != k.edges.retired)
	wait := c.backoff(p.Exit.At.Sub(p.Started))
	k.mu.Unlock()
	if !again {
		return
	}
	k.log.Warn("child ended, starts again", "child", p.ID, "exit", p.Exit.String(), "wait", wait)
	if k.pause(wait) {
		return
	}
	if p.Kind == KindDaemon {
		k.restartDaemon(c)
	} else {
		k.restartEdge(p.Generation)
	}
}

// backoff says how long to wait after a life; keeper.mu is held.
func (c *child) backoff(lived time.Duration) time.Duration {
	if lived >= shortLife {
		c.short = 0
		return 0
	}
	c.short++
	if c.short == 1 {
		return 0
	}
	return min(backoffFirst<<min(c.short-2, 10), backoffMost)
}

// pause waits and reports whether keeper stopped meanwhile.
func (k *keeper) pause(d time.Duration) (stopped bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.stopping
	case <-k.stopped:
		return true
	}
}

func (k *keeper) restartDaemon(c *child) {
	for k.startChild(c, newProc(DaemonChild, KindDaemon)) != nil {
		if k.pause(k.failed(c)) {
			return
		}
	}
}

// restartEdge starts a generation after last, unless someone else did.
func (k *keeper) restartEdge(last int) {
	c := k.children[EdgeChild]
	for {
		if _, err := k.nextEdge(last); err == nil {
			return
		}
		if k.pause(k.failed(c)) {
			return
		}
	}
}

// failed counts a start that did not work.
func (k *keeper) failed(c *child) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return max(c.backoff(0), backoffFirst)
}

func (k *keeper) newEdge() (int, error) { return k.nextEdge(-1) }

// nextEdge starts one more generation. With last ≥ 0 only if that is still
// the newest; otherwise it returns the newest.
func (k *keeper) nextEdge(last int) (int, error) {
	c, ok := k.children[EdgeChild]
	if !ok {
		return 0, gapless.Errorf(gapless.Unsupported, "this keeper was started without an edge")
	}
	k.edges.starting.Lock()
	defer k.edges.starting.Unlock()
	k.mu.Lock()
	newest, retired := k.edges.newest, k.edges.retired
	k.mu.Unlock()
	if last >= 0 && (newest != last || newest > 0 && retired == newest) {
		return newest, nil
	}
	p := newProc(edgeID(newest+1), KindEdge)
	p.Generation = newest + 1
	return p.Generation, k.startChild(c, p)
}

func (k *keeper) startChild(c *child, p *proc) error {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, GenerationEnv+"=") || strings.HasPrefix(v, InstanceEnv+"=")
	})
	if p.Kind == KindEdge {
		env = append(env, GenerationEnv+"="+strconv.Itoa(p.Generation))
	}
	k.mu.Lock()
	if k.stopping {
		k.mu.Unlock()
		return errStopping
	}
	if p.Kind == KindEdge {
		k.edges.newest = p.Generation
		k.noteEdges()
	}
	k.procs[p.ID] = p
	k.mu.Unlock()
	k.launch(p, Spec{ID: p.ID, Argv: c.Argv, Env: env, Log: c.Log})
	if p.err != nil && p.Kind == KindEdge {
		k.mu.Lock()
		k.edges.newest = p.Generation - 1 // the old one stays the one that is restarted
		k.noteEdges()
		k.mu.Unlock()
	}
	return p.err
}

// retire says that a generation is not restarted when it ends.
func (k *keeper) retire(generation int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if generation < 1 || generation > k.edges.newest {
		return gapless.Errorf(gapless.NotFound, "there is no edge generation %d", generation)
	}
	if generation == k.edges.newest { // older ones are not restarted anyway
		k.edges.retired = generation
		k.noteEdges()
	}
	return nil
}

func edgeID(generation int) string { return fmt.Sprintf("edge-%d", generation) }

func (k *keeper) edgeSocket(generation int) string {
	return filepath.Join(k.cfg.RunDir, fmt.Sprintf("edge-%d.sock", generation))
}

// lastGeneration finds the newest edge that an earlier keeper left behind, so
// that no generation is used twice while one of them may live.
func lastGeneration(dir string) (last int) {
	names, err := filepath.Glob(filepath.Join(dir, "edge-*.sock"))
	if err != nil {
		return 0
	}
	for _, name := range names {
		if n, ok := edgeGeneration(strings.TrimSuffix(filepath.Base(name), ".sock")); ok {
			last = max(last, n)
		}
	}
	return last
}
