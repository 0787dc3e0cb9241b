package daemon

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"gapless"
	"gapless/internal/edge"
)

// stables keeps the record of the stable release of each app, from what all
// edges report. The zero value is ready.
type stables struct {
	mu    sync.Mutex
	lives map[string]*counted                 // by EdgeReport.Start
	met   map[ofApp]time.Time                 // instances of the table: when it named them first
	open  map[string]opened                   // per app: the window that is under way
	apps  map[string]map[string]*stableRecord // by app and release
	saved map[string]bool                     // apps whose file has what is known
}

// counted is what one edge process counted: when the window began, and now.
type counted struct{ then, now edgeCounts }

// edgeCounts are cumulative; latency is of instances, whose reports do not always
// have it. Neither is ever changed in place.
type edgeCounts struct {
	rep     gapless.EdgeReport // no Start: none
	latency map[ofApp][]uint64
}

// opened is what held when a window began.
type opened struct {
	version   uint64 // of the table that brought the app's route
	instances []string
	compared  bool // they can be
}

const (
	// warmFor is how long an instance is new: what it does meanwhile says
	// nothing of how instances differ.
	warmFor = time.Minute
	// mostStables bounds the releases of an app whose records are kept.
	mostStables = 3
	// goneFor is how long a process is silent that is forgotten.
	goneFor = time.Minute
)

// take notes a report.
func (s *stables) take(rep gapless.EdgeReport) {
	if rep.Start == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.lives[rep.Start]
	if c == nil {
		if s.lives == nil {
			s.lives = map[string]*counted{}
		}
		c = &counted{}
		s.lives[rep.Start] = c
	}
	if c.now.rep.Start != "" && rep.Seq <= c.now.rep.Seq {
		return
	}
	c.now.rep = rep
	if slices.ContainsFunc(rep.Instances, func(x gapless.InstanceTraffic) bool { return len(x.Latency) > 0 }) {
		c.now.latency = map[ofApp][]uint64{}
		for _, x := range rep.Instances {
			c.now.latency[ofApp{x.App, x.Instance}] = x.Latency
		}
	}
}

// window ends the window that is under way and begins another one. What is of
// a process that was not known when it began is left out, and so are instances
// while a rollout is judged, or one of them is new.
func (s *stables) window(now time.Time, routes []gapless.Route, changed map[string]uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meet(now, routes)
	open := map[string]opened{}
	for _, r := range routes {
		o := s.begin(now, r, changed[r.App])
		was, under := s.open[r.App]
		open[r.App] = o
		if r.Stable == "" || !under {
			continue
		}
		w := s.ofRelease(r.App, r.Stable)
		if was.compared && o.compared && was.version == o.version && slices.Equal(was.instances, o.instances) {
			w.instances = s.ofInstances(r.App, o.instances)
		}
		s.note(now, r.App, r.Stable, w)
	}
	s.open = open
	for app, of := range s.apps {
		if _, routed := open[app]; !routed && s.forgotten(now, of) {
			delete(s.apps, app)
		}
	}
	for start, c := range s.lives {
		c.then = c.now
		if edge.Clock()-c.now.rep.Made > goneFor {
			delete(s.lives, start)
		}
	}
}

// meet notes when the table named an instance first. s.mu is held.
func (s *stables) meet(now time.Time, routes []gapless.Route) {
	met := map[ofApp]time.Time{}
	for _, r := range routes {
		for _, t := range r.Targets {
			k := ofApp{r.App, t.Instance}
			at, known := s.met[k]
			if !known {
				at = now
			}
			met[k] = at
		}
	}
	s.met = met
}

// begin says what holds for a window that begins now. s.mu is held.
func (s *stables) begin(now time.Time, r gapless.Route, version uint64) opened {
	o := opened{version: version, compared: !r.Held && r.Share(r.Stable) == 1 && r.Mirror == nil}
	for _, t := range r.Targets {
		if t.Release != r.Stable || t.Draining {
			continue
		}
		o.instances = append(o.instances, t.Instance)
		o.compared = o.compared && now.Sub(s.met[ofApp{r.App, t.Instance}]) >= warmFor
	}
	return o
}

