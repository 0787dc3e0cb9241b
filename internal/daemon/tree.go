package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/snapshot"
)

// take copies the source into a new tree.
func (d *Daemon) take(ctx context.Context, rel *gapless.Release, app *gapless.App, say func(string, ...any)) (*snapshot.Result, error) {
	uid, err := runsAs(app)
	if err != nil {
		return nil, err
	}
	res, err := d.trees.Take(ctx, app.Source, rel.Tree, snapshot.Options{
		Exclude: []string{string(d.home)}, Shared: app.Shared, Cache: d.home.Scan(app.Name), Private: app.Build != "", User: uid})
	if err != nil {
		return nil, err
	}
	say("copied %d files, %d MB", res.Files, res.Bytes>>20)
	if res.Ignored > 0 {
		say("left out %d that .gitignore or .gaplessignore name", res.Ignored)
	}
	if res.Skipped > 0 {
		say("left out %d that are no files: devices, sockets, pipes, dead links", res.Skipped)
	}
	dotenv := filepath.Join(app.Source, ".env")
	if _, err := os.Lstat(dotenv); err == nil && !slices.Contains(app.EnvFiles, dotenv) {
		if _, err := os.Lstat(filepath.Join(rel.Tree, ".env")); errors.Is(err, fs.ErrNotExist) {
			say(".env is ignored, and no part of the release; give its variables to the app with env_file: .env")
		}
	}
	return &res, nil
}

// runsAs is the uid that instances run as, 0 if it is the one that we have.
func runsAs(app *gapless.App) (int, error) {
	if app.User == "" || os.Geteuid() != 0 {
		return 0, nil
	}
	uid, _, err := systemUser(app.User)
	return uid, err
}

// install gets the tree the dependencies that it did not bring along.
func (d *Daemon) install(ctx context.Context, rel *gapless.Release, req *api.DeployRequest, taken *snapshot.Result, say func(string, ...any)) error {
	return d.trees.Install(ctx, rel.Tree, taken, snapshot.Install{
		Runtime: func() gapless.Runtime {
			if req.Runtime.Path != "" {
				return req.Runtime
			}
			found, err := snapshot.DetectNode(rel.Tree)
			if err != nil {
				return gapless.Runtime{} // a missing manager is told by the install, node by the command that needs it
			}
			return found
		},
		Build: req.App.Build != "", Env: req.Env, Private: req.App.Build != "", Say: say})
}

// seal ends the writing to a tree by us: from now on it shares what it can,
// and has the assets of former releases.
func (d *Daemon) seal(ctx context.Context, rel *gapless.Release, taken *snapshot.Result, say func(string, ...any)) error {
	uid, err := runsAs(&rel.Spec)
	if err != nil {
		return err
	}
	if err := d.trees.Seal(ctx, rel.Tree, taken, uid); err != nil {
		return err
	}
	if taken.Shared > 0 {
		say("%d files are shared with other releases and read-only", taken.Shared)
	}
	if len(rel.Spec.Assets) == 0 {
		return nil
	}
	list, err := d.store.Releases(ctx, rel.App)
	if err != nil {
		return err
	}
	var former []snapshot.Former
	for _, old := range list {
		f := snapshot.Former{Tree: old.Tree}
		if err := ignoreMissing(readJSON(d.home.Carried(old.App, old.Name), &f.Carried)); err != nil {
			return fmt.Errorf("read which assets %s has from former releases: %w", old.Name, err)
		}
		former = append(former, f)
	}
	carried, err := d.trees.Carry(rel.Tree, rel.Spec.Assets, former)
	if err != nil || len(carried) == 0 {
		return err
	}
	say("%d assets of former releases are still answered for", len(carried))
	return writeJSON(d.home.Carried(rel.App, rel.Name), carried)
}

// share puts the directories that outlive releases where the app looks for
// them. The first release begins with what the source brings along.
func (d *Daemon) share(ctx context.Context, app *gapless.App, tree string) error {
	for _, dir := range app.Shared {
		if err := d.shareOne(ctx, app, tree, dir); err != nil {
			return fmt.Errorf("share %s: %w", dir, err)
		}
	}
	return nil
}

func (d *Daemon) shareOne(ctx context.Context, app *gapless.App, tree, dir string) error {
	kept, own := filepath.Join(d.home.Shared(app.Name), dir), filepath.Join(tree, dir)
	if _, err := os.Stat(kept); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(kept), 0o711); err != nil {
			return err
		}
		brought := filepath.Join(app.Source, dir)
		if info, err := os.Lstat(brought); err == nil && info.IsDir() {
			left, err := filepath.Glob(kept + ".tmp-*") // of a try that was cut short
			for _, l := range left {
				err = errors.Join(err, snapshot.Remove(l))
			}
			if err != nil {
				return err
			}
			_, err = d.trees.Take(ctx, brought, kept, snapshot.Options{Exclude: []string{string(d.home)}, Everything: true, Private: true})
			if err != nil {
				return err
			}
		} else if err := os.MkdirAll(kept, 0o777); err != nil {
			return err
		}
		if err := giveTo(app.User, kept); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(own), 0o755); err != nil {
		return err
	}
	return os.Symlink(kept, own)
}

// Ignored tells which paths below dir a release leaves out, for those who
// compare the two.
func Ignored(dir string) (func(rel string, isDir bool) bool, error) {
	ignore, err := snapshot.NewIgnore(dir)
	if err != nil {
		return nil, err
	}
	return func(rel string, isDir bool) bool {
		if snapshot.InModules(filepath.Dir(rel)) {
			return false
		}
		skip, _, err := ignore.Match(filepath.ToSlash(rel), isDir)
		return skip && err == nil
	}, nil
}

// remove deletes all that is on disk of a release.
func (d *Daemon) remove(rel *gapless.Release) error {
	err := snapshot.Remove(rel.Tree)
	for _, file := range []string{rel.EnvFile, d.home.Record(rel.App, rel.Name), d.home.Carried(rel.App, rel.Name)} {
		err = errors.Join(err, ignoreMissing(os.Remove(file)))
	}
	return err
}
