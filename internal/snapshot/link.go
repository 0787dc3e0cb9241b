package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"gapless"
)

// link copies one symbolic link of root; see Take for the rules.
func (c *copier) link(ctx context.Context, root copiedRoot, from, to string) error {
	target, err := os.Readlink(from)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(target) && within(root.real, filepath.Join(filepath.Dir(from), target)) {
		return c.keep(target, to)
	}
	if !slices.Contains(strings.Split(to, "/"), "node_modules") {
		return leaves(to, target)
	}
	real, err := filepath.EvalSymlinks(from)
	if errors.Is(err, fs.ErrNotExist) { // a removed workspace
		c.res.Skipped++
		return nil
	}
	if err != nil {
		return err
	}
	if strings.Contains(real, "/node_modules/.pnpm/") {
		return gapless.Errorf(gapless.NotStarted, "%s leads out of the directory, to %s: the dependencies of a pnpm workspace live in its root", to, real).
			WithHint("deploy from the workspace's root, or make a directory that stands alone with pnpm deploy")
	}
	for _, r := range c.roots { // already part of the copy: point there
		if !within(r.real, real) {
			continue
		}
		inside, err := filepath.Rel(r.real, real)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(filepath.Dir(to), filepath.Join(r.out, inside))
		if err != nil {
			return err
		}
		return c.keep(relative, to)
	}
	if within(real, c.roots[0].real) {
		return gapless.Errorf(gapless.NotStarted, "%s leads to %s, which holds the app's directory itself", to, real).
			WithHint("remove the link, or deploy from %s", real)
	}
	return c.follow(ctx, real, to)
}

// follow copies what a link in node_modules leads to in the link's place.
func (c *copier) follow(ctx context.Context, real, to string) error {
	info, err := os.Stat(real)
	if err != nil {
		return err
	}
	switch {
	case info.Mode().IsRegular():
		root, err := c.root(filepath.Dir(real), filepath.Dir(to))
		if err != nil {
			return err
		}
		c.roots = slices.DeleteFunc(c.roots, func(r *copiedRoot) bool { return r == root }) // it is not copied as a whole
		c.single = append(c.single, root)
		c.entries = append(c.entries, entry{path: to, kind: 'f', mode: info.Mode().Perm(), root: root, from: filepath.Base(real), info: info})
	case info.IsDir():
		root, err := c.root(real, to)
		if err != nil {
			return err
		}
		if err := c.directory(to, info); err != nil {
			return err
		}
		return c.walk(ctx, root, root.root, "", to)
	default:
		c.res.Skipped++
	}
	return nil
}

func (c *copier) keep(target, to string) error {
	c.entries = append(c.entries, entry{path: to, kind: 'l', sum: sha256.Sum256([]byte(target))})
	return os.Symlink(target, filepath.Join(c.dst, to))
}

// checkLinks proves on the finished copy that no link leads out of it: a path
// through other links can leave the tree although its text does not.
func (c *copier) checkLinks() error {
	root, err := os.OpenRoot(c.dst)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, e := range c.entries {
		if e.kind != 'l' {
			continue
		}
		_, err := root.Stat(e.path)
		harmless := err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) ||
			errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENAMETOOLONG)
		if !harmless {
			target, _ := root.Readlink(e.path)
			return leaves(e.path, target)
		}
	}
	return nil
}

func leaves(link, target string) error {
	return gapless.Errorf(gapless.NotStarted, "the link %q leads out of the app's directory, to %q: the release would change when that does", link, target).
		WithHint("replace it by what it leads to, or by a relative link inside the directory; for data that outlives releases use shared: [%s]", link)
}

// within reports whether path is dir or below it.
func within(dir, path string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
