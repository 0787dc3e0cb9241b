package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gapless"

	"github.com/google/go-cmp/cmp"
)

// home is a store with the trees of one app beside it.
type home struct {
	*Store
	dir string
	n   int
}

func newHome(t *testing.T) *home {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(filepath.Join(dir, "content"))
	check(t, err)
	return &home{Store: s, dir: dir}
}

// release makes the next tree of src.
func (h *home) release(t *testing.T, src string, opt Options) (string, Result) {
	t.Helper()
	h.n++
	dst := filepath.Join(h.dir, "releases", fmt.Sprintf("v%d", h.n))
	opt.Cache = filepath.Join(h.dir, "scan.cache")
	res, err := h.Take(t.Context(), src, dst, opt)
	if err != nil {
		t.Fatalf("Take: %v (hint: %s)", err, gapless.HintOf(err))
	}
	return dst, res
}

// count counts the objects of the store.
func (h *home) count(t *testing.T) (n int) {
	t.Helper()
	check(t, filepath.WalkDir(h.objects(), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	}))
	return n
}

func inode(t *testing.T, path string) (ino, links uint64) {
	t.Helper()
	info, err := os.Lstat(path)
	check(t, err)
	st := statOf(info)
	return st.ino, st.links
}

// appendTo writes to the end of a file as a careless program does.
func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	check(t, err)
	_, err = f.WriteString(text)
	check(t, errors.Join(err, f.Close()))
}

// age makes files look as if nobody had touched them for a while: the time of
// a change cannot be set, so it waits until it has passed.
func age(t *testing.T) {
	t.Helper()
	time.Sleep(tick + 50*time.Millisecond) // no race is hidden: what is tested is that time must pass
}

// many has modules to share, and files of its own.
func many(t *testing.T) string {
	return tree(t, map[string]string{"server.js": "serve", "data.txt": "data", "bin/run": "+ run",
		"node_modules/a/index.js": "aaa", "node_modules/a/cli": "+ cli", "node_modules/.cache/x": "cache"})
}

func TestReleasesShareWhatDidNotChange(t *testing.T) {
	h, src := newHome(t), many(t)
	age(t)
	one, _ := h.release(t, src, Options{})
	check(t, os.Chtimes(filepath.Join(src, "node_modules/a/cli"), time.Now(), time.Now())) // as a fresh checkout would
	two, res := h.release(t, src, Options{})
	for name, shared := range map[string]bool{"node_modules/a/index.js": true, "node_modules/a/cli": true, "node_modules/.cache/x": false, "server.js": false} {
		a, _ := inode(t, filepath.Join(one, name))
		b, links := inode(t, filepath.Join(two, name))
		user, _ := inode(t, filepath.Join(src, name))
		if (a == b) != shared || a == user || b == user || shared != (links > 1) {
			t.Errorf("%s: inodes %d, %d, of the user %d, %d links; shared: want %v", name, a, b, user, links, shared)
		}
	}
	if res.Shared != 2 || h.count(t) != 2 {
		t.Errorf("%d shared, %d objects, want 2 and 2", res.Shared, h.count(t))
	}
	// Another mode is another object.
	check(t, os.Chmod(filepath.Join(src, "node_modules/a/index.js"), 0o755))
	three, _ := h.release(t, src, Options{})
	if got := listing(t, three)["node_modules/a/index.js"]; got != "555 aaa" || listing(t, two)["node_modules/a/index.js"] != "444 aaa" {
		t.Errorf("after chmod: %s", got)
	}
}

// The one who runs the app decides what can be shared: what another user
// cannot write to needs no copy.
func TestAnotherUserSharesMore(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	h, src := newHome(t), many(t)
	check(t, os.Chmod(filepath.Join(src, "data.txt"), 0o666))
	check(t, os.Chown(filepath.Join(src, "bin/run"), 65534, 65534))
	tree, _ := h.release(t, src, Options{User: 65534})
	for name, shared := range map[string]bool{"server.js": true, "data.txt": false, "bin/run": false} {
		if _, links := inode(t, filepath.Join(tree, name)); (links > 1) != shared {
			t.Errorf("%s has %d links, shared: want %v", name, links, shared)
		}
	}
}

