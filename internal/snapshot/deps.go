package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"gapless"
)

// lockfiles of the package managers, in the order in which they are looked for.
var lockfiles = []struct{ file, manager string }{
	{"npm-shrinkwrap.json", "npm"}, {"package-lock.json", "npm"}, {"pnpm-lock.yaml", "pnpm"},
	{"yarn.lock", "yarn"}, {"bun.lock", "bun"}, {"bun.lockb", "bun"},
}

// settings of package managers: they say where packages come from and how
// they are laid out.
var managerFiles = []string{".npmrc", ".yarnrc", ".yarnrc.yml", "bunfig.toml", "pnpm-workspace.yaml", ".pnpmfile.cjs"}

// findLock returns the lockfile of a directory and whose it is; "" if there is none.
func findLock(root *os.Root) (file, manager string) {
	for _, l := range lockfiles {
		if info, err := root.Lstat(l.file); err == nil && info.Mode().IsRegular() {
			return l.file, l.manager
		}
	}
	return "", ""
}

// needs is what has to be installed into a tree.
type needs struct {
	manager, lock string
	berry         bool // yarn 2 and later
	runtime       gapless.Runtime
	key           string   // of the store's entry; "": this is never the same twice
	variables     []string // that the manager's settings refer to
}

// libc tells musl from glibc: compiled packages are for one of them.
func libc() string {
	if found, err := filepath.Glob("/lib/ld-musl-*"); err == nil && len(found) > 0 {
		return "musl"
	}
	return ""
}

// Install says how dependencies get into a tree.
type Install struct {
	Runtime func() gapless.Runtime // asked only if something has to be installed
	Build   bool                   // development dependencies, too: a build needs them
	Env     map[string]string      // of the app; only what the managers' settings refer to is given to them
	Private bool                   // as in Options
	Say     func(format string, args ...any)
}

// Install gets a tree its node_modules, if it has none and a lockfile says
// what belongs there: from the store, or else by the lockfile's manager.
func (s *Store) Install(ctx context.Context, tree string, res *Result, in Install) error {
	n, err := needed(tree, in)
	if err != nil || n == nil {
		return err
	}
	s.use.RLock()
	defer s.use.RUnlock()
	if n.key != "" {
		hit, err := s.reuse(tree, n.key, res, in.Private)
		if err != nil {
			return explain(fmt.Errorf("take dependencies from the store: %w", err))
		}
		if hit {
			in.Say("dependencies are those of %s, as before", n.lock)
			return nil
		}
	}
	if err := n.install(ctx, tree, in); err != nil {
		return err
	}
	if n.key == "" {
		return nil
	}
	if err := s.remember(tree, n.key, res); err != nil {
		return explain(fmt.Errorf("keep dependencies for the next release: %w", err))
	}
	return nil
}

// needed finds out what a tree lacks; nil: nothing.
func needed(tree string, in Install) (*needs, error) {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	n := &needs{}
	if n.lock, n.manager = findLock(root); n.lock == "" {
		return nil, nil
	}
	if _, err := root.Lstat(modules); err == nil {
		return nil, nil // shipped
	}
	lock, err := root.ReadFile(n.lock)
	if err != nil {
		return nil, err
	}
	n.berry = n.manager == "yarn" && bytes.Contains(lock, []byte("\n__metadata:"))
	manifests, err := manifestsOf(tree)
	if err != nil || len(manifests) == 0 {
		return nil, err
	}
	h := sha256.New()
	again, wanted := true, false
	for _, name := range append(slices.Concat(managerFiles, []string{n.lock}), manifests...) {
		data, err := root.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(h, "%q %d\n%s\n", name, len(data), data)
		if filepath.Base(name) == "package.json" {
			depends, scripts := wants(data)
			wanted, again = wanted || depends, again && !scripts
			continue
		}
		if name != n.lock {
			n.variables = append(n.variables, variablesIn(data)...)
		}
	}
	if !wanted {
		return nil, nil
	}
	n.runtime = in.Runtime()
	if again {
		fmt.Fprintln(h, n.manager, runtime.GOOS, runtime.GOARCH, libc(), n.runtime.Version, in.Build)
		n.key = hex.EncodeToString(h.Sum(nil))
	}
	return n, nil
}

// manifestsOf lists the package.json files of a tree, the root's and those of
// workspaces, relative to it.
func manifestsOf(tree string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == modules {
			return fs.SkipDir
		}
		if d.Type().IsRegular() && d.Name() == "package.json" {
			rel, err := filepath.Rel(tree, path)
			out = append(out, rel)
			return err
		}
		return nil
	})
	return out, err
}

// wants reads from a package.json whether it has dependencies, and whether
// what an install makes depends on more than the lockfile: scripts of the
// package's own run in it, or packages are made of directories of the app.
func wants(data []byte) (depends, scripts bool) {
	var m struct {
		Dependencies, DevDependencies, OptionalDependencies map[string]string
		Workspaces                                          json.RawMessage
		Scripts                                             map[string]string
	}
	if json.Unmarshal(data, &m) != nil {
		return true, true // the manager says what is wrong with it
	}
	for _, name := range []string{"preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare", "postprepare", "dependencies"} {
		scripts = scripts || m.Scripts[name] != ""
	}
	for _, list := range []map[string]string{m.Dependencies, m.DevDependencies, m.OptionalDependencies} {
		for _, from := range list {
			depends = true
			scripts = scripts || strings.HasPrefix(from, "file:") || strings.HasPrefix(from, "link:") || strings.HasPrefix(from, "portal:")
		}
	}
	return depends || len(m.Workspaces) > 0, scripts
}

