package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// pm2Version is what the table is about.
const pm2Version = "7.0.4"

// pm2 is PM2 in cluster mode with a PM2_HOME of its own.
type pm2 struct {
	bin  string // node_modules/.bin/pm2
	home string
	app  *App
}

// installPM2 installs PM2 from npm into dir, unless it is there, and returns
// the path of its command.
func installPM2(ctx context.Context, dir string) (string, error) {
	bin := filepath.Join(dir, "node_modules", ".bin", "pm2")
	if b, err := os.ReadFile(filepath.Join(dir, "node_modules", "pm2", "package.json")); err == nil {
		if !strings.Contains(string(b), `"version": "`+pm2Version+`"`) {
			return "", fmt.Errorf("%s has another version of pm2 than %s", dir, pm2Version)
		}
		return bin, nil
	}
	_, err := run(ctx, dir, environ(), "npm", "install", "--prefix", dir, "--no-audit", "--no-fund", "--ignore-scripts",
		"--loglevel=error", "pm2@"+pm2Version)
	return bin, err
}

func (p *pm2) Name() string { return "PM2 " + pm2Version }

func (p *pm2) command(ctx context.Context, args ...string) error {
	_, err := run(ctx, p.app.Dir, environ("PM2_HOME="+p.home, "PM2_DISABLE_VERSION_CHECK=true",
		"PORT="+strconv.Itoa(p.app.Port)), p.bin, args...)
	return err
}

func (p *pm2) Start(ctx context.Context, a *App) error {
	p.app = a
	if err := p.command(ctx, "start", a.Script, "--name", "app", "-i", strconv.Itoa(a.Instances)); err != nil {
		return err
	}
	return serving(ctx, a)
}

func (p *pm2) Deploy(ctx context.Context) error { return p.command(ctx, "reload", "app") }

func (p *pm2) Restart(ctx context.Context) error { return p.command(ctx, "reload", "app") }

func (p *pm2) KillDaemon(context.Context) error {
	b, err := os.ReadFile(filepath.Join(p.home, "pm2.pid"))
	if err != nil {
		return fmt.Errorf("find pm2's daemon: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return fmt.Errorf("find pm2's daemon: %w", err)
	}
	if title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err != nil || !strings.Contains(string(title), p.home) {
		return fmt.Errorf("process %d is not the pm2 daemon of %s", pid, p.home)
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

func (p *pm2) Stop() error {
	if p.app == nil {
		return nil
	}
	err := p.command(context.Background(), "kill")
	killOwned("PM2_HOME=" + p.home)
	return err
}
