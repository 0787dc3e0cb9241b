package daemon

import (
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
)

func TestCommandEndsWithAllThatItStarted(t *testing.T) {
	t.Parallel()
	reason := errors.New("aborted by a person")
	for _, c := range []struct {
		name, text string
		limit      time.Duration
		want       string
	}{
		{"the limit", "echo begun; sleep 1000 & echo $! >child; wait", time.Second, "longer than 1s"},
		{"cancelled", "echo begun; sleep 1000 & echo $! >child; wait", time.Hour, "aborted by a person"},
		{"the shell has ended, its child holds the output", "echo begun; sleep 1000 & echo $! >child", time.Second, "longer than 1s"},
		{"it ignores being asked", "echo begun; trap '' TERM HUP; (trap '' TERM; sleep 1000) & echo $! >child; wait", time.Second, "longer than 1s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rel := &gapless.Release{Tree: t.TempDir()}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if c.limit == time.Hour {
				go func() {
					for !exists(filepath.Join(rel.Tree, "child")) && t.Context().Err() == nil {
						time.Sleep(5 * time.Millisecond)
					}
					cancel(reason)
				}()
			}
			output, err := command{text: c.text, rel: rel, limit: c.limit}.run(ctx)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
			if output != "begun\n" {
				t.Errorf("output %q", output)
			}
			data, err := os.ReadFile(filepath.Join(rel.Tree, "child"))
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
			if err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(10 * time.Second); alive(pid); time.Sleep(5 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("its child %d lives on", pid)
				}
			}
		})
	}
}

// TestCommandIsNotHeldByWhoLeft lets something that left the group keep the output open.
func TestCommandIsNotHeldByWhoLeft(t *testing.T) {
	t.Parallel()
	rel := &gapless.Release{Tree: t.TempDir()}
	text := `setsid sh -c 'echo $$ >child; exec sleep 1000' & sleep 1000`
	began := time.Now()
	_, err := command{text: text, rel: rel, limit: time.Second}.run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("%v", err)
	}
	if took := time.Since(began); took > 60*time.Second {
		t.Errorf("it took %s", took)
	}
	if data, err := os.ReadFile(filepath.Join(rel.Tree, "child")); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func TestCommandKeepsTheEndOfItsOutput(t *testing.T) {
	t.Parallel()
	rel := &gapless.Release{Tree: t.TempDir()}
	output, err := command{text: "seq 100000; (echo late) & exit 3", rel: rel, limit: time.Minute}.run(t.Context())
	if err == nil || err.Error() != "exit status 3" {
		t.Errorf("%v", err)
	}
	if len(output) > tailSize || !strings.HasSuffix(output, "\n99999\n100000\nlate\n") && !strings.Contains(output, "late\n") {
		t.Errorf("%d bytes, which end with %q", len(output), output[max(0, len(output)-40):])
	}
}

func TestTail(t *testing.T) {
	var whole strings.Builder
	var end tail
	for n := range 300 {
		text := strings.Repeat(fmt.Sprint(n, " "), n*n%977+1)
		whole.WriteString(text)
		if _, err := end.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if want := whole.String()[max(0, whole.Len()-tailSize):]; string(end) != want {
			t.Fatalf("after write %d: %d bytes, want %d", n, len(end), len(want))
		}
	}
	if _, err := end.Write([]byte(strings.Repeat("x", 3*tailSize))); err != nil || string(end) != strings.Repeat("x", tailSize) {
		t.Errorf("a long write: %v, %d bytes", err, len(end))
	}
}

// TestBuildRunsAsUser builds as nobody: the build may write to its tree, and
// nobody may write to it afterwards, but read all of it.
func TestBuildRunsAsUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can build as another user")
	}
	uid, gid, err := systemUser("nobody")
	if err != nil {
		t.Skip(err)
	}
	top := t.TempDir()
	outside := filepath.Join(top, "outside")
	tree := filepath.Join(top, "tree")
	for _, err := range []error{
		os.Chmod(top, 0o711), os.Chmod(filepath.Dir(top), 0o711), os.Mkdir(filepath.Join(tree), 0o755),
		os.WriteFile(filepath.Join(tree, "private"), []byte("s"), 0o600), os.Lchown(filepath.Join(tree, "private"), 12345, 12345),
		os.WriteFile(outside, nil, 0o600), os.Symlink(outside, filepath.Join(tree, "link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	rel := &gapless.Release{App: "shop", Name: "v1", Tree: tree, Spec: gapless.App{Name: "shop", User: "nobody",
		Build: `id -u >who; echo $HOME >>who; cat private >>private; umask 077; mkdir -p out/deep; echo made >out/deep/file; ln -s ../link out/link; echo '#!/bin/sh' >out/run; chmod 4777 out/run`}}
	if err := build(t.Context(), rel, environment{}, t.Logf); err != nil {
		t.Fatal(err)
	}
	who, err := os.ReadFile(filepath.Join(tree, "who"))
	if err != nil || !strings.HasPrefix(string(who), fmt.Sprintf("%d\n/", uid)) || strings.Contains(string(who), os.Getenv("HOME")+"\n") {
		t.Errorf("%v: it ran as %q", err, who)
	}
	for path, want := range map[string]struct {
		uid, gid int
		mode     os.FileMode
	}{
		"tree": {0, 0, 0o755 | os.ModeDir}, "tree/private": {12345, 12345, 0o600}, "tree/who": {0, gid, 0o644},
		"tree/out": {0, gid, 0o750 | os.ModeDir}, "tree/out/deep/file": {0, gid, 0o640}, "tree/out/run": {0, gid, 0o755},
		"outside": {0, 0, 0o600},
	} {
		info, err := os.Lstat(filepath.Join(top, path))
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		if int(st.Uid) != want.uid || int(st.Gid) != want.gid || info.Mode() != want.mode {
			t.Errorf("%s: %d:%d %v, want %d:%d %v", path, st.Uid, st.Gid, info.Mode(), want.uid, want.gid, want.mode)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// alive reports whether a process runs; one that nobody reaps does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}
