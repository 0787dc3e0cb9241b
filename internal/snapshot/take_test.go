package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gapless"

	"github.com/google/go-cmp/cmp"
)

// tree makes files in a new directory. A content "-> x" makes a link to x, a
// content "+ x" an executable file; a name ending in / makes a directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	add(t, dir, files)
	return dir
}

func add(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		check(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if strings.HasSuffix(name, "/") {
			check(t, os.MkdirAll(path, 0o755))
		} else if target, ok := strings.CutPrefix(content, "-> "); ok {
			check(t, os.Symlink(target, path))
		} else if body, ok := strings.CutPrefix(content, "+ "); ok {
			check(t, os.WriteFile(path, []byte(body), 0o755))
		} else {
			check(t, os.WriteFile(path, []byte(content), 0o644))
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// listing describes everything below dir: mode and content, or a link's target.
func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		switch {
		case d.IsDir():
			got[rel+"/"] = fmt.Sprintf("%o", info.Mode().Perm())
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			got[rel] = "-> " + target
			return err
		default:
			data, err := os.ReadFile(path)
			got[rel] = fmt.Sprintf("%o %s", info.Mode().Perm(), data)
			return err
		}
		return nil
	}))
	return got
}

// store is a new, empty one.
func store(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "store"))
	check(t, err)
	return s
}

// take copies src to a new place and returns the place.
func take(t *testing.T, src string, exclude ...string) (string, Result) {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "releases", "v1")
	res, err := store(t).Take(context.Background(), src, dst, Options{Exclude: exclude})
	if err != nil {
		t.Fatalf("Take: %v (hint: %s)", err, gapless.HintOf(err))
	}
	return dst, res
}

// refused expects Take to fail with all of the words, and to leave nothing.
func refused(t *testing.T, src string, words ...string) error {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "v1")
	_, err := store(t).Take(context.Background(), src, dst, Options{})
	if err == nil {
		t.Fatalf("Take succeeded: %v", listing(t, dst))
	}
	for _, w := range words {
		if !strings.Contains(err.Error()+"\n"+gapless.HintOf(err), w) {
			t.Errorf("error %q (hint %q) does not say %q", err, gapless.HintOf(err), w)
		}
	}
	if left, _ := os.ReadDir(filepath.Dir(dst)); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	return err
}

func express(t *testing.T) string {
	return tree(t, map[string]string{
		"package.json":                      `{"name":"shop","version":"1.2.3","scripts":{"start":"node server.js"}}`,
		"server.js":                         "require('express')",
		"bin/www":                           "+ #!/usr/bin/env node\n",
		"public/index.html":                 "<h1>",
		"empty/":                            "",
		"current":                           "-> public",
		"dead":                              "-> not/there",
		".git/HEAD":                         "ref",
		"vendor/x/.git":                     "gitdir: elsewhere",
		".env":                              "A=1",
		"node_modules/express/index.js":     "exports",
		"node_modules/express/package.json": "{}",
		"node_modules/.bin/express":         "-> ../express/index.js",
		"new\nline \xff\xfe.txt":            "odd name",
	})
}

func TestTakeCopiesEverythingThatMatters(t *testing.T) {
	src := express(t)
	check(t, os.Chmod(filepath.Join(src, "empty"), 0o750))
	check(t, os.Chmod(filepath.Join(src, "bin/www"), 0o4711))
	old := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	check(t, os.Chtimes(filepath.Join(src, "server.js"), old, old))

	dst, res := take(t, src)
	want := listing(t, src)
	delete(want, ".git/")
	delete(want, ".git/HEAD")
	delete(want, "vendor/x/.git")
	want["node_modules/express/index.js"], want["node_modules/express/package.json"] = "444 exports", "444 {}" // shared
	if d := cmp.Diff(want, listing(t, dst)); d != "" {
		t.Errorf("copy (-source +copy):\n%s", d)
	}
	if res.Files != 8 || res.Bytes == 0 || len(res.Hash) != 64 {
		t.Errorf("result %+v, want 8 files", res)
	}
	info, err := os.Stat(filepath.Join(dst, "server.js"))
	check(t, err)
	if !info.ModTime().Equal(old) {
		t.Errorf("modification time %v, want %v: static files would change their ETag with every release", info.ModTime(), old)
	}
	if info, err = os.Stat(filepath.Join(dst, "bin/www")); err != nil || info.Mode()&fs.ModeSetuid != 0 {
		t.Errorf("mode %v, %v: a release must not carry setuid", info.Mode(), err)
	}
}

