package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"gapless"
)

// Options say what Take leaves out and who will write to the tree.
type Options struct {
	Exclude    []string // absolute paths that are not looked at
	Shared     []string // the same, relative to the source
	Cache      string   // a file that remembers what was read, for the next Take of this source; "": none
	Everything bool     // no ignore file counts
	Private    bool     // no file is shared with other releases yet: a build will run in the tree
	User       int      // uid that the release runs as, if that is another than ours; else 0
	MaxFiles   int      // 0: MaxFiles
}

// MaxFiles is how many files and directories a release may have. Each costs
// memory while the release is made, and time with every deploy.
const MaxFiles = 300_000

// A release's own files, those outside of node_modules, are private copies
// while they are few: an app may write to them, and another release must not
// see it. The smallest come first. What is beyond that, and all of
// node_modules, is shared and read-only.
const (
	ownFiles = 4096
	ownBytes = 64 << 20
)

// maxDirs is how deep directories may lie inside one another; each holds a
// descriptor while it is looked at.
const maxDirs = 200

// Result is what Take copied.
type Result struct {
	Files   int    // regular files
	Bytes   int64  // of all regular files
	Shared  int    // of Files: links to what other releases may have, too
	Ignored int    // files and directories that an ignore file left out
	Skipped int    // devices, sockets, pipes, and dead links in node_modules
	Hash    string // sha256 over path, permissions and content of everything, in hex
	Deps    bool   // node_modules was left out because a lockfile says how to get it

	private bool              // Options.Private
	placed  map[string]origin // for Seal: the private files that may be shared later
}

func (r *Result) place(path string, o origin) {
	if r.placed == nil {
		r.placed = map[string]origin{}
	}
	r.placed[path] = o
}

// Take copies the directory src to dst, which must not exist: everything but
// .git, what the ignore files name, and what opt leaves out. node_modules is
// left out if git ignores it and a lockfile is there. It builds the copy
// beside dst and renames it, so dst is whole or absent.
//
// Permission bits, modification times and, for root, owners are kept; setuid
// and setgid bits are not, and shared files are read-only. Links are kept if
// they stay inside the tree. A link that leaves it is an error, because a
// release must not change when something else does; only inside node_modules,
// where links lead to workspaces, the target is copied instead. Problems of
// the source are *gapless.Error with a hint.
func (s *Store) Take(ctx context.Context, src, dst string, opt Options) (Result, error) {
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
	s.use.RLock()
	defer s.use.RUnlock()
	tmp, err := os.MkdirTemp(filepath.Dir(dst), filepath.Base(dst)+".tmp-*")
	if err != nil {
		return Result{}, explain(err)
	}
	exclude := append(slices.Clone(opt.Exclude), s.dir, dst, tmp)
	for _, dir := range opt.Shared {
		exclude = append(exclude, filepath.Join(real, dir))
	}
	c := &copier{store: s, opt: opt, dst: tmp, exclude: excluded(exclude), owner: os.Geteuid() == 0}
	res, err := c.run(ctx, real, info)
	if err == nil {
		err = os.Rename(tmp, dst)
	}
	if err != nil {
		return Result{}, explain(errors.Join(err, Remove(tmp)))
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

// Remove deletes a tree, also below directories without write permission. One
// that is not there is fine.
func Remove(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(path, 0o700) // before what is in it is read
		}
		return err
	})
	return errors.Join(err, os.RemoveAll(dir))
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
			WithHint("make it readable for the user that runs gapless, or name it in .gaplessignore")
	case errors.Is(err, fs.ErrNotExist):
		return gapless.Errorf(gapless.NotStarted, "something vanished while copying the release: %w", err).
			WithHint("try again when nothing else changes the directory")
	}
	return fmt.Errorf("copying the release: %w", err)
}

// entry is one thing of the copy.
type entry struct {
	path string // relative to the tree
	kind byte   // d, f, l
	mode fs.FileMode
	sum  [sha256.Size]byte // of a file's content or a link's target

	root   *copiedRoot // of a file: where it comes from, and its path there
	from   string
	info   fs.FileInfo
	shared bool
}

