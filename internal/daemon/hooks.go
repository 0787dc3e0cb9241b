package daemon

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
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
	env, err := h.d.vault.environment(rel)
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

func run(ctx context.Context, rel *gapless.Release, env environment, command string) rollout.HookState {
	ctx, cancel := context.WithTimeout(ctx, hookLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Dir = rel.Tree
	cmd.Env = []string{"HOME=" + os.Getenv("HOME"), "LANG=C.UTF-8", "GAPLESS_APP=" + rel.App, "GAPLESS_RELEASE=" + rel.Name,
		"PATH=" + strings.TrimPrefix(filepath.Dir(rel.Runtime.Path)+":", ".:") + os.Getenv("PATH")}
	for k, v := range env.of(gapless.WebProcess) {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	last := lastLines(env.veil(rel, out.String()), 1)[0]
	if err != nil && last == "" {
		last = err.Error()
	}
	return rollout.HookState{Done: true, OK: err == nil, Output: last}
}
