package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/keeper"
	"gapless/internal/rollout"
	"gapless/internal/store"
)

// damageNote is the key under which damage is remembered in the new database.
const damageNote = "damage"

// damage is what happened to a database that could not be used. While it is
// remembered, what runs and is not known here is left alone.
type damage struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	Aside  string    `json:"aside,omitempty"` // where the damaged file is; "": it was gone
	From   string    `json:"from,omitempty"`  // the backup that took its place; "": none was good
	Done   bool      `json:"done,omitempty"`  // apps were made again from what runs
}

// gone reports a database that is missing where there was one: its backups
// are left, or what was written down beside it. It may have been set aside by
// a daemon that then found the disk full.
func gone(home Home) error {
	if _, err := os.Lstat(home.DB()); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	saved, err := backups(home).List()
	if err != nil {
		return err
	}
	beside, err := filepath.Glob(home.Serving("*"))
	if err == nil && len(saved)+len(beside) > 0 {
		err = fmt.Errorf("%w: %s is gone", store.ErrDamaged, home.DB())
	}
	return err
}

// openStore opens the database. A damaged one is set aside, and the newest
// good backup, else an empty database, takes its place.
func openStore(ctx context.Context, home Home, log *slog.Logger) (*store.Store, *damage, error) {
	var hurt *damage
	var st *store.Store
	err := gone(home)
	if err == nil {
		st, err = store.Open(ctx, home.DB())
	}
	if errors.Is(err, store.ErrDamaged) {
		hurt = &damage{At: time.Now(), Reason: err.Error()}
		if hurt.Aside, err = store.SetAside(home.DB(), "damaged", hurt.At); err != nil {
			return nil, nil, err
		}
		if hurt.From, err = backups(home).Restore(ctx, home.DB()); err != nil {
			return nil, nil, err
		}
		st, err = store.Open(ctx, home.DB())
	}
	if err != nil {
		return nil, nil, err
	}
	if hurt != nil {
		log.Error("the database cannot be used, another one takes its place", "aside", hurt.Aside, "backup", hurt.From, "err", hurt.Reason)
		err = st.SetNote(ctx, damageNote, hurt)
	} else {
		hurt = &damage{}
		if err = st.Note(ctx, damageNote, hurt); gapless.CodeOf(err) == gapless.NotFound {
			hurt, err = nil, nil
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, st.Close())
	}
	return st, hurt, nil
}

// mend makes the apps of a lost database again from what runs and from what
// was written down beside it. It stops nothing.
func (d *Daemon) mend(ctx context.Context) error {
	procs, err := d.keeper.List(ctx)
	if err != nil {
		return err
	}
	running := map[string][]gapless.Instance{}
	for _, p := range procs {
		var meta struct{ Instance gapless.Instance }
		if p.Kind == keeper.KindInstance && json.Unmarshal([]byte(p.Meta), &meta) == nil && meta.Instance.ID != "" {
			running[meta.Instance.App] = append(running[meta.Instance.App], meta.Instance)
		}
	}
	if d.damage == nil && d.store.Fresh() && len(running)+len(d.router.table.Routes) > 0 {
		d.damage = &damage{At: time.Now(), Reason: "the database " + d.home.DB() + " is gone"}
		d.log.Error(d.damage.Reason)
	}
	if d.damage == nil || d.damage.Done {
		return d.healed(ctx, running)
	}
	apps, err := recordedApps(d.home)
	if err != nil {
		return err
	}
	for _, app := range apps {
		if err := d.mendApp(ctx, app, running[app]); err != nil {
			return fmt.Errorf("make %s again: %w", app, err)
		}
	}
	d.damage.Done = true
	return d.store.SetNote(ctx, damageNote, d.damage)
}

// healed forgets damage when the file that was set aside is gone and all that
// runs is known.
func (d *Daemon) healed(ctx context.Context, running map[string][]gapless.Instance) error {
	if d.damage == nil {
		return nil
	}
	if _, err := os.Lstat(d.damage.Aside); d.damage.Aside != "" && err == nil {
		return nil
	}
	names, err := d.store.Apps(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		delete(running, name)
	}
	if len(running) > 0 {
		return nil
	}
	d.damage = nil
	return d.store.SetNote(ctx, damageNote, nil)
}

