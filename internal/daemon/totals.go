package daemon

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"gapless"
)

const (
	// formerReleases bounds the labels of one app: so many releases that its
	// route does not name any more are still told of.
	formerReleases = 16
	// formerApps bounds how many apps are told of that have no route any more.
	formerApps = 64
)

// totals adds up what all edge processes counted, for people and Prometheus.
// What a process counted stays when it is gone, and a daemon goes on from what
// the last one saved (totalsfile.go), so nothing goes back. The zero value is
// ready, and saves nothing.
type totals struct {
	mu    sync.Mutex
	lives map[string]*edgeLife // by EdgeReport.Start
	round uint64               // of sum

	releases  map[ofApp]*gapless.ReleaseTraffic
	grown     map[ofApp]uint64 // the round in which a release was given requests last
	instances map[ofApp]*gapless.InstanceTraffic
	mirrors   map[ofApp]*gapless.MirrorTraffic
	logs      map[ofApp]*gapless.LogTraffic
	tls       *gapless.TLSTraffic
	shed      gapless.Shed

	file totalsFile
}

// ofApp names a release, an instance or a release that is mirrored to; with no
// name an app.
type ofApp struct{ app, name string }

// edgeLife is what one process said: what of it is in the totals, and the
// newest. heard: it said something to this daemon; gone: it is no more.
type edgeLife struct {
	counted, newest gapless.EdgeReport
	heard, gone     bool
}

// begin makes what is nil. t.mu is held.
func (t *totals) begin() {
	if t.lives != nil {
		return
	}
	t.lives = map[string]*edgeLife{}
	t.releases, t.grown, t.instances = map[ofApp]*gapless.ReleaseTraffic{}, map[ofApp]uint64{}, map[ofApp]*gapless.InstanceTraffic{}
	t.mirrors, t.logs = map[ofApp]*gapless.MirrorTraffic{}, map[ofApp]*gapless.LogTraffic{}
}

// take notes a report. It is added up when somebody wants to know.
func (t *totals) take(rep gapless.EdgeReport) {
	if rep.Start == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begin()
	l := t.lives[rep.Start]
	if l == nil {
		// A number comes again when its process is gone; who was silent to this daemon is.
		maps.DeleteFunc(t.lives, func(_ string, l *edgeLife) bool { return !l.heard && l.counted.Generation == rep.Generation })
		l = &edgeLife{}
		t.lives[rep.Start] = l
		t.bury()
	}
	if !l.heard || rep.Seq > l.newest.Seq {
		l.newest, l.heard = rep, true
	}
}

// end is told that a process is gone, or that it is not after all. What it said
// last may still come.
func (t *totals) end(start string, gone bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.lives[start]; l != nil {
		l.gone = gone
	}
}

// bury adds up a process and forgets it, when there are many: the one that was
// silent longest, of those that are gone if there are some. t.mu is held.
func (t *totals) bury() {
	if len(t.lives) <= mostLast {
		return
	}
	var oldest string
	var dead *edgeLife
	for start, l := range t.lives {
		if l.heard && (dead == nil || l.gone && !dead.gone || l.gone == dead.gone && l.newest.Made < dead.newest.Made) {
			oldest, dead = start, l
		}
	}
	if dead != nil {
		t.absorb(dead)
		delete(t.lives, oldest)
	}
}

// absorb adds what a process counted since the last time. t.mu is held.
func (t *totals) absorb(l *edgeLife) {
	if !l.heard {
		return
	}
	now, was := l.newest, l.counted
	ofReleases.absorb(t.releases, now.Releases, was.Releases, func(k ofApp) { t.grown[k] = t.round })
	ofInstances.absorb(t.instances, now.Instances, was.Instances, nil)
	ofMirrors.absorb(t.mirrors, now.Mirrors, was.Mirrors, nil)
	ofLogs.absorb(t.logs, now.Logs, was.Logs, nil)
	if now.TLS != nil {
		if t.tls == nil {
			t.tls = &gapless.TLSTraffic{}
		}
		grow(tlsCounts(t.tls), tlsCounts(now.TLS), tlsCounts(was.TLS))
	}
	grow(shedCounts(&t.shed), shedCounts(&now.Shed), shedCounts(&was.Shed))
	l.counted = now
}

