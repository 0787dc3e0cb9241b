package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"gapless"
)

// buildLimit is how long a build may take.
const buildLimit = 30 * time.Minute

// build runs the build command inside the new tree.
func build(ctx context.Context, rel *gapless.Release, env environment, say func(string, ...any)) (err error) {
	if rel.Spec.Build == "" {
		return nil
	}
	began := time.Now()
	say("building: %s", rel.Spec.Build)
	back, err := lend(rel.Spec.User, rel.Tree)
	if err != nil {
		return err
	}
	output, err := command{text: rel.Spec.Build, rel: rel, env: env, set: []string{"CI=1"}, limit: buildLimit}.run(ctx)
	if err != nil {
		hint := fmt.Sprintf("run it by hand in %s, or set build: false in gapless.yaml", rel.Spec.Source)
		if h := gapless.HintOf(err); h != "" {
			hint = h
		}
		return gapless.Errorf(gapless.NotStarted, "build %q: %w\n%s", rel.Spec.Build, err, strings.Join(lastLines(output, 20), "\n")).WithHint("%s", hint)
	}
	if err := back(); err != nil {
		return err
	}
	say("built in %s", time.Since(began).Round(100*time.Millisecond))
	return nil
}

// lend gives a fresh tree to the user that the build runs as. back takes it
// from them again, so that instances cannot change what they run: what was
// there belongs to whom it did before, what the build made to root, and the
// user may read it by its group.
func lend(name, tree string) (back func() error, err error) {
	if name == "" || os.Geteuid() != 0 {
		return func() error { return nil }, nil
	}
	uid, gid, err := systemUser(name)
	if err != nil {
		return nil, err
	}
	type owner struct{ uid, gid int }
	before := map[string]owner{}
	err = walkOwned(tree, func(dir *os.Root, path string, info fs.FileInfo) error {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			before[path] = owner{int(st.Uid), int(st.Gid)}
		}
		return dir.Lchown(path, uid, gid)
	})
	if err != nil {
		return nil, fmt.Errorf("give %s to user %s for the build: %w", tree, name, err)
	}
	return func() error {
		err := walkOwned(tree, func(dir *os.Root, path string, info fs.FileInfo) error {
			if o, known := before[path]; known {
				return dir.Lchown(path, o.uid, o.gid)
			}
			err := dir.Lchown(path, 0, gid)
			if perm := info.Mode().Perm(); err == nil && info.Mode().Type()&fs.ModeSymlink == 0 {
				err = dir.Chmod(path, perm&^0o022|perm&0o500>>3)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("take %s back from user %s after the build: %w", tree, name, err)
		}
		return nil
	}, nil
}

// walkOwned calls f for everything in a tree, and never leaves it: while it
// is lent somebody may put links where directories were.
func walkOwned(tree string, f func(dir *os.Root, path string, info fs.FileInfo) error) error {
	dir, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	err = fs.WalkDir(dir.FS(), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		return f(dir, path, info)
	})
	return errors.Join(err, dir.Close())
}