func TestTakeIsIndependentOfTheSource(t *testing.T) {
	src := express(t)
	dst, _ := take(t, src)
	f, err := os.OpenFile(filepath.Join(src, "server.js"), os.O_WRONLY, 0)
	check(t, err)
	_, err = f.WriteString("BROKEN")
	check(t, err)
	check(t, f.Close())
	data, err := os.ReadFile(filepath.Join(dst, "server.js"))
	check(t, err)
	if string(data) != "require('express')" {
		t.Errorf("the release changed with its source: %q", data)
	}
}

func TestHashSaysWhatChanged(t *testing.T) {
	src := express(t)
	_, first := take(t, src)
	if _, again := take(t, src); again.Hash != first.Hash {
		t.Errorf("two copies of one source have two hashes")
	}
	seen := map[string]string{first.Hash: "nothing"}
	for _, change := range []struct {
		name string
		do   func() error
	}{
		{"content", func() error { return os.WriteFile(filepath.Join(src, "server.js"), []byte("x"), 0o644) }},
		{"mode", func() error { return os.Chmod(filepath.Join(src, "server.js"), 0o755) }},
		{"link", func() error {
			return errors.Join(os.Remove(filepath.Join(src, "current")), os.Symlink("bin", filepath.Join(src, "current")))
		}},
		{"name", func() error { return os.Rename(filepath.Join(src, "server.js"), filepath.Join(src, "server2.js")) }},
		{"directory mode", func() error { return os.Chmod(filepath.Join(src, "bin"), 0o700) }},
		{"empty directory", func() error { return os.Remove(filepath.Join(src, "empty")) }},
	} {
		check(t, change.do())
		_, res := take(t, src)
		if other, same := seen[res.Hash]; same {
			t.Errorf("changing the %s gives the hash of changing %s", change.name, other)
		}
		seen[res.Hash] = change.name
	}
}

func TestTakeExcludes(t *testing.T) {
	src := express(t)
	add(t, src, map[string]string{"state/gapless.db": "db", "uploads": "-> /srv/uploads"})
	// Both the state directory that holds dst and a shared directory's link are left out.
	dst := filepath.Join(src, "state", "releases", "v1")
	res, err := store(t).Take(context.Background(), src, dst, Options{Exclude: []string{filepath.Join(src, "state"), filepath.Join(src, "uploads")}})
	check(t, err)
	got := listing(t, dst)
	for _, gone := range []string{"state/", "uploads"} {
		if _, ok := got[gone]; ok {
			t.Errorf("%s was copied", gone)
		}
	}
	if res.Files != 8 {
		t.Errorf("copied %d files, want 8", res.Files)
	}
	// A destination inside the source never copies itself, even if nobody excludes it.
	inside := filepath.Join(src, "v2")
	_, err = store(t).Take(context.Background(), src, inside, Options{Exclude: []string{filepath.Join(src, "state"), filepath.Join(src, "uploads")}})
	check(t, err)
	if _, err := os.Lstat(filepath.Join(inside, "v2")); err == nil {
		t.Errorf("the copy holds itself")
	}
}