// copiedRoot is a directory that is copied as a whole: the source, and each
// workspace that a link in node_modules led to. Files are opened through
// root, so that nothing that happens meanwhile leads us out of it.
type copiedRoot struct {
	real, out string
	root      *os.Root
}

// copier looks at the whole source first and then copies files in several
// goroutines.
type copier struct {
	store   *Store
	opt     Options
	dst     string
	exclude map[string]bool
	owner   bool
	ignore  *Ignore
	roots   []*copiedRoot
	single  []*copiedRoot // directories of files that links led to
	entries []entry
	dirs    []dirMode // permissions are set last: a directory may forbid writing
	known   map[string]cached

	mu  sync.Mutex // guards what follows
	res Result
	now map[string]cached
}

type dirMode struct {
	path string
	info fs.FileInfo
}

func (c *copier) run(ctx context.Context, src string, info fs.FileInfo) (Result, error) {
	defer func() {
		for _, r := range append(c.roots, c.single...) {
			_ = r.root.Close() // nothing was written through it
		}
	}()
	first, err := c.root(src, "")
	if err != nil {
		return Result{}, err
	}
	if !c.opt.Everything {
		if c.ignore, err = NewIgnore(src); err != nil {
			return Result{}, err
		}
	}
	c.dirs = append(c.dirs, dirMode{c.dst, info})
	if err := c.walk(ctx, first, first.root, "", ""); err != nil {
		return Result{}, err
	}
	if c.opt.Cache != "" {
		c.known, c.now = readCache(c.opt.Cache), map[string]cached{}
	}
	c.divide()
	if err := c.files(ctx); err != nil {
		return Result{}, err
	}
	if err := c.checkLinks(); err != nil {
		return Result{}, err
	}
	for _, d := range slices.Backward(c.dirs) {
		o := objectOf(d.info, c.owner)
		o.perm |= 0o500
		if err := dress(d.path, o); err != nil {
			return Result{}, err
		}
	}
	if c.opt.Cache != "" && !maps.Equal(c.known, c.now) {
		if err := writeCache(c.opt.Cache, c.now); err != nil {
			return Result{}, err
		}
	}
	c.res.Hash, c.res.private = c.hash(), c.opt.Private
	return c.res, nil
}

// root opens a directory that is copied as a whole.
func (c *copier) root(real, out string) (*copiedRoot, error) {
	r, err := os.OpenRoot(real)
	if err != nil {
		return nil, err
	}
	root := &copiedRoot{real, out, r}
	c.roots = append(c.roots, root)
	return root, nil
}

// walk notes the content of dir, which is from below root, to be copied to out.
func (c *copier) walk(ctx context.Context, root *copiedRoot, dir *os.Root, below, out string) error {
	if strings.Count(out, "/") > maxDirs {
		return gapless.Errorf(gapless.NotStarted, "%q lies more than %d directories deep", out, maxDirs).
			WithHint("something makes directories without an end; remove them, or name them in .gaplessignore")
	}
	names, err := list(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(root.real, below), err)
	}
	for _, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		from, to := filepath.Join(below, name), filepath.Join(out, name)
		if name == ".git" || c.exclude[filepath.Join(root.real, from)] {
			continue
		}
		info, err := dir.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was deleted since the directory was read
		}
		if err != nil {
			return err
		}
		if skip, err := c.ignored(to, info.IsDir()); skip || err != nil {
			if err != nil {
				return err
			}
			c.res.Ignored++
			continue
		}
		if err := c.one(ctx, root, dir, name, from, to, info); err != nil {
			return err
		}
	}
	return nil
}

