package daemon

import (
	"context"
	"errors"
	"os/exec"
	"sync"
	"time"

	"gapless"
	"gapless/internal/rollout"
)

// hookLimit is how long a hook may take.
const hookLimit = 10 * time.Minute

// hooks implements rollout.Hooks: commands in the candidate's tree and
// environment. What it knows is lost with the daemon; the plan says what then.
type hooks struct {
	d *Daemon

	mu    sync.Mutex
	known map[string]rollout.HookState
}

func (h *hooks) State(key string) (rollout.HookState, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.known[key]
	return s, ok
}

func (h *hooks) set(key string, s rollout.HookState) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known[key] = s
}

// Start runs a hook once per key; it does not wait for it.
func (h *hooks) Start(_ context.Context, key string, rel *gapless.Release, command string) error {
	if _, known := h.State(key); known {
		return nil
	}
	env, err := readEnvironment(rel)
	if err != nil {
		return err
	}
	h.set(key, rollout.HookState{})
	h.d.work.Go(func() {
		h.set(key, run(h.d.ctx, rel, env, command))
		h.d.wake()
	})
	return nil
}

func run(ctx context.Context, rel *gapless.Release, env environment, text string) rollout.HookState {
	output, err := command{text: text, rel: rel, env: env, limit: hookLimit,
		set: []string{"GAPLESS_APP=" + rel.App, "GAPLESS_RELEASE=" + rel.Name}}.run(ctx)
	last := lastLines(output, 1)[0]
	var exit *exec.ExitError
	if err != nil && (last == "" || !errors.As(err, &exit)) {
		last = err.Error()
	}
	return rollout.HookState{Done: true, OK: err == nil, Output: last}
}
