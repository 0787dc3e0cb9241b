package rollout

import (
	"maps"
	"slices"

	"gapless"
)

// recall takes up a way back that only the world knows of: on a full disk a
// person went back to the release before, and the daemon died before it could
// be saved. The disk says that the other release is stable and that nothing is
// under way, and the table gives all requests to this one. Nothing else leaves
// it so: every other rollout is saved before it moves a request.
func (d *decision) recall() {
	served := d.obs.Served.Route // also where not every edge has told yet: before anything else is applied
	if !d.obs.First || d.s.Busy() || d.s.Down || d.s.Stable == "" || served == nil {
		return
	}
	i := slices.IndexFunc(served.Weights, func(w gapless.Weight) bool { return w.Share > 1-1e-9 })
	if i < 0 || served.Weights[i].Release == d.s.Stable {
		return
	}
	to := d.obs.Releases[served.Weights[i].Release]
	if to == nil || !d.serves(to.Name) {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(d.obs.Instances)) {
		if in := d.obs.Instances[id]; d.s.member(id) == nil && in.Release == to.Name && in.Process == gapless.WebProcess && in.State == gapless.Ready {
			d.s.Members = append(d.s.Members, Member{ID: id, Release: in.Release, Process: in.Process, Slot: in.Slot, Role: Kept, Since: d.now, Until: d.now, WasUp: true, Seen: true})
		}
	}
	s, err := BeginRollback(d.s, "recalled-"+d.now.UTC().Format("20060102-150405.000"), to, d.countsFor(to), d.now)
	if err != nil {
		return
	}
	d.s = s
	d.s.Known, d.s.Rollout.Launched = true, true
	d.note("warn", "rollout.recalled", "", "the disk says that %s serves and the edges serve %s: the rollback that could not be saved goes on", d.s.Stable, to.Name)
}

// serves reports whether a ready instance of a release is there.
func (d *decision) serves(release string) bool {
	for _, in := range d.obs.Instances {
		if in.Release == release && in.Process == gapless.WebProcess && in.State == gapless.Ready {
			return true
		}
	}
	return false
}
