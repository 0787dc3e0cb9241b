package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"gapless/internal/api"
)

// gapless is an installation whose one app is the backend. All of it runs on
// the proxies' core, but the backend on the other one.
type gapless struct {
	bench *bench
	dir   string // of the app
	home  string
}

func (g *gapless) command(ctx context.Context, args ...string) ([]byte, error) {
	exe, err := filepath.Abs(g.bench.gapless)
	if err != nil {
		return nil, err
	}
	line := g.bench.command(0, append([]string{exe}, args...)...)
	cmd := exec.CommandContext(ctx, line.Path, line.Args[1:]...)
	cmd.Dir, cmd.Env = g.dir, append(os.Environ(), "GAPLESS_HOME="+g.home)
	var story bytes.Buffer
	cmd.Stderr = &story
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("gapless %s: %w: %s", args[0], err, story.Bytes())
	}
	return out, nil
}

// up starts the app with a backend of this configuration, in which @PORT@ is
// the port that gapless gives it.
func (g *gapless) up(ctx context.Context, listen, conf string) error {
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		return err
	}
	start := "nginx"
	if g.bench.pin {
		start = "taskset -c 1 nginx"
	}
	file := filepath.Join(filepath.Dir(g.dir), "backend.conf")
	script := fmt.Sprintf("sed s/@PORT@/$PORT/ backend.conf >%s\nexec %s -p %s -c %s\n", file, start, filepath.Dir(g.dir), file)
	for name, text := range map[string]string{"backend.conf": conf, "backend.sh": script} {
		if err := os.WriteFile(filepath.Join(g.dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	_, err := g.command(ctx, "up", "--name", "bench", "--listen", listen, "--instances", "1", "--", "sh", "backend.sh")
	if err != nil {
		return errors.Join(err, g.down())
	}
	return nil
}

// edge is the process that serves.
func (g *gapless) edge(ctx context.Context) (pid int, err error) {
	out, err := g.command(ctx, "status", "--json")
	if err != nil {
		return 0, err
	}
	var st api.Status
	if err := json.Unmarshal(out, &st); err != nil {
		return 0, fmt.Errorf("gapless status: %w", err)
	}
	for _, p := range st.Procs {
		if p.Name == "edge" {
			pid = p.PID
		}
	}
	if pid == 0 {
		return 0, fmt.Errorf("no edge runs: %v", st.Procs)
	}
	return pid, nil
}

func (g *gapless) down() error {
	_, err := g.command(context.Background(), "down", "--all")
	return err
}