// known lists the processes of which the whole window is known. s.mu is held.
func (s *stables) known() (out []*counted) {
	for _, c := range s.lives {
		if c.then.rep.Start != "" {
			out = append(out, c)
		}
	}
	return out
}

// ofRelease is what a release did in the window that ends. s.mu is held.
func (s *stables) ofRelease(app, release string) (w recordWindow) {
	w.latency = make([]uint64, gapless.LatencyBuckets)
	find := func(rep gapless.EdgeReport) (x gapless.ReleaseTraffic) {
		for _, t := range rep.Releases {
			if t.App == app && t.Release == release {
				return t
			}
		}
		return x
	}
	for _, c := range s.known() {
		x, was := find(c.now.rep), find(c.then.rep)
		w.requests += more(x.Requests, was.Requests)
		w.bad += more(x.Status[5]+x.Failed, was.Status[5]+was.Failed)
		addGrowth(w.latency, x.Latency, was.Latency)
	}
	return w
}

// ofInstances is what each of these did in it. s.mu is held.
func (s *stables) ofInstances(app string, ids []string) []instanceWindow {
	out := make([]instanceWindow, len(ids))
	find := func(rep gapless.EdgeReport, id string) (x gapless.InstanceTraffic) {
		for _, t := range rep.Instances {
			if t.App == app && t.Instance == id {
				return t
			}
		}
		return x
	}
	for i, id := range ids {
		out[i].latency = make([]uint64, gapless.LatencyBuckets)
		for _, c := range s.known() {
			k := ofApp{app, id}
			out[i].bad += more(find(c.now.rep, id).Bad, find(c.then.rep, id).Bad)
			addGrowth(out[i].latency, c.now.latency[k], c.then.latency[k])
		}
	}
	return out
}

// more is by how much a counter grew.
func more(now, before uint64) uint64 { return now - min(now, before) }

// note adds a window to a record. s.mu is held.
func (s *stables) note(now time.Time, app, release string, w recordWindow) {
	if w.requests == 0 {
		return
	}
	of := s.apps[app]
	if of == nil {
		if s.apps == nil {
			s.apps, s.saved = map[string]map[string]*stableRecord{}, map[string]bool{}
		}
		of = map[string]*stableRecord{}
		s.apps[app] = of
	}
	r := of[release]
	if r == nil {
		r = &stableRecord{Release: release}
		of[release] = r
	}
	r.add(now, w)
	s.saved[app] = false
	s.forgotten(now, of)
	for len(of) > mostStables {
		oldest := slices.MinFunc(slices.Collect(maps.Values(of)), func(a, b *stableRecord) int {
			return a.Slices[len(a.Slices)-1].Began.Compare(b.Slices[len(b.Slices)-1].Began)
		})
		delete(of, oldest.Release)
	}
}

// forgotten drops the records of releases that are too old, and reports
// whether none is left. s.mu is held.
func (s *stables) forgotten(now time.Time, of map[string]*stableRecord) bool {
	for name, r := range of {
		if r.forget(now); len(r.Slices) == 0 {
			delete(of, name)
		}
	}
	return len(of) == 0
}

// record finds what is known of a release; nil: nothing. s.mu is held.
func (s *stables) record(now time.Time, app, release string) *stableRecord {
	r := s.apps[app][release]
	if r != nil {
		r.forget(now)
	}
	return r
}

// StableRecord is the file of what is known of an app's stable release: of the
// last hour, and nobody misses it for longer.
func (h Home) StableRecord(app string) string { return h.path("apps", app, "record.json") }