func TestTakeRefusesLinksThatLeave(t *testing.T) {
	outside := tree(t, map[string]string{"secret": "s"})
	for name, target := range map[string]string{
		"absolute":        "/etc/passwd",
		"up":              "../../" + filepath.Base(outside) + "/secret",
		"absolute inside": "SRC/server.js",
	} {
		t.Run(name, func(t *testing.T) {
			src := express(t)
			add(t, src, map[string]string{"data/link": "-> " + strings.Replace(target, "SRC", src, 1)})
			err := refused(t, src, `"data/link"`, "leads out of", "shared")
			if gapless.CodeOf(err) != gapless.NotStarted {
				t.Errorf("code %s", gapless.CodeOf(err))
			}
		})
	}
	t.Run("through another link", func(t *testing.T) {
		src := express(t)
		add(t, src, map[string]string{"self": "-> .", "trick": "-> self/../../etc"})
		refused(t, src, `"trick"`, "leads out of")
	})
}

// Files that are all the same become one object, whoever is first.
func TestEqualFilesAtOnce(t *testing.T) {
	files := map[string]string{}
	for i := range 200 {
		files[fmt.Sprintf("node_modules/p%d/LICENSE", i)] = "free"
	}
	for range 10 {
		src := tree(t, files)
		at := time.Unix(1e9, 0)
		for name := range files {
			check(t, os.Chtimes(filepath.Join(src, name), at, at))
		}
		if _, res := take(t, src); res.Files != 200 || res.Shared != 200 {
			t.Fatalf("%d files, %d shared", res.Files, res.Shared)
		}
	}
}

func TestTakeFollowsWorkspacesInNodeModules(t *testing.T) {
	repo := tree(t, map[string]string{
		"lib/index.js":                      "lib",
		"lib/.git":                          "x",
		"lib/a":                             "-> index.js",
		"lib/node_modules/@me/shop":         "-> ../../../packages/shop",
		"util/index.js":                     "util",
		"util/node_modules/@me/lib":         "-> ../../../lib",
		"packages/shop/server.js":           "require('@me/lib')",
		"packages/shop/node_modules/lib":    "-> ../../../lib",
		"packages/shop/node_modules/me":     "-> ..",
		"packages/shop/node_modules/gone":   "-> ../../../removed",
		"packages/shop/node_modules/util":   "-> ../../../util",
		"packages/shop/node_modules/abs.js": "-> SELF",
	})
	abs := filepath.Join(repo, "packages/shop/node_modules/abs.js")
	check(t, os.Remove(abs))
	check(t, os.Symlink(filepath.Join(repo, "lib/index.js"), abs))

	dst, res := take(t, filepath.Join(repo, "packages/shop"))
	got := listing(t, dst)
	want := map[string]string{
		"server.js":                              "644 require('@me/lib')",
		"node_modules/":                          "755",
		"node_modules/me":                        "-> ..",
		"node_modules/lib/":                      "755",
		"node_modules/lib/index.js":              "444 lib",
		"node_modules/lib/a":                     "-> index.js",
		"node_modules/lib/node_modules/":         "755",
		"node_modules/util/":                     "755",
		"node_modules/util/index.js":             "444 util",
		"node_modules/util/node_modules/":        "755",
		"node_modules/abs.js":                    "444 lib", // listed before lib: copied
		"node_modules/lib/node_modules/@me/":     "755",
		"node_modules/lib/node_modules/@me/shop": "-> ../../../..", // the app itself, a cycle
		"node_modules/util/node_modules/@me/":    "755",
		"node_modules/util/node_modules/@me/lib": "-> ../../../lib", // one copy only
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("copy (-want +got):\n%s", d)
	}
	if res.Skipped != 1 {
		t.Errorf("skipped %d, want the dead link", res.Skipped)
	}
	for _, link := range []string{"node_modules/lib/node_modules/@me/shop/server.js", "node_modules/util/node_modules/@me/lib/index.js"} {
		if _, err := os.Stat(filepath.Join(dst, link)); err != nil {
			t.Errorf("link is broken in the copy: %v", err)
		}
	}
}