// one notes one thing of a directory.
func (c *copier) one(ctx context.Context, root *copiedRoot, dir *os.Root, name, from, to string, info fs.FileInfo) error {
	most := c.opt.MaxFiles
	if most == 0 {
		most = MaxFiles
	}
	if len(c.entries) >= most {
		return gapless.Errorf(gapless.NotStarted, "the app's directory has more than %d files", most).
			WithHint("name what the app does not need in .gaplessignore; data that outlives releases belongs in shared:")
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		if err := c.directory(to, info); err != nil {
			return err
		}
		sub, err := dir.OpenRoot(name)
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(root.real, from), err)
		}
		return errors.Join(c.walk(ctx, root, sub, from, to), sub.Close())
	case mode.IsRegular():
		c.entries = append(c.entries, entry{path: to, kind: 'f', mode: mode.Perm(), root: root, from: from, info: info})
	case mode&fs.ModeSymlink != 0:
		return c.link(ctx, *root, filepath.Join(root.real, from), to)
	default:
		c.res.Skipped++
	}
	return nil
}

func list(dir *os.Root) ([]string, error) {
	f, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// ignored reports whether an ignore file leaves the path out. Inside of
// node_modules they do not count: what packages ship as dist or build is
// needed. node_modules itself is kept, against git's word, where nothing says
// how to get it again.
func (c *copier) ignored(to string, dir bool) (bool, error) {
	if c.ignore == nil || InModules(filepath.Dir(to)) {
		return false, nil
	}
	skip, own, err := c.ignore.Match(to, dir)
	if skip && !own && filepath.Base(to) == modules {
		if lock, _ := findLock(c.roots[0].root); lock == "" {
			return false, err
		}
		c.res.Deps = true
	}
	return skip, err
}

// modules is where Node's package managers put dependencies.
const modules = "node_modules"

// InModules reports whether a path of a tree is a node_modules or below one.
func InModules(path string) bool {
	return path == modules || strings.HasPrefix(path, modules+"/") || strings.Contains(path, "/"+modules+"/") || strings.HasSuffix(path, "/"+modules)
}

func (c *copier) directory(to string, info fs.FileInfo) error {
	path := filepath.Join(c.dst, to)
	c.entries = append(c.entries, entry{path: to, kind: 'd', mode: info.Mode().Perm()})
	c.dirs = append(c.dirs, dirMode{path, info})
	return os.Mkdir(path, 0o700)
}

// divide decides which files are shared.
func (c *copier) divide() {
	if c.opt.Private {
		return
	}
	var all []*entry
	for i := range c.entries {
		if c.entries[i].kind == 'f' {
			all = append(all, &c.entries[i])
		}
	}
	slices.SortStableFunc(all, func(a, b *entry) int { return int(min(1, max(-1, a.info.Size()-b.info.Size()))) })
	p := policy{user: c.opt.User}
	for _, e := range all {
		e.shared = p.shares(e.path, e.info)
	}
}

// policy tells which files of a tree are shared, asked from the smallest up.
type policy struct {
	user  int // see Options
	files int
	bytes int64
}

func (p *policy) shares(path string, info fs.FileInfo) bool {
	if InModules(path) {
		return !strings.Contains(path, modules+"/.") || strings.Contains(path, modules+"/.pnpm/") // caches are written to
	}
	if p.user != 0 { // the system keeps others from writing
		if st := statOf(info); int(st.uid) != p.user && info.Mode()&0o022 == 0 {
			return true
		}
	}
	if p.files >= ownFiles || p.bytes+info.Size() > ownBytes {
		return true
	}
	p.files++
	p.bytes += info.Size()
	return false
}

// files copies all files that were found.
func (c *copier) files(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	jobs := make(chan []entry)
	var workers sync.WaitGroup
	for range max(2, runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			buf := make([]byte, 256<<10)
			for part := range jobs {
				for i := range part {
					if ctx.Err() != nil || part[i].kind != 'f' {
						continue
					}
					if err := c.file(&part[i], buf); err != nil {
						cancel(err)
					}
				}
			}
		})
	}
	for from := 0; from < len(c.entries); { // two that write to one directory would wait for each other, and spin
		to := from + 1
		for to < len(c.entries) && filepath.Dir(c.entries[to].path) == filepath.Dir(c.entries[from].path) {
			to++
		}
		jobs <- c.entries[from:to]
		from = to
	}
	close(jobs)
	workers.Wait()
	return context.Cause(ctx)
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
