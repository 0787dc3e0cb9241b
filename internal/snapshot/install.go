package snapshot

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"gapless"
)

// installTime is the longest that an install may take.
const installTime = 20 * time.Minute

// install runs the manager in the tree.
func (n *needs) install(ctx context.Context, tree string, in Install) error {
	path := os.Getenv("PATH")
	if n.runtime.Path != "" {
		path = filepath.Dir(n.runtime.Path) + ":" + path
	}
	program := lookIn(path, n.manager)
	if program == "" {
		hint := "npm install -g " + n.manager
		if n.manager == "npm" {
			hint = "it comes with Node.js"
		}
		return gapless.Errorf(gapless.NotStarted, "%s is needed to install what %s lists, and is not on this machine", n.manager, n.lock).
			WithHint("install it where gapless finds it: %s. Or ship node_modules: write !node_modules/ into .gaplessignore", hint)
	}
	args := n.arguments(in.Build)
	in.Say("installing dependencies: %s %s", n.manager, strings.Join(args, " "))
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, installTime, errors.New("it took longer than "+installTime.String()))
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = tree
	cmd.Env = n.environment(path, in.Env)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // with all that it started
	cmd.WaitDelay = 5 * time.Second
	out := &tail{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return gapless.Errorf(gapless.NotStarted, "install dependencies with %s: %w\n%s", n.manager, err, out.ends(10)).
			WithHint("run %s %s by hand in a fresh checkout; the lockfile has to fit package.json", n.manager, strings.Join(args, " "))
	}
	in.Say("installed in %s", time.Since(began).Round(100*time.Millisecond))
	return nil
}

// arguments ask for exactly what the lockfile says.
func (n *needs) arguments(build bool) []string {
	switch {
	case n.manager == "npm" && build:
		return []string{"ci", "--no-audit", "--no-fund", "--prefer-offline", "--include=dev"}
	case n.manager == "npm":
		return []string{"ci", "--no-audit", "--no-fund", "--prefer-offline", "--omit=dev"}
	case n.manager == "pnpm" && build:
		return []string{"install", "--frozen-lockfile", "--package-import-method=clone-or-copy", "--prod=false"}
	case n.manager == "pnpm":
		return []string{"install", "--frozen-lockfile", "--package-import-method=clone-or-copy", "--prod"}
	case n.manager == "bun" && build:
		return []string{"install", "--frozen-lockfile", "--backend=copyfile"}
	case n.manager == "bun":
		return []string{"install", "--frozen-lockfile", "--backend=copyfile", "--production"}
	case n.berry: // has no install without development dependencies but by a plugin
		return []string{"install", "--immutable"}
	case build:
		return []string{"install", "--frozen-lockfile", "--non-interactive", "--production=false"}
	}
	return []string{"install", "--frozen-lockfile", "--non-interactive", "--production"}
}

// environment is small: install scripts are other people's programs, and the
// app's secrets are no business of theirs. Only variables that the manager's
// own settings refer to, such as a registry's token, are passed on.
func (n *needs) environment(path string, app map[string]string) []string {
	env := []string{"PATH=" + path, "LANG=C.UTF-8", "CI=1", "YARN_NODE_LINKER=node-modules", "YARN_ENABLE_GLOBAL_CACHE=true"}
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		lower := strings.ToLower(name)
		if name == "HOME" || name == "TMPDIR" || lower == "http_proxy" || lower == "https_proxy" || lower == "no_proxy" ||
			name == "NODE_EXTRA_CA_CERTS" || strings.HasPrefix(lower, "npm_config_") {
			env = append(env, kv)
		}
	}
	for _, name := range n.variables {
		if value, ok := app[name]; ok && name != "PATH" && name != "HOME" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// lookIn finds a program in a list of directories, "" if it is not there.
func lookIn(path, name string) string {
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); filepath.IsAbs(dir) && err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file
		}
	}
	return ""
}

// tail keeps the end of what is written to it.
type tail struct{ data []byte }

func (t *tail) Write(p []byte) (int, error) {
	const most = 16 << 10
	t.data = append(t.data, p...)
	if len(t.data) > 2*most {
		t.data = append(t.data[:0], t.data[len(t.data)-most:]...)
	}
	return len(p), nil
}

// ends returns the first and the last n lines: a manager says what is wrong,
// and then how it is used.
func (t *tail) ends(n int) string {
	lines := strings.Split(strings.TrimSpace(string(t.data)), "\n")
	if len(lines) > 2*n {
		lines = slices.Concat(lines[:n], []string{"…"}, lines[len(lines)-n:])
	}
	return strings.Join(lines, "\n")
}
