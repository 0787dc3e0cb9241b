package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gapless"
	"gapless/internal/api"
)

// Go runs a gapless command beside the test; its result comes when it ends.
func (r *Rig) Go(args ...string) <-chan Result {
	ch := make(chan Result, 1)
	go func() { ch <- r.Run(args...) }()
	return ch
}

// Look is Status for tests in which the daemon dies: it asks again until one answers.
func (r *Rig) Look() api.Status {
	r.T.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		st, err := r.Client().Status(context.Background())
		if err == nil {
			return st
		}
		if gapless.CodeOf(err) != gapless.Unavailable || time.Now().After(end) {
			r.T.Fatal(err)
		}
	}
}

// Proc is the newest of gapless's own processes of that name: keeper, daemon, edge.
func (r *Rig) Proc(name string) api.Proc {
	r.T.Helper()
	var found api.Proc
	for _, p := range r.Look().Procs {
		if p.Name == name && p.Generation >= found.Generation {
			found = p
		}
	}
	if found.PID == 0 {
		r.T.Fatalf("no %s runs", name)
	}
	return found
}

// Death is a process that was killed: when the signal was sent, and when
// nothing of it was left but a zombie at most, so that all its sockets were closed.
type Death struct{ Sent, Gone time.Time }

// Kill sends SIGKILL to processes of this installation and waits until they are gone.
func Kill(t testing.TB, pids ...int) Death {
	t.Helper()
	d := Death{Sent: time.Now()}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatalf("kill -9 %d: %v", pid, err)
		}
	}
	for _, pid := range pids {
		for end := d.Sent.Add(5 * time.Second); lives(pid); time.Sleep(200 * time.Microsecond) {
			if time.Now().After(end) {
				t.Fatalf("%d lives on after kill -9", pid)
			}
		}
	}
	d.Gone = time.Now()
	return d
}

// lives reports whether a thread of a process is there that is no zombie. A
// zombie may wait for long for a parent that is not ours. The sockets of a
// process are closed when its last thread ends, and that need not be the first
// one, whose state is the process's.
func lives(pid int) bool {
	threads, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/stat")
	if err != nil {
		return false
	}
	for _, path := range threads {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		_, state, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')'):]), " ")
		if !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X") {
			return true
		}
	}
	return false
}

// Alive reports whether there is such a process, also as a zombie.
func Alive(pid int) bool {
	_, err := os.Stat("/proc/" + strconv.Itoa(pid))
	return err == nil
}

// Strays lists the processes that belong to this installation: gapless's own,
// instances, and what these started and lost. Nothing may be left after
// `down --all`.
func (r *Rig) Strays() []string {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		r.T.Fatal(err)
	}
	var out []string
	for _, dir := range dirs {
		env, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil {
			continue // gone, or not ours to look at
		}
		cwd, _ := os.Readlink(filepath.Join(dir, "cwd"))
		ours := strings.HasPrefix(cwd, r.Home+"/")
		for v := range bytes.SplitSeq(env, []byte{0}) {
			ours = ours || string(v) == "GAPLESS_HOME="+r.Home
		}
		cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if !ours || err != nil || len(cmdline) == 0 {
			continue // a zombie has no command line
		}
		out = append(out, fmt.Sprintf("%s: %s", filepath.Base(dir), bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))
	}
	return out
}

// leftovers are the strays that are still there after limit.
func (r *Rig) leftovers(limit time.Duration) (left []string) {
	for end := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		if left = r.Strays(); len(left) == 0 || time.Now().After(end) {
			return left
		}
	}
}

// Lines reads the whole lines of a file; none while it does not exist.
func Lines(t testing.TB, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	lines := strings.Split(string(data), "\n")
	return lines[:len(lines)-1]
}