func TestTakeRefusesWorkspacesItCannotCopy(t *testing.T) {
	repo := tree(t, map[string]string{
		"node_modules/.pnpm/e@1/node_modules/e/index.js": "e",
		"api/node_modules/e":                             "-> ../../node_modules/.pnpm/e@1/node_modules/e",
		"web/node_modules/all":                           "-> ../..",
	})
	refused(t, filepath.Join(repo, "api"), "pnpm", "node_modules/e")
	refused(t, filepath.Join(repo, "web"), "node_modules/all", "holds the app's directory itself")
	// From the root of the workspace all of it is inside.
	take(t, repo)
}

func TestTakeSkipsWhatIsNoFile(t *testing.T) {
	src := express(t)
	check(t, syscall.Mkfifo(filepath.Join(src, "pipe"), 0o644))
	l, err := net.Listen("unix", filepath.Join(src, "s.sock"))
	check(t, err)
	defer l.Close()
	dst, res := take(t, src)
	if res.Skipped != 2 {
		t.Errorf("skipped %d, want 2", res.Skipped)
	}
	for _, name := range []string{"pipe", "s.sock"} {
		if _, err := os.Lstat(filepath.Join(dst, name)); err == nil {
			t.Errorf("%s was copied", name)
		}
	}
}

func TestTakeKeepsReadOnlyDirectories(t *testing.T) {
	src := tree(t, map[string]string{"ro/sub/file": "x"})
	check(t, os.Chmod(filepath.Join(src, "ro/sub"), 0o555))
	check(t, os.Chmod(filepath.Join(src, "ro"), 0o555))
	dst, _ := take(t, src)
	got := listing(t, dst)
	if got["ro/"] != "555" || got["ro/sub/"] != "555" || got["ro/sub/file"] != "644 x" {
		t.Errorf("copy: %v", got)
	}
	for _, dir := range []string{dst, src} { // so that the test can clean up
		check(t, os.Chmod(filepath.Join(dir, "ro"), 0o755))
		check(t, os.Chmod(filepath.Join(dir, "ro/sub"), 0o755))
	}
}

func TestTakeUnreadableFile(t *testing.T) {
	if os.Geteuid() == 0 {
		asNobody(t)
		return
	}
	src := express(t)
	check(t, os.Chmod(filepath.Join(src, "server.js"), 0))
	refused(t, src, "server.js", "permission denied", "readable")
}

// asNobody runs a test again as a user who may not read everything, as root may.
func asNobody(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "nobody-")
	check(t, err)
	defer os.RemoveAll(dir)
	check(t, os.Chmod(dir, 0o777))
	self, err := os.Executable()
	check(t, err)
	exe := filepath.Join(dir, "snapshot.test") // where it lies nobody may look
	data, err := os.ReadFile(self)
	check(t, err)
	check(t, os.WriteFile(exe, data, 0o755))
	cmd := exec.Command(exe, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TMPDIR="+dir, "HOME="+dir, "GOCACHE="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}

func TestTakeIsAllOrNothing(t *testing.T) {
	src := express(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	dst := filepath.Join(t.TempDir(), "v1")
	if _, err := store(t).Take(ctx, src, dst, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Dir(dst)); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	check(t, os.Mkdir(dst, 0o755))
	if _, err := store(t).Take(context.Background(), src, dst, Options{}); gapless.CodeOf(err) != gapless.Conflict {
		t.Errorf("an existing tree: %v", err)
	}
	if _, err := store(t).Take(context.Background(), filepath.Join(src, "server.js"), dst+"2", Options{}); err == nil {
		t.Errorf("a file was taken as a directory")
	}
	if _, err := store(t).Take(context.Background(), filepath.Join(src, "no"), dst+"2", Options{}); err == nil {
		t.Errorf("nothing was taken as a directory")
	}
}
