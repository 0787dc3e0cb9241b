package daemon

import (
	"context"
	"time"

	"gapless"
)

// How many releases of an app stay on disk beside those in use: of those that
// served, unless the app says otherwise, and of those that were taken back.
const (
	releasesKept = 5
	failedKept   = 2
)

// collectOften collects what has become too old, now and then.
func (d *Daemon) collectOften(ctx context.Context) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		names, err := d.store.Apps(ctx)
		if err != nil && ctx.Err() == nil {
			d.log.Warn("collect releases", "err", err)
		}
		for _, name := range names {
			d.collect(name)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// collect gives back what an app does not need any more.
func (d *Daemon) collect(name string) {
	a, err := d.app(name)
	if err != nil {
		return
	}
	d.collectReleases(a)
	d.tidy()
}

// collectReleases deletes old releases, and what only they used.
func (d *Daemon) collectReleases(a *app) {
	name := a.name
	a.mu.Lock()
	busy := a.preparing != nil // its release may be saved and not be named by a rollout yet
	a.mu.Unlock()
	if busy {
		return
	}
	list, err := d.store.Releases(d.ctx, name)
	if err != nil {
		d.log.Warn("collect releases", "app", name, "err", err)
		return
	}
	s := a.runner.State()
	used, saved := a.runner.InUse()
	if !saved { // a crash would go back to what may need them
		return
	}
	for _, release := range d.onces.releases(name) {
		used[release] = true
	}
	history, err := d.store.Rollouts(d.ctx, name, 10_000)
	if err != nil {
		d.log.Warn("collect releases", "app", name, "err", err)
		return
	}
	keep := keeping{now: time.Now()}
	if spec := d.specOf(name, s.Stable); spec != nil {
		keep.policy, keep.window = spec.Releases, time.Duration(spec.Keep)
	}
	for _, i := range keep.collectable(list, used, history) {
		if err := d.discard(d.ctx, &list[i]); err != nil {
			d.log.Warn("collect releases", "app", name, "release", list[i].Name, "err", err)
		}
	}
	if _, err := d.trees.Sweep(); err != nil {
		d.log.Warn("collect releases", "app", name, "err", err)
	}
}

// keeping says which releases stay.
type keeping struct {
	policy gapless.ReleasePolicy
	window time.Duration // for so long the last one can be gone back to at once
	now    time.Time
}

// collectable returns the indices of the releases, newest first, that can be
// deleted: never one in use, or one that served within the window. Those that
// never served do not push out those that did. The age of a release counts
// from when it last served.
func (k keeping) collectable(list []gapless.Release, used map[string]bool, history []gapless.Rollout) (out []int) {
	most := k.policy.Keep
	if most == 0 {
		most = releasesKept
	}
	served, left := map[string]bool{}, map[string]time.Time{}
	for _, r := range history {
		if r.Outcome != gapless.Promoted {
			continue
		}
		served[r.To] = true
		if r.From != r.To && r.Finished.After(left[r.From]) {
			left[r.From] = r.Finished
		}
	}
	good, failed := 0, 0
	for i, rel := range list {
		since := left[rel.Name]
		if since.IsZero() {
			since = rel.Created
		}
		age := k.now.Sub(since)
		keep := used[rel.Name]
		switch {
		case keep:
		case served[rel.Name]:
			good++
			keep = good <= most || age < k.window
		default:
			failed++
			keep = failed <= failedKept
		}
		tooOld := k.policy.MaxAge > 0 && age > max(time.Duration(k.policy.MaxAge), k.window)
		if !keep || tooOld && !used[rel.Name] {
			out = append(out, i)
		}
	}
	return out
}

// discard deletes a release that nothing uses.
func (d *Daemon) discard(ctx context.Context, rel *gapless.Release) error {
	d.mu.Lock()
	delete(d.releases, rel.App+"/"+rel.Name)
	d.mu.Unlock()
	if err := d.store.DeleteRelease(ctx, rel.App, rel.Name); err != nil {
		return err
	}
	return d.remove(rel)
}