// An app that appends in place to its own files changes no other release.
func TestAnAppThatWritesChangesNoOtherRelease(t *testing.T) {
	h, src := newHome(t), many(t)
	age(t)
	one, _ := h.release(t, src, Options{})
	two, _ := h.release(t, src, Options{})
	before, source := listing(t, one), listing(t, src)
	for _, name := range []string{"server.js", "data.txt", "bin/run", "node_modules/.cache/x"} {
		appendTo(t, filepath.Join(two, name), "MORE")
	}
	three, _ := h.release(t, src, Options{})
	for name, got := range map[string]map[string]string{"v1": listing(t, one), "v3": listing(t, three)} {
		if d := cmp.Diff(before, got); d != "" {
			t.Errorf("%s changed (-before +after):\n%s", name, d)
		}
	}
	if d := cmp.Diff(source, listing(t, src)); d != "" {
		t.Errorf("the source changed:\n%s", d)
	}
}

// A build may write to anything in place, dependencies too. What it leaves
// alone is shared again, as are what it makes of many releases.
func TestABuildChangesNoOtherRelease(t *testing.T) {
	h, src := newHome(t), many(t)
	age(t)
	one, _ := h.release(t, src, Options{})
	before := listing(t, one)
	var trees []string
	for range 2 {
		two, res := h.release(t, src, Options{Private: true})
		for name := range before {
			if _, links := inode(t, filepath.Join(two, strings.TrimSuffix(name, "/"))); links > 1 && !strings.HasSuffix(name, "/") {
				t.Errorf("%s has %d links while a build runs", name, links)
			}
		}
		appendTo(t, filepath.Join(two, "data.txt"), "BUILT")
		appendTo(t, filepath.Join(two, "node_modules/a/cli"), "BUILT")
		check(t, os.Mkdir(filepath.Join(two, "dist"), 0o755))
		check(t, os.WriteFile(filepath.Join(two, "dist/out.js"), []byte("built"), 0o644))
		check(t, os.Link(filepath.Join(src, "server.js"), filepath.Join(two, "dist/foreign.js"))) // as installers do
		check(t, h.Seal(t.Context(), two, &res, 0))
		trees = append(trees, two)
	}
	if d := cmp.Diff(before, listing(t, one)); d != "" {
		t.Errorf("the build changed another release (-before +after):\n%s", d)
	}
	got := listing(t, trees[1])
	if got["data.txt"] != "644 dataBUILT" || got["node_modules/a/cli"] != "555 cliBUILT" || got["dist/out.js"] != "644 built" {
		t.Errorf("built: %v", got)
	}
	a, _ := inode(t, filepath.Join(one, "node_modules/a/index.js"))
	b, _ := inode(t, filepath.Join(trees[0], "node_modules/a/index.js"))
	c, _ := inode(t, filepath.Join(trees[1], "node_modules/a/index.js"))
	if a != b || b != c {
		t.Errorf("what the build left alone is not shared: inodes %d, %d, %d", a, b, c)
	}
	if _, links := inode(t, filepath.Join(trees[1], "dist/foreign.js")); links != 1 {
		t.Errorf("a file of the user is linked into the release")
	}
}

// Root can write to what is read-only. Later releases do not get what it wrote.
func TestADamagedObjectIsNotUsedAgain(t *testing.T) {
	h, src := newHome(t), many(t)
	age(t)
	one, _ := h.release(t, src, Options{})
	file := filepath.Join(one, "node_modules/a/index.js")
	check(t, os.Chmod(file, 0o644))
	appendTo(t, file, "HACKED")
	check(t, os.Chmod(file, 0o444))
	two, _ := h.release(t, src, Options{})
	if got := listing(t, two)["node_modules/a/index.js"]; got != "444 aaa" {
		t.Errorf("a new release got what was written to an old one: %q", got)
	}
}

// A file that changes and keeps its size and time is still seen, also when
// that happens right after it was read.
func TestAChangeThatLooksLikeNone(t *testing.T) {
	h, src := newHome(t), many(t)
	file := filepath.Join(src, "node_modules/a/index.js")
	at := time.Now().Add(-time.Hour)
	check(t, os.Chtimes(file, at, at))
	for i, content := range []string{"bbb", "ccc", "ddd"} {
		if i == 2 {
			age(t) // now it is trusted, and ctime tells
		}
		h.release(t, src, Options{})
		check(t, os.WriteFile(file, []byte(content), 0o644))
		check(t, os.Chtimes(file, at, at))
		got, _ := h.release(t, src, Options{})
		if got := listing(t, got)["node_modules/a/index.js"]; got != "444 "+content {
			t.Errorf("after a change to %s the release has %q", content, got)
		}
	}
	// A damaged cache costs time and nothing else.
	check(t, os.WriteFile(filepath.Join(h.dir, "scan.cache"), []byte(strings.Repeat("x", 500)), 0o600))
	h.release(t, src, Options{})
}

