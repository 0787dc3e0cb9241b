package daemon

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"gapless"
	"gapless/internal/keeper"
	"gapless/internal/rollout"
	"gapless/internal/supervise"
)

// hookLimit is how long a hook may take.
const hookLimit = 10 * time.Minute

// hooks implements rollout.Hooks: commands in the candidate's tree and
// environment. keeper runs them, so that they outlive the daemon that began
// them and the next one learns how they ended. Only where keeper died, too,
// nobody can tell, and the plan says what then.
type hooks struct {
	d *Daemon

	mu    sync.Mutex
	procs map[string]keeper.Proc // by key, as keeper told last
}

// hookPrefix begins the ID that a hook has with keeper; no instance's does.
const hookPrefix = "hook/"

// hookKey is the key of a hook's process; false for other processes.
func hookKey(p keeper.Proc) (string, bool) { return strings.CutPrefix(p.ID, hookPrefix) }

// rolloutOf is the rollout that a key, <rollout>/<step>, belongs to.
func rolloutOf(key string) string {
	id, _, _ := strings.Cut(key, "/")
	return id
}

// hookLabel names a hook in the app's log: the step's number makes it one of its kind.
func hookLabel(release, key string) string {
	_, cursor, _ := strings.Cut(key, "/")
	return release + "/hook." + cursor
}

// adopt takes over what an earlier daemon began, and ends what belongs to no
// rollout that goes on.
func (h *hooks) adopt(ctx context.Context, running map[string]bool) error {
	procs, err := h.d.keeper.List(ctx)
	if err != nil {
		return err
	}
	for _, p := range procs {
		if key, ok := hookKey(p); ok {
			h.see(p)
			if id := rolloutOf(key); !running[id] {
				h.end(id)
			}
		}
	}
	return nil
}

// see takes in what keeper says of a hook's process.
func (h *hooks) see(p keeper.Proc) {
	key, _ := hookKey(p)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.procs == nil {
		h.procs = map[string]keeper.Proc{}
	}
	h.procs[key] = p
}

// end ends the hooks of a rollout that is over.
func (h *hooks) end(rollout string) {
	h.mu.Lock()
	var gone []keeper.Proc
	for key, p := range h.procs {
		if rolloutOf(key) == rollout {
			gone = append(gone, p)
			delete(h.procs, key)
		}
	}
	h.mu.Unlock()
	for _, p := range gone {
		h.d.work.Go(func() { h.remove(h.d.ctx, p) })
	}
}

// remove kills a hook with everything that it started, and makes keeper forget it.
func (h *hooks) remove(ctx context.Context, p keeper.Proc) {
	for ctx.Err() == nil {
		err := h.d.keeper.Forget(ctx, p.ID) // refused while it runs
		if err == nil || gapless.CodeOf(err) == gapless.NotFound {
			return
		}
		if err := h.d.keeper.Signal(ctx, p.ID, syscall.SIGKILL); err != nil && gapless.CodeOf(err) != gapless.NotFound {
			h.d.log.Warn("end a hook", "hook", p.ID, "err", err)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// State tells how far a hook is; false if it never began, or if nobody knows
// how it ended.
func (h *hooks) State(key string) (rollout.HookState, bool) {
	h.mu.Lock()
	p, known := h.procs[key]
	h.mu.Unlock()
	switch {
	case !known:
		return rollout.HookState{}, false
	case p.Running && time.Since(p.Started) > hookLimit:
		h.end(rolloutOf(key))
		return rollout.HookState{Done: true, Output: fmt.Sprintf("it took longer than %s and was ended", hookLimit)}, true
	case p.Running:
		return rollout.HookState{}, true
	case p.Exit == nil || p.Exit.Code < 0 && p.Exit.Signal == "":
		return rollout.HookState{}, false
	}
	output := h.lastLine(p)
	if output == "" {
		output = p.Exit.String()
	}
	return rollout.HookState{Done: true, OK: p.Exit.Code == 0, Output: output}, true
}

// lastLine is the last line that a hook printed.
func (h *hooks) lastLine(p keeper.Proc) (last string) {
	app, label, ok := strings.Cut(p.Meta, " ")
	if !ok {
		return ""
	}
	opt := keeper.ReadOptions{Lines: 1, Filter: func(l keeper.Line) bool {
		return l.Label == label && !l.Time.Before(p.Started.Add(-time.Second))
	}}
	for l, err := range keeper.ReadLogs(h.d.ctx, h.d.home.AppLog(app), opt) {
		if err != nil {
			return ""
		}
		last = l.Text
	}
	release, _, _ := strings.Cut(label, "/")
	return h.d.veilOf(app, release)(last)
}

// Start runs a hook once per key; it does not wait for it.
func (h *hooks) Start(ctx context.Context, key string, rel *gapless.Release, text string) error {
	if _, known := h.State(key); known {
		return nil
	}
	env, err := h.d.vault.environment(rel)
	if err != nil {
		return err
	}
	who, err := supervise.LookupUser(rel.Spec.User)
	if err != nil {
		return err
	}
	c := command{text: text, rel: rel, env: env, set: []string{"GAPLESS_APP=" + rel.App, "GAPLESS_RELEASE=" + rel.Name}}
	label, logs := hookLabel(rel.Name, key), rel.Spec.Logs
	spec := keeper.Spec{ID: hookPrefix + key, Argv: c.argv(), Env: c.environ(who), Dir: rel.Tree, Meta: rel.App + " " + label,
		Log: &keeper.Log{Path: h.d.home.AppLog(rel.App), Label: label, MaxSize: logs.MaxSize, MaxAge: logs.MaxAge.Std(), Keep: logs.Keep}}
	if int(who.UID) != os.Geteuid() {
		spec.UID, spec.GID, spec.Groups = &who.UID, &who.GID, who.Groups
	}
	// One of which nobody knows how it ended is asked to run again: what is
	// left of it must not run beside the new one.
	h.mu.Lock()
	old, left := h.procs[key]
	delete(h.procs, key)
	h.mu.Unlock()
	if left {
		h.remove(ctx, old)
	}
	p, err := h.d.keeper.Start(ctx, spec)
	if err != nil {
		return err
	}
	h.mu.Lock()
	_, told := h.procs[key] // it may have ended already
	h.mu.Unlock()
	if !told {
		h.see(p)
	}
	return nil
}