// sum is the report of all edges as if they were one: counters of all times,
// and what is under way in the live ones, oldest first. The table says what
// is never left out.
func (t *totals) sum(live []gapless.EdgeReport, table gapless.Table) gapless.EdgeReport {
	for _, rep := range live {
		t.take(rep)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begin()
	t.round++
	for _, l := range t.lives {
		t.absorb(l)
	}
	t.forget(live, table)
	var out gapless.EdgeReport
	for i, rep := range live {
		out.Connections += rep.Connections
		if i == 0 || rep.Version < out.Version {
			out.Version = rep.Version
		}
	}
	for _, k := range inOrder(t.releases) {
		x := *t.releases[k]
		x.Latency = slices.Clone(x.Latency)
		out.Releases = append(out.Releases, x)
	}
	out.Instances = t.present(live)
	for _, k := range inOrder(t.mirrors) {
		out.Mirrors = append(out.Mirrors, *t.mirrors[k])
	}
	for _, k := range inOrder(t.logs) {
		out.Logs = append(out.Logs, *t.logs[k])
	}
	if t.tls != nil {
		sum := *t.tls
		out.TLS = &sum
	}
	out.Shed = t.shed
	return out
}

// present is what the live edges have under way at their instances. How one
// is, the newest edge that knows it says. t.mu is held.
func (t *totals) present(live []gapless.EdgeReport) (out []gapless.InstanceTraffic) {
	now := map[ofApp]gapless.InstanceTraffic{}
	for _, rep := range live {
		for _, x := range rep.Instances {
			k := ofApp{x.App, x.Instance}
			sum := now[k]
			x.InFlight += sum.InFlight
			x.Upgraded += sum.Upgraded
			now[k] = x
		}
	}
	for _, k := range inOrder(now) {
		x := now[k]
		x.Latency = nil // not every report has it; see dispersion
		if v := t.instances[k]; v != nil {
			x.Requests, x.Bad, x.Ejections = v.Requests, v.Bad, v.Ejections
		}
		out = append(out, x)
	}
	return out
}

// forget bounds what is told of: nobody deploys for a year and finds every
// release of it in each answer. t.mu is held.
func (t *totals) forget(live []gapless.EdgeReport, table gapless.Table) {
	routed, named := map[string]bool{}, map[ofApp]bool{}
	for _, r := range table.Routes {
		routed[r.App] = true
		for _, w := range r.Weights {
			named[ofApp{r.App, w.Release}] = true
		}
		for _, x := range r.Targets {
			named[ofApp{r.App, x.Release}], named[ofApp{r.App, x.Instance}] = true, true
		}
	}
	for _, rep := range live {
		for _, x := range rep.Instances {
			named[ofApp{x.App, x.Instance}] = true
		}
	}
	maps.DeleteFunc(t.instances, func(k ofApp, _ *gapless.InstanceTraffic) bool { return !named[k] })
	keys := slices.SortedFunc(maps.Keys(t.releases), t.byGrowth)
	former, apps := map[string]int{}, map[string]bool{}
	for _, k := range keys {
		if named[k] {
			continue
		}
		if !routed[k.app] && !apps[k.app] && len(apps) < formerApps {
			apps[k.app] = true
		}
		former[k.app]++
		if former[k.app] > formerReleases || !routed[k.app] && !apps[k.app] {
			delete(t.releases, k)
			delete(t.grown, k)
		}
	}
	told := func(k ofApp) bool { return t.releases[k] != nil || named[k] }
	maps.DeleteFunc(t.mirrors, func(k ofApp, _ *gapless.MirrorTraffic) bool { return !told(k) })
	maps.DeleteFunc(t.logs, func(k ofApp, _ *gapless.LogTraffic) bool { return !routed[k.app] && !apps[k.app] })
}

// byGrowth sorts the release that was given requests last first.
func (t *totals) byGrowth(a, b ofApp) int {
	return cmp.Or(cmp.Compare(t.grown[b], t.grown[a]), byName(a, b))
}

func byName(a, b ofApp) int { return cmp.Or(cmp.Compare(a.app, b.app), cmp.Compare(a.name, b.name)) }

// inOrder lists the keys of a map by app and name.
func inOrder[V any](m map[ofApp]V) []ofApp { return slices.SortedFunc(maps.Keys(m), byName) }