func TestSweepDeletesWhatNothingUses(t *testing.T) {
	h, src := newHome(t), many(t)
	one, _ := h.release(t, src, Options{})
	add(t, src, map[string]string{"node_modules/b/index.js": "b"})
	two, _ := h.release(t, src, Options{})
	check(t, os.WriteFile(filepath.Join(h.objects(), tmp+"left"), nil, 0o600))
	check(t, os.MkdirAll(filepath.Join(h.deps(), "k", "tree"), 0o700))
	check(t, claim(filepath.Join(h.deps(), "k"), one))
	check(t, claim(filepath.Join(h.deps(), "k"), two))
	if n, err := h.Sweep(); err != nil || n != 1 || h.count(t) != 3 {
		t.Errorf("first sweep: %d, %v, %d objects", n, err, h.count(t))
	}
	check(t, Remove(two))
	h.use.RLock() // a release is being made
	if n, err := h.Sweep(); err != nil || n != 0 {
		t.Errorf("sweep beside a deploy: %d, %v", n, err)
	}
	h.use.RUnlock()
	if n, err := h.Sweep(); err != nil || n != 1 || h.count(t) != 2 {
		t.Errorf("second sweep: %d, %v, %d objects", n, err, h.count(t))
	}
	if _, err := os.Stat(filepath.Join(h.deps(), "k")); err != nil {
		t.Errorf("dependencies that are used were deleted: %v", err)
	}
	check(t, Remove(one))
	if _, err := h.Sweep(); err != nil || h.count(t) != 0 {
		t.Errorf("last sweep: %v, %d objects", err, h.count(t))
	}
	if left, err := os.ReadDir(h.deps()); err != nil || len(left) != 0 {
		t.Errorf("dependencies left: %v, %v", left, err)
	}
}

// An unchanged redeploy of 50,000 files reads none of them.
func TestUnchangedRedeployIsCheap(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 50,000 files")
	}
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		t.Setenv("TMPDIR", "/dev/shm") // on a disk, the tests beside this one would make its work more
	}
	h, src := newHome(t), t.TempDir()
	for d := range 500 {
		dir := filepath.Join(src, fmt.Sprintf("d%d", d))
		check(t, os.Mkdir(dir, 0o755))
		for f := range 100 {
			check(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%d.js", f)), fmt.Appendf(nil, "file %d %d", d, f), 0o644))
		}
	}
	age(t)
	old, _ := h.release(t, src, Options{})
	before := cpu(t)
	_, res := h.release(t, src, Options{})
	check(t, Remove(old))
	_, err := h.Sweep()
	check(t, err)
	took := cpu(t) - before
	t.Logf("%v of CPU for %d files, with the deletion of the old release", took, res.Files)
	if res.Files != 50_000 || res.Shared != 50_000-ownFiles {
		t.Errorf("%d files, %d shared", res.Files, res.Shared)
	}
	if took > 2*time.Second && !raced {
		t.Errorf("an unchanged redeploy took %v of CPU, want less than 2 s", took)
	}
}

func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	check(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestCarryKeepsOldAssets(t *testing.T) {
	h := newHome(t)
	var former []Former
	for i, hash := range []string{"aaa", "bbb", "ccc"} {
		src := tree(t, map[string]string{"public/index.html": hash, "public/js/app." + hash + ".js": hash, "private/" + hash: hash, "public/logo.svg": "logo"})
		dst, _ := h.release(t, src, Options{})
		added, err := h.Carry(dst, []string{"public", "absent"}, former)
		check(t, err)
		got := listing(t, dst)
		if len(added) != i || got["public/index.html"] != "644 "+hash {
			t.Errorf("%s: added %q to %v", hash, added, got)
		}
		if i > 0 && got["public/js/app.aaa.js"] != "444 aaa" {
			t.Errorf("%s has no asset of the first release: %v", hash, got)
		}
		if got["private/aaa"] != "" && i > 0 {
			t.Errorf("%s got what is no asset", hash)
		}
		former = append(former, Former{dst, added})
	}
	// The first is gone: nobody carries its asset on.
	src := tree(t, map[string]string{"public/index.html": "ddd"})
	dst, _ := h.release(t, src, Options{})
	added, err := h.Carry(dst, []string{"public"}, append(former[1:], Former{Tree: filepath.Join(h.dir, "gone")}))
	check(t, err)
	if d := cmp.Diff([]string{"public/js/app.bbb.js", "public/logo.svg", "public/js/app.ccc.js"}, added); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