var variable = regexp.MustCompile(`\$\{?([A-Za-z_][A-Za-z0-9_]*)`)

// variablesIn finds the names of variables that a manager's settings refer to.
func variablesIn(data []byte) (names []string) {
	for _, m := range variable.FindAllSubmatch(data, -1) {
		names = append(names, string(m[1]))
	}
	return names
}

// refs holds, for each tree that uses an entry of the store, a file with its path.
const refs = "refs"

// claim notes that a tree uses an entry.
func claim(entry, tree string) error {
	sum := sha256.Sum256([]byte(tree))
	if err := os.MkdirAll(filepath.Join(entry, refs), 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(entry, refs, hex.EncodeToString(sum[:8])), []byte(tree), 0o600)
}

// sweepDeps deletes the entries that no tree uses any more.
func (s *Store) sweepDeps() error {
	entries, err := os.ReadDir(s.deps())
	if err != nil {
		return err
	}
	for _, e := range entries {
		entry := filepath.Join(s.deps(), e.Name())
		users, err := os.ReadDir(filepath.Join(entry, refs))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		used := false
		for _, u := range users {
			ref := filepath.Join(entry, refs, u.Name())
			tree, err := os.ReadFile(ref)
			if err != nil {
				return err
			}
			if _, err := os.Lstat(string(tree)); err == nil {
				used = true
			} else if err := os.Remove(ref); err != nil {
				return err
			}
		}
		if !used {
			if err := Remove(entry); err != nil {
				return err
			}
		}
	}
	return nil
}

// reuse puts the dependencies of an entry into a tree; false: there is none.
func (s *Store) reuse(tree, key string, res *Result, private bool) (bool, error) {
	entry := filepath.Join(s.deps(), key)
	if _, err := os.Lstat(entry); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err := claim(entry, tree); err != nil {
		return false, err
	}
	buf := make([]byte, 256<<10)
	from := filepath.Join(entry, "tree")
	return true, mirror(from, tree, func(rel string, info fs.FileInfo) error {
		of, to := filepath.Join(from, rel), filepath.Join(tree, rel)
		res.Files++
		res.Bytes += info.Size()
		if !private && (&policy{}).shares(rel, info) {
			res.Shared++
			if err := os.Link(of, to); !noLink(err) {
				return err
			}
			res.Shared--
		}
		out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		o := objectOf(info, os.Geteuid() == 0)
		o.perm |= 0o200
		_, err = copyInside(out, of, buf)
		if err = errors.Join(err, out.Close()); err == nil {
			err = dress(to, o)
		}
		if err != nil || !private {
			return err
		}
		now, err := os.Lstat(to)
		if err == nil {
			res.place(rel, origin{as: identify(now), from: of})
		}
		return err
	})
}

// remember makes an entry of what was installed into a tree.
func (s *Store) remember(tree, key string, res *Result) error {
	work, err := os.MkdirTemp(s.deps(), tmp+"*")
	if err != nil {
		return err
	}
	defer Remove(work) // gone, if it is an entry now
	var dirs []string
	err = filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() || d.Name() != modules {
			return err
		}
		rel, err := filepath.Rel(tree, path)
		if err != nil {
			return err
		}
		dirs = append(dirs, rel)
		return fs.SkipDir
	})
	if err != nil {
		return err
	}
	buf := make([]byte, 256<<10)
	for _, dir := range dirs {
		to := filepath.Join(work, "tree", dir)
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		err := mirror(filepath.Join(tree, dir), to, func(rel string, info fs.FileInfo) error {
			path := filepath.Join(tree, dir, rel)
			sum, err := sumFile(path, buf)
			if err != nil {
				return err
			}
			o := objectOf(info, os.Geteuid() == 0)
			o.perm &^= 0o222
			o.sum = sum
			res.place(filepath.Join(dir, rel), origin{as: identify(info), sum: sum})
			err = s.link(o, filepath.Join(to, rel))
			if errors.Is(err, errAbsent) {
				if err = s.add(path, o, buf); err == nil {
					err = s.link(o, filepath.Join(to, rel))
				}
			}
			return err
		})
		if errors.Is(err, errAbsolute) {
			return nil // it would lead into this tree from others
		}
		if err != nil {
			return err
		}
	}
	if err := claim(work, tree); err != nil {
		return err
	}
	if err := os.Rename(work, filepath.Join(s.deps(), key)); err != nil && !errors.Is(err, fs.ErrExist) {
		return err // another app was first with the same one: fine
	}
	return nil
}

var errAbsolute = errors.New("an absolute link")

// mirror makes the directories and links of from in to, and lets file do the rest.
func mirror(from, to string, file func(rel string, info fs.FileInfo) error) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			if err := os.Mkdir(filepath.Join(to, rel), 0o755); !errors.Is(err, fs.ErrExist) {
				return err
			}
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			if filepath.IsAbs(target) {
				return errAbsolute
			}
			return os.Symlink(target, filepath.Join(to, rel))
		case d.Type().IsRegular():
			info, err := d.Info()
			if err != nil {
				return err
			}
			return file(rel, info)
		}
		return nil
	})
}