// save writes down what is new. A daemon that dies loses a minute of it.
func (s *stables) save(home Home, log *slog.Logger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for app, of := range s.apps {
		path := home.StableRecord(app)
		if _, err := os.Stat(filepath.Dir(path)); err != nil || s.saved[app] { // no app, no file
			continue
		}
		list := slices.SortedFunc(maps.Values(of), func(a, b *stableRecord) int { return byName(ofApp{"", a.Release}, ofApp{"", b.Release}) })
		if err := writeJSON(path, list); err != nil {
			log.Debug("write down the record of a stable release", "app", app, "err", err)
			continue // with the next minute
		}
		s.saved[app] = true
	}
}

// load goes on from what an earlier daemon wrote down.
func (s *stables) load(now time.Time, home Home, apps []string, log *slog.Logger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps, s.saved = map[string]map[string]*stableRecord{}, map[string]bool{}
	for _, app := range apps {
		var list []*stableRecord
		if err := readJSON(home.StableRecord(app), &list); err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				log.Warn("read the record of a stable release: it begins anew", "app", app, "err", err)
			}
			continue
		}
		of := map[string]*stableRecord{}
		for _, r := range list {
			if r == nil || len(of) == mostStables {
				continue
			}
			if r.forget(now); len(r.Slices) > 0 {
				of[r.Release] = r
			}
		}
		s.apps[app], s.saved[app] = of, true
	}
}

// keepStables ends windows and writes records down, until the daemon ends.
func (r *router) keepStables(ctx context.Context) {
	apps, err := recordedApps(r.home)
	if err != nil {
		r.log.Warn("find the records of stable releases", "err", err)
	}
	r.stables.load(time.Now(), r.home, apps, r.log)
	tick := time.NewTicker(windowTime)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			r.stables.save(r.home, r.log)
			return
		case <-tick.C:
		}
		routes, changed := r.routed()
		r.stables.window(time.Now(), routes, changed)
		if n%int(time.Minute/windowTime) == 0 {
			r.stables.save(r.home, r.log)
		}
	}
}

// routed are the present routes, and the versions that brought them.
func (r *router) routed() ([]gapless.Route, map[string]uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.table.Routes, maps.Clone(r.changed)
}

// dispersion is how much more than chance the instances of a release differed
// in the last hour, 1 or more: in bad answers, and in requests slower than
// each quantile. Unless known there were no two instances to compare.
func (r *router) dispersion(app, release string) (errors float64, slow [gapless.Quantiles]float64, known bool) {
	s := &r.stables
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.record(time.Now(), app, release)
	if rec == nil {
		rec = &stableRecord{}
	}
	return rec.phi()
}

// record is what a release answered in the last hour, at any weight, and how
// long its requests took in the last minutes. Where little is known of that,
// what the edges that live counted has to do, if it is more.
func (r *router) record(ctx context.Context, app, release string) (all gapless.Arm, latency [gapless.LatencyBuckets]uint64) {
	all, latency, known := r.recorded(app, release)
	if known >= enoughLatencies[gapless.Quantiles-1] {
		return all, latency
	}
	var live gapless.Arm
	var took [gapless.LatencyBuckets]uint64
	total := uint64(0)
	for _, rep := range r.reports(ctx) {
		for _, t := range rep.Releases {
			if t.App != app || t.Release != release {
				continue
			}
			live.Requests += t.Requests
			live.Bad += t.Status[5] + t.Failed
			addGrowth(took[:], t.Latency, nil)
		}
	}
	for _, n := range took {
		total += n
	}
	if live.Requests > all.Requests {
		all = live
	}
	if total > known {
		latency = took
	}
	return all, latency
}

// recorded is record of what was written down; known is of how many requests.
func (r *router) recorded(app, release string) (all gapless.Arm, latency [gapless.LatencyBuckets]uint64, known uint64) {
	s := &r.stables
	s.mu.Lock()
	defer s.mu.Unlock()
	if rec := s.record(time.Now(), app, release); rec != nil {
		var list []uint64
		all = rec.arm()
		list, known = rec.latency()
		copy(latency[:], list)
	}
	return all, latency, known
}
