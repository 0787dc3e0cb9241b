package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/keeper"
	"gapless/internal/rollout"
	"gapless/internal/store"
)

// Restored says what a restore did.
type Restored struct {
	Created time.Time `json:"created"`           // when the backup was made
	Aside   string    `json:"aside"`             // where the state of before is; "" if there was none
	Apps    []string  `json:"apps"`              // that are to run
	Missing []string  `json:"missing,omitempty"` // apps whose stable release has no tree here: deploy them
	Locked  []string  `json:"locked,omitempty"`  // apps whose secrets or environments the key that is here does not open
}

// Restore puts the archive in the place of what an installation knows. Nothing
// of it may run; what it knew is set aside. Release trees stay as they are.
func Restore(ctx context.Context, home Home, file string) (res Restored, err error) {
	if err := nothingRuns(ctx, home); err != nil {
		return res, err
	}
	if err := home.Make(); err != nil {
		return res, err
	}
	fresh, err := os.MkdirTemp(string(home), ".restore-")
	if err != nil {
		return res, fmt.Errorf("unpack the backup: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(fresh)) }()
	m, err := unpack(ctx, file, fresh)
	if err != nil {
		return res, err
	}
	if m.Home != string(home) {
		return res, gapless.Errorf(gapless.Invalid, "%s was made of GAPLESS_HOME %s, not of %s", file, m.Home, home).
			WithHint("releases name their files by absolute paths: restore it with GAPLESS_HOME=%s", m.Home)
	}
	res.Created = m.Created
	if res.Apps, res.Missing, err = quiet(ctx, filepath.Join(fresh, "gapless.db")); err != nil {
		return res, err
	}
	if res.Locked, err = locked(home, Home(fresh)); err != nil {
		return res, err
	}
	if err := Stop(ctx, home); err != nil { // only its own processes are left
		return res, err
	}
	wait, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	unlock, err := lockStore(wait, home, true)
	if err != nil {
		return res, gapless.Errorf(gapless.Conflict, "the daemon was started again meanwhile").
			WithHint("stop the service that starts it, as in: systemctl stop gapless")
	}
	defer unlock()
	withKey := slices.ContainsFunc(m.Files, func(p packed) bool { return p.Name == vaultKey })
	if res.Aside, err = setAside(home, withKey, time.Now()); err != nil {
		return res, err
	}
	// The database last: until it is there, the restore has not happened.
	for i := len(m.Files) - 1; i >= 0; i-- {
		if m.Files[i].Name == "gapless.db" {
			m.Files = append(append(m.Files[:i:i], m.Files[i+1:]...), m.Files[i])
			break
		}
	}
	for _, p := range m.Files {
		to := home.path(filepath.FromSlash(p.Name))
		if err := os.MkdirAll(filepath.Dir(to), 0o711); err != nil {
			return res, err
		}
		if err := os.Rename(filepath.Join(fresh, filepath.FromSlash(p.Name)), to); err != nil {
			return res, fmt.Errorf("put %s in its place: %w", p.Name, err)
		}
	}
	return res, nil
}

// nothingRuns refuses while an app is up. What keeper holds counts, whether a
// daemon answers or not.
func nothingRuns(ctx context.Context, home Home) error {
	hint := "it would lose what it knows of what runs: gapless down --all, then restore again"
	st, err := api.NewClient(home.APISocket()).Status(ctx)
	if err != nil && !api.NoDaemon(err) {
		return err
	}
	for _, a := range st.Apps {
		if !a.Down || len(a.Instances) > 0 {
			return gapless.Errorf(gapless.Conflict, "%s is up", a.Name).WithHint("%s", hint)
		}
	}
	k, err := keeper.Dial(ctx, keeper.SocketPath(home.Run()))
	if err != nil {
		return nil
	}
	defer func() { _ = k.Close() }()
	procs, err := k.List(ctx)
	if err != nil {
		return err
	}
	for _, p := range procs {
		if p.Kind == keeper.KindInstance && p.Running {
			return gapless.Errorf(gapless.Conflict, "the instance %s runs", p.ID).WithHint("%s", hint)
		}
	}
	return nil
}

// quiet ends in a restored database what cannot go on: rollouts that were
// under way, the note of a loss. It returns the apps that are to run, and
// those of them whose tree is not here.
func quiet(ctx context.Context, file string) (apps, missing []string, err error) {
	st, err := store.Open(ctx, file)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	names, err := st.Apps(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		var s rollout.State
		if err := st.App(ctx, name, &s); err != nil {
			return nil, nil, err
		}
		r := s.Rollout
		if s.Busy() {
			r.Outcome, r.Finished, r.Reason = gapless.TakenBack, time.Now().UTC(), "it was under way when the backup was made that was restored"
			if r.From == "" {
				r.Outcome = gapless.NothingStarted
			}
		}
		next := settled(s)
		next.Rollout = r
		if err := st.SaveApp(ctx, name, next, r); err != nil {
			return nil, nil, err
		}
		if next.Down {
			continue
		}
		apps = append(apps, name)
		rel, err := st.Release(ctx, name, next.Stable)
		if err != nil {
			return nil, nil, err
		}
		if _, err := os.Stat(rel.Tree); err != nil {
			missing = append(missing, name)
		}
	}
	return apps, missing, errors.Join(st.SetNote(ctx, damageNote, nil), st.SetNote(ctx, bootNote, nil))
}

// locked are the apps of an unpacked archive of which something is encrypted
// that neither its own key opens nor, if it has none, that of the home.
func locked(home, fresh Home) ([]string, error) {
	v := &vault{home: fresh}
	if _, err := os.Stat(fresh.VaultKey()); errors.Is(err, fs.ErrNotExist) {
		v.home = home
	}
	seen := map[string]bool{}
	for _, pattern := range []string{fresh.Secrets("*"), fresh.EnvFile("*", "*")} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				return nil, fmt.Errorf("read the backup: %w", err)
			}
			if _, err := v.open(data); err != nil {
				rel, err := filepath.Rel(fresh.path("apps"), name)
				if err != nil {
					return nil, err
				}
				app, _, _ := strings.Cut(filepath.ToSlash(rel), "/")
				seen[app] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(seen)), nil
}

// setAside moves what an installation knows into a directory of its own, and
// the key to its secrets if another one comes.
func setAside(home Home, withKey bool, now time.Time) (string, error) {
	to := home.path("before-restore-" + now.UTC().Format("20060102T150405Z"))
	for n, base := 2, to; ; n++ {
		err := os.Mkdir(to, 0o700)
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrExist) {
			return "", fmt.Errorf("set the present state aside: %w", err)
		}
		to = fmt.Sprintf("%s.%d", base, n)
	}
	moved := false
	patterns := append([]string{"gapless.db", "gapless.db-wal", "gapless.db-shm", "gapless.db.suspect"}, kept...)
	if withKey {
		patterns = append(patterns, vaultKey)
	}
	for _, pattern := range patterns {
		names, err := filepath.Glob(home.path(filepath.FromSlash(pattern)))
		if err != nil {
			return "", err
		}
		for _, name := range names {
			rel, err := filepath.Rel(string(home), name)
			if err == nil {
				err = os.MkdirAll(filepath.Dir(filepath.Join(to, rel)), 0o700)
			}
			if err == nil {
				err = os.Rename(name, filepath.Join(to, rel))
			}
			if err != nil {
				return "", fmt.Errorf("set the present state aside: %w", err)
			}
			moved = true
		}
	}
	if !moved {
		return "", os.Remove(to)
	}
	return to, nil
}
