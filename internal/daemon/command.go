package daemon

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"gapless"
	"gapless/internal/supervise"
)

// command is what a release runs beside its instances: its build, a hook. It
// runs in the release's tree and environment, as the user of the instances.
type command struct {
	text  string // for /bin/sh
	rel   *gapless.Release
	env   environment
	set   []string      // further variables, NAME=value; the environment wins
	limit time.Duration // it is ended when it takes longer
}

func (c command) argv() []string { return []string{"/bin/sh", "-c", c.text} }

// environ is the command's environment when who runs it.
func (c command) environ(who *supervise.User) []string {
	env := append([]string{"HOME=" + os.Getenv("HOME"), "LANG=C.UTF-8",
		"PATH=" + strings.TrimPrefix(filepath.Dir(c.rel.Runtime.Path)+":", ".:") + os.Getenv("PATH")}, c.set...)
	if int(who.UID) != os.Geteuid() {
		env = append(env, "HOME="+who.Home, "USER="+who.Name, "LOGNAME="+who.Name)
	}
	for k, v := range c.env.of(gapless.WebProcess) {
		env = append(env, k+"="+v)
	}
	return env
}

// run runs the command to its end and returns the end of what it printed.
// When ctx ends, or the limit is reached, its whole process group is killed
// and the error is the cause.
func (c command) run(ctx context.Context) (output string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.limit, fmt.Errorf("it took longer than %s and was ended", c.limit))
	defer cancel()
	who, err := supervise.LookupUser(c.rel.Spec.User)
	if err != nil {
		return "", err
	}
	argv := c.argv()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = c.rel.Tree, c.environ(who)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if int(who.UID) != os.Geteuid() {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: who.UID, Gid: who.GID, Groups: who.Groups}
	}
	kill := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = kill
	// A pipe of our own: what the shell started may hold it longer than the
	// shell lives, and is waited for, but not for ever.
	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer func() { _ = r.Close() }()
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		return "", err
	}
	var out tail
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(&out, r) // ends with the last writer, or at the deadline below
	}()
	err = cmd.Wait()
	select {
	case <-read:
	case <-ctx.Done():
		_ = kill()
		_ = r.SetReadDeadline(time.Now().Add(holdsOn)) // who left the group may hold on
		<-read
		err = ctx.Err()
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return string(out), err
}

// holdsOn is how long what was printed is read on after a command was killed.
const holdsOn = time.Second

// tail keeps the end of what is written to it.
type tail []byte

const tailSize = 32 << 10

func (t *tail) Write(p []byte) (int, error) {
	*t = append(*t, p[max(0, len(p)-tailSize):]...)
	if over := len(*t) - tailSize; over > 0 {
		*t = append((*t)[:0], (*t)[over:]...)
	}
	return len(p), nil
}

func lastLines(text string, n int) []string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return lines[max(0, len(lines)-n):]
}