// mendApp makes one app again. Where not even its releases are known, it is
// left alone: its instances and its route stay as they are.
func (d *Daemon) mendApp(ctx context.Context, app string, running []gapless.Instance) error {
	if err := d.mendReleases(ctx, app); err != nil {
		return err
	}
	var old rollout.State
	if err := d.store.App(ctx, app, &old); err != nil && gapless.CodeOf(err) != gapless.NotFound {
		return err
	}
	var was serving
	if readJSON(d.home.Serving(app), &was) != nil {
		was = serving{Stable: old.Stable, Counts: old.Counts, Down: old.Down}
	}
	s := settled(rollout.State{App: app, Seq: old.Seq, Stable: was.Stable, Counts: was.Counts, Down: was.Down})
	if served := d.mostServed(app, s.Stable); served != "" {
		s.Stable, s.Down = served, false
	}
	if s.Stable == "" && len(running) > 0 {
		s.Stable, s.Down = mostRunning(running), false
	}
	rel, err := d.release(app, s.Stable)
	switch {
	case err != nil && len(running) > 0:
		d.log.Error("an app runs that is not known any more, it is left alone", "app", app, "release", s.Stable, "err", err)
		return nil
	case err != nil:
		s.Stable, s.Counts, s.Down = "", nil, true
	}
	counts := map[string]map[string]int{} // release → process → instances
	for _, in := range running {
		s.Seq = max(s.Seq, number(in.ID))
		role := rollout.Leaving
		if in.Release == s.Stable {
			role = rollout.Stable
		}
		s.Members = append(s.Members, rollout.Member{ID: in.ID, Release: in.Release, Process: in.Process, Slot: in.Slot,
			Role: role, Since: time.Now(), WasUp: true, Seen: true})
		if counts[in.Release] == nil {
			counts[in.Release] = map[string]int{}
		}
		counts[in.Release][in.Process]++
	}
	if rel != nil && len(s.Counts) == 0 {
		s.Counts = map[string]int{}
		for _, p := range rel.Spec.Processes {
			s.Counts[p.Name] = p.Instances
			for _, of := range counts {
				if p.Cron == "" && !p.Singleton && of[p.Name] > 0 {
					s.Counts[p.Name] = of[p.Name]
				}
			}
		}
	}
	d.log.Warn("made again after the loss of the database", "app", app, "serves", s.Stable, "instances", len(s.Members), "down", s.Down)
	return d.store.SaveApp(ctx, app, s, nil)
}

// settled is a state without a rollout under way.
func settled(s rollout.State) rollout.State {
	return rollout.State{App: s.App, Seq: s.Seq, Stable: s.Stable, Counts: s.Counts, Down: s.Down || s.Stable == ""}
}

// mendReleases adds releases that were written down and are not in the store.
func (d *Daemon) mendReleases(ctx context.Context, app string) error {
	for _, rel := range recorded(d.home, app) {
		if _, err := d.store.Release(ctx, app, rel.Name); gapless.CodeOf(err) != gapless.NotFound {
			if err != nil {
				return err
			}
			continue
		}
		n, err := strconv.Atoi(strings.TrimPrefix(rel.Name, "v"))
		if err != nil {
			continue
		}
		if err := d.store.SaveRelease(ctx, n, rel); err != nil {
			return err
		}
	}
	return nil
}

// mostServed is the release with the largest share in the table that the edges
// serve; of equal ones the one that was stable. "" if there is no route.
func (d *Daemon) mostServed(app, stable string) string {
	best, share := "", 0.0
	for _, r := range d.router.table.Routes {
		if r.App != app {
			continue
		}
		for _, w := range r.Weights {
			if w.Share > share || w.Share == share && w.Release == stable {
				best, share = w.Release, w.Share
			}
		}
	}
	return best
}

// mostRunning is the release with the most instances.
func mostRunning(running []gapless.Instance) (best string) {
	count := map[string]int{}
	for _, in := range running {
		if count[in.Release]++; count[in.Release] > count[best] {
			best = in.Release
		}
	}
	return best
}

// number is the last part of an instance's ID.
func number(id string) int {
	n, _ := strconv.Atoi(id[strings.LastIndexByte(id, '.')+1:])
	return n
}

// stranger refuses to make an app again that runs and is not known any more.
func (d *Daemon) stranger(app string) error {
	if _, err := d.app(app); err == nil || d.damage == nil {
		return nil
	}
	d.router.mu.Lock()
	defer d.router.mu.Unlock()
	for _, r := range d.router.table.Routes {
		if r.App == app {
			return gapless.Errorf(gapless.Conflict, "%s serves, but the database that knew it is lost", app).
				WithHint("it serves on as it is; to get it back: gapless down --all, then gapless restore FILE; or after gapless down --all begin anew with gapless up")
		}
	}
	return nil
}

// notes are what a person should know about the installation itself.
func (d *Daemon) notes() []api.Note {
	if d.damage == nil {
		return nil
	}
	n := api.Note{Level: "error", Message: "the database was lost at " + d.damage.At.UTC().Format(time.RFC3339) + ": " + d.damage.Reason}
	switch {
	case d.damage.From != "":
		n.Message += "; history is from the backup " + filepath.Base(d.damage.From)
	default:
		n.Message += "; there was no good backup, the history is lost"
	}
	n.Hint = "what ran serves on. A newer backup can be taken back with: gapless down --all, then gapless restore FILE"
	if d.damage.Aside != "" {
		n.Hint += fmt.Sprintf(". The damaged file is %s; delete it when it is of no use any more", d.damage.Aside)
	}
	return append([]api.Note{n}, d.strangers()...)
}

// strangers names the apps that run and are not known.
func (d *Daemon) strangers() []api.Note {
	d.router.mu.Lock()
	routes := d.router.table.Routes
	d.router.mu.Unlock()
	var out []api.Note
	for _, r := range routes {
		if _, err := d.app(r.App); err != nil {
			out = append(out, api.Note{Level: "error", Message: r.App + " serves on, but nothing is known of it any more: its instances are not started again when they crash",
				Hint: "gapless down --all, then gapless restore FILE"})
		}
	}
	return out
}
