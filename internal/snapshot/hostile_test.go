package snapshot

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gapless"
)

// refusedWith expects Take to fail with those options and words.
func refusedWith(t *testing.T, src string, opt Options, words ...string) {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "v1")
	_, err := store(t).Take(t.Context(), src, dst, opt)
	if err == nil {
		t.Fatalf("Take succeeded")
	}
	for _, w := range words {
		if !strings.Contains(err.Error()+"\n"+gapless.HintOf(err), w) {
			t.Errorf("error %q (hint %q) does not say %q", err, gapless.HintOf(err), w)
		}
	}
	if left, _ := os.ReadDir(filepath.Dir(dst)); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A file of 10 GB without content stays one; one with little content, too.
func TestSparseFilesStaySparse(t *testing.T) {
	src := tree(t, map[string]string{"node_modules/a": "x"})
	const size = 10 << 30
	for name, at := range map[string]int64{"empty.img": -1, "little.img": 5 << 30, "node_modules/m.img": size - 4} {
		f, err := os.Create(filepath.Join(src, name))
		check(t, err)
		if err := f.Truncate(size); err != nil {
			t.Skipf("no file of that size here: %v", err)
		}
		if at >= 0 {
			_, err = f.WriteAt([]byte("data"), at)
			check(t, err)
		}
		check(t, f.Close())
	}
	for _, private := range []bool{false, true} {
		h := newHome(t)
		dst, res := h.release(t, src, Options{Private: private})
		check(t, h.Seal(t.Context(), dst, &res, 0))
		for name, at := range map[string]int64{"empty.img": -1, "little.img": 5 << 30, "node_modules/m.img": size - 4} {
			f, err := os.Open(filepath.Join(dst, name))
			check(t, err)
			info, err := f.Stat()
			check(t, err)
			if used := statOf(info).used; info.Size() != size || used > 1<<20 {
				t.Errorf("%s: %d bytes, %d on disk", name, info.Size(), used)
			}
			buf := make([]byte, 4)
			if at >= 0 {
				if _, err := f.ReadAt(buf, at); err != nil || string(buf) != "data" {
					t.Errorf("%s at %d: %q, %v", name, at, buf, err)
				}
			}
			check(t, f.Close())
		}
	}
}

func TestTooManyFilesAreRefused(t *testing.T) {
	src := t.TempDir()
	for i := range 50 {
		check(t, os.WriteFile(filepath.Join(src, fmt.Sprint(i)), nil, 0o644))
	}
	refusedWith(t, src, Options{MaxFiles: 49}, "more than 49 files", ".gaplessignore")
	add(t, src, map[string]string{".gaplessignore": "1*\n"})
	if _, err := store(t).Take(t.Context(), src, filepath.Join(t.TempDir(), "v1"), Options{MaxFiles: 49}); err != nil {
		t.Errorf("what is ignored counts: %v", err)
	}
}

func TestTooDeepIsRefused(t *testing.T) {
	src := t.TempDir()
	check(t, os.MkdirAll(filepath.Join(src, strings.Repeat("d/", maxDirs+5)), 0o755))
	refusedWith(t, src, Options{}, "directories deep")
}

// A directory that becomes a link between the look and the copy leads nowhere.
func TestNoReadOutsideWhenTheSourceChanges(t *testing.T) {
	outside := tree(t, map[string]string{"secret": "SECRET"})
	src := tree(t, map[string]string{"dir/secret": "mine"})
	dst := t.TempDir()
	c := &copier{store: store(t), dst: dst}
	info, err := os.Stat(src)
	check(t, err)
	c.opt.Everything = true
	root, err := c.root(src, "")
	check(t, err)
	defer root.root.Close()
	c.dirs = append(c.dirs, dirMode{dst, info})
	check(t, c.walk(t.Context(), root, root.root, "", ""))
	check(t, os.Rename(filepath.Join(src, "dir"), filepath.Join(src, "was")))
	check(t, os.Symlink(outside, filepath.Join(src, "dir")))
	c.divide()
	if err := c.files(t.Context()); err == nil || !strings.Contains(err.Error(), "escapes") {
		t.Errorf("%v; the tree has %v", err, listing(t, dst))
	}
}

// Ignore files that cannot be read, or are links or devices, are told or do not count.
func TestHostileIgnoreFiles(t *testing.T) {
	src := tree(t, map[string]string{"a": "x", "sub/.gitignore": "-> ../rules", "rules": "b", "sub/b": "x"})
	check(t, os.Mkdir(filepath.Join(src, ".gaplessignore"), 0o755))
	dst, _ := newHome(t).release(t, src, Options{})
	if got := listing(t, dst); got["a"] != "644 x" || got["sub/b"] != "644 x" {
		t.Errorf("got %v", got)
	}
}
