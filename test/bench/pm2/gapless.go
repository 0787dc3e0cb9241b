package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"gapless/internal/api"
)

// gapless is the gapless command with a GAPLESS_HOME of its own.
type gapless struct {
	bin  string
	home string
	app  *App
}

func (g *gapless) Name() string { return "gapless" }

func (g *gapless) command(ctx context.Context, args ...string) error {
	_, err := run(ctx, g.app.Dir, environ("GAPLESS_HOME="+g.home), g.bin, args...)
	return err
}

// ship runs up or deploy on the app's directory as it is now.
func (g *gapless) ship(ctx context.Context, verb string) error {
	return g.command(ctx, verb, "--name", "app", "--listen", "127.0.0.1:"+strconv.Itoa(g.app.Port),
		"--instances", strconv.Itoa(g.app.Instances), g.app.Script)
}

func (g *gapless) Start(ctx context.Context, a *App) error {
	g.app = a
	// Event streams never end by themselves: as short a drain as the slow requests allow.
	if err := a.Set("gapless.yaml", "drain: 5s\n"); err != nil {
		return err
	}
	if err := g.ship(ctx, "up"); err != nil {
		return err
	}
	return serving(ctx, a)
}

func (g *gapless) Deploy(ctx context.Context) error { return g.ship(ctx, "deploy") }

func (g *gapless) Restart(ctx context.Context) error { return g.command(ctx, "restart", "app") }

// Hidden adds up what its edges did for the releases that they know.
func (g *gapless) Hidden(ctx context.Context) (h Hidden, err error) {
	cmd := exec.CommandContext(ctx, g.bin, "status", "--json")
	cmd.Env = environ("GAPLESS_HOME=" + g.home)
	out, err := cmd.Output()
	if err != nil {
		return h, fmt.Errorf("gapless status: %w", err)
	}
	var st api.Status
	if err := json.Unmarshal(out, &st); err != nil {
		return h, fmt.Errorf("gapless status: %w", err)
	}
	for _, a := range st.Apps {
		for _, r := range a.Releases {
			h.Retried += r.Retried
			h.Held += r.Held
			h.HeldMax = max(h.HeldMax, r.HeldMax.Std().Seconds())
		}
	}
	return h, nil
}

// KillDaemon kills the control plane; keeper, edge and instances are others.
func (g *gapless) KillDaemon(context.Context) error {
	for _, pid := range owned("GAPLESS_HOME=" + g.home) {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		if err == nil && slices.Contains(strings.Split(string(b), "\x00"), "daemon") {
			return syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	return fmt.Errorf("no daemon of %s runs", g.home)
}

func (g *gapless) Stop() error {
	if g.app == nil {
		return nil
	}
	err := g.command(context.Background(), "down", "--all")
	killOwned("GAPLESS_HOME=" + g.home)
	return err
}
