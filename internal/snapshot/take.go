package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"gapless"
)

// Result is what Take copied.
type Result struct {
	Files   int    // regular files
	Bytes   int64  // of all regular files
	Skipped int    // devices, sockets, pipes, and dead links in node_modules
	Hash    string // sha256 over path, permissions and content of everything, in hex
}

// Take copies the directory src to dst, which must not exist: everything,
// node_modules included, but no .git and no path of exclude (absolute). It
// builds the copy beside dst and renames it, so dst is whole or absent.
//
// Permission bits, modification times and, for root, owners are kept; setuid
// and setgid bits are not. Links are kept if they stay inside the tree. A
// link that leaves it is an error, because a release must not change when
// something else does; only inside node_modules, where links lead to
// workspaces, the target is copied instead. Problems of the source are
// *gapless.Error with a hint.
func Take(ctx context.Context, src, dst string, exclude []string) (Result, error) {
	src, err := filepath.Abs(src)
	if err != nil {
		return Result{}, fmt.Errorf("finding %s: %w", src, err)
	}
	real, err := filepath.EvalSymlinks(src)
	if err != nil {
		return Result{}, explain(err)
	}
	info, err := os.Stat(real)
	if err != nil {
		return Result{}, explain(err)
	}
	if !info.IsDir() {
		return Result{}, gapless.Errorf(gapless.NotStarted, "%s is not a directory", src)
	}
	if _, err := os.Lstat(dst); err == nil {
		return Result{}, gapless.Errorf(gapless.Conflict, "the release tree %s exists already", dst)
	}
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return Result{}, explain(err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dst), filepath.Base(dst)+".tmp-*")
	if err != nil {
		return Result{}, explain(err)
	}
	c := &copier{dst: tmp, exclude: excluded(append(exclude, dst, tmp)), owner: os.Geteuid() == 0}
	c.roots = []copiedRoot{{real: real}}
	res, err := c.run(ctx, real, info)
	if err == nil {
		err = os.Rename(tmp, dst)
	}
	if err != nil {
		removeTree(tmp)
		return Result{}, explain(err)
	}
	return res, nil
}

// excluded holds every spelling of the paths, so that links in them do not matter.
func excluded(paths []string) map[string]bool {
	set := map[string]bool{}
	for _, p := range paths {
		p = filepath.Clean(p)
		set[p] = true
		if real, err := filepath.EvalSymlinks(p); err == nil {
			set[real] = true
		} else if dir, err := filepath.EvalSymlinks(filepath.Dir(p)); err == nil {
			set[filepath.Join(dir, filepath.Base(p))] = true
		}
	}
	return set
}

// removeTree removes what Take built, also below directories without write permission.
func removeTree(dir string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	_ = os.RemoveAll(dir)
}

// explain turns what the system says into what a person can do about it.
func explain(err error) error {
	var known *gapless.Error
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return gapless.Errorf(gapless.NotStarted, "the disk is full: copying the release failed: %w", err).
			WithHint("free some space (df -h shows where), or remove old releases; nothing was left behind")
	case errors.Is(err, fs.ErrPermission):
		return gapless.Errorf(gapless.NotStarted, "not allowed while copying the release: %w", err).
			WithHint("make it readable for the user that runs gapless, or move it out of the app's directory")
	case errors.Is(err, fs.ErrNotExist):
		return gapless.Errorf(gapless.NotStarted, "something vanished while copying the release: %w", err).
			WithHint("try again when nothing else changes the directory")
	}
	return fmt.Errorf("copying the release: %w", err)
}

// entry is one thing of the copy, for the hash.
type entry struct {
	path string // relative to the tree
	kind byte   // d, f, l
	mode fs.FileMode
	sum  [sha256.Size]byte // of a file's content or a link's target
}

// copiedRoot is a directory that is copied as a whole: the source, and each
// workspace that a link in node_modules led to.
type copiedRoot struct{ real, out string }

type job struct {
	from string
	at   int // index of its entry
	info fs.FileInfo
}

// copier walks the source in one goroutine and copies files in several.
type copier struct {
	dst     string
	exclude map[string]bool
	owner   bool
	roots   []copiedRoot
	skipped int
	jobs    chan job
	dirs    []dirMode // permissions are set last: a directory may forbid writing

	mu      sync.Mutex // guards what follows
	entries []entry
	res     Result
}

type dirMode struct {
	path string
	info fs.FileInfo
}

func (c *copier) run(ctx context.Context, src string, info fs.FileInfo) (Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.jobs = make(chan job, 64)
	var workers sync.WaitGroup
	for range max(2, runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			buf := make([]byte, 256<<10)
			for j := range c.jobs {
				if ctx.Err() != nil {
					continue
				}
				if err := c.file(j, buf); err != nil {
					cancel(err)
				}
			}
		})
	}
	c.dirs = append(c.dirs, dirMode{c.dst, info})
	err := c.walk(ctx, c.roots[0], src, "")
	close(c.jobs)
	workers.Wait()
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = c.checkLinks()
	}
	if err != nil {
		return Result{}, err
	}
	for _, d := range slices.Backward(c.dirs) {
		if err := c.settle(d.path, d.info, d.info.Mode().Perm()|0o500); err != nil {
			return Result{}, err
		}
	}
	c.res.Hash, c.res.Skipped = c.hash(), c.skipped
	return c.res, nil
}

// walk copies the content of the directory dir, which is inside root, to out.
func (c *copier) walk(ctx context.Context, root copiedRoot, dir, out string) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, d := range list {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		from, to := filepath.Join(dir, d.Name()), filepath.Join(out, d.Name())
		if d.Name() == ".git" || c.exclude[from] {
			continue
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was deleted since the directory was read
		}
		if err != nil {
			return err
		}
		switch mode := info.Mode(); {
		case mode.IsDir():
			if err := c.directory(to, info); err != nil {
				return err
			}
			if err := c.walk(ctx, root, from, to); err != nil {
				return err
			}
		case mode.IsRegular():
			c.queue(from, to, info)
		case mode&fs.ModeSymlink != 0:
			if err := c.link(ctx, root, from, to, info); err != nil {
				return err
			}
		default:
			c.skipped++
		}
	}
	return nil
}

func (c *copier) directory(to string, info fs.FileInfo) error {
	path := filepath.Join(c.dst, to)
	c.record(entry{path: to, kind: 'd', mode: info.Mode().Perm()})
	c.dirs = append(c.dirs, dirMode{path, info})
	return os.Mkdir(path, 0o700)
}

func (c *copier) queue(from, to string, info fs.FileInfo) {
	at := c.record(entry{path: to, kind: 'f', mode: info.Mode().Perm()})
	c.jobs <- job{from, at, info}
}

func (c *copier) record(e entry) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries = append(c.entries, e)
	return len(c.entries) - 1
}

// hash covers everything that was copied, in the order of paths.
func (c *copier) hash() string {
	slices.SortFunc(c.entries, func(a, b entry) int { return strings.Compare(a.path, b.path) })
	h := sha256.New()
	for _, e := range c.entries {
		b := []byte{e.kind}
		b = binary.BigEndian.AppendUint32(b, uint32(e.mode))
		b = binary.BigEndian.AppendUint32(b, uint32(len(e.path)))
		h.Write(append(append(b, e.path...), e.sum[:]...))
	}
	return hex.EncodeToString(h.Sum(nil))
}
