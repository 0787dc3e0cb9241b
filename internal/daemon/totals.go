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

// totals adds up what all edge processes of this daemon's life counted, for
// Prometheus. What a process counted stays when it is gone, so nothing goes
// back. A daemon that starts has what the live processes counted in their
// lives. The zero value is ready.
type totals struct {
	mu    sync.Mutex
	lives map[string]*edgeLife // by EdgeReport.Start
	round uint64               // of sum

	releases  map[ofApp]*releaseTotal
	instances map[ofApp]*gapless.InstanceTraffic
	mirrors   map[ofApp]*gapless.MirrorTraffic
	logs      map[string]*gapless.LogTraffic
	tls       *gapless.TLSTraffic
	shed      gapless.Shed
}

// ofApp names a release, an instance or a release that is mirrored to.
type ofApp struct{ app, name string }

// releaseTotal is one release's; grown is the round of sum in which it grew last.
type releaseTotal struct {
	gapless.ReleaseTraffic
	grown uint64
}

// edgeLife is what one process said: what of it is in the totals, and the newest.
type edgeLife struct{ counted, newest gapless.EdgeReport }

// take notes a report. It is added up when somebody wants to know.
func (t *totals) take(rep gapless.EdgeReport) {
	if rep.Start == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.lives[rep.Start]
	if l == nil {
		if t.lives == nil {
			t.lives = map[string]*edgeLife{}
			t.releases, t.instances = map[ofApp]*releaseTotal{}, map[ofApp]*gapless.InstanceTraffic{}
			t.mirrors, t.logs = map[ofApp]*gapless.MirrorTraffic{}, map[string]*gapless.LogTraffic{}
		}
		l = &edgeLife{}
		t.lives[rep.Start] = l
		t.bury()
	}
	if l.newest.Start == "" || rep.Seq > l.newest.Seq {
		l.newest = rep
	}
}

// bury adds up the process that was silent longest and forgets it, when there
// are many. t.mu is held.
func (t *totals) bury() {
	if len(t.lives) <= mostLast {
		return
	}
	var oldest string
	for start, l := range t.lives {
		if l.newest.Start != "" && (oldest == "" || l.newest.Made < t.lives[oldest].newest.Made) {
			oldest = start
		}
	}
	t.absorb(t.lives[oldest])
	delete(t.lives, oldest)
}

// grown is by how much a counter grew. What became less was left out of a
// report and is nothing new.
func grown(now, before uint64) uint64 {
	if now < before {
		return 0
	}
	return now - before
}

// total finds the counter of a key, or begins it.
func total[K comparable, V any](m map[K]*V, k K) *V {
	v := m[k]
	if v == nil {
		v = new(V)
		m[k] = v
	}
	return v
}

// absorb adds what a process counted since the last time. t.mu is held.
func (t *totals) absorb(l *edgeLife) {
	t.absorbReleases(l)
	t.absorbInstances(l)
	t.absorbMirrors(l)
	logs := map[string]gapless.LogTraffic{}
	for _, x := range l.counted.Logs {
		logs[x.App] = x
	}
	for _, x := range l.newest.Logs {
		v, was := total(t.logs, x.App), logs[x.App]
		v.App = x.App
		v.Lines += grown(x.Lines, was.Lines)
		v.Dropped += grown(x.Dropped, was.Dropped)
	}
	if x := l.newest.TLS; x != nil {
		var was gapless.TLSTraffic
		if l.counted.TLS != nil {
			was = *l.counted.TLS
		}
		if t.tls == nil {
			t.tls = &gapless.TLSTraffic{}
		}
		t.tls.Handshakes += grown(x.Handshakes, was.Handshakes)
		t.tls.Resumed += grown(x.Resumed, was.Resumed)
		t.tls.Failed += grown(x.Failed, was.Failed)
		t.tls.Shed += grown(x.Shed, was.Shed)
	}
	now, was := l.newest.Shed, l.counted.Shed
	t.shed.Connections += grown(now.Connections, was.Connections)
	t.shed.Requests += grown(now.Requests, was.Requests)
	t.shed.Overload += grown(now.Overload, was.Overload)
	t.shed.Holds += grown(now.Holds, was.Holds)
	l.counted = l.newest
}

func (t *totals) absorbReleases(l *edgeLife) {
	before := map[ofApp]gapless.ReleaseTraffic{}
	for _, x := range l.counted.Releases {
		before[ofApp{x.App, x.Release}] = x
	}
	for _, x := range l.newest.Releases {
		k := ofApp{x.App, x.Release}
		was, counted := before[k]
		if counted && t.releases[k] == nil && x.Requests == was.Requests && x.Status == was.Status {
			continue // it was forgotten, and nothing came of it since
		}
		v := total(t.releases, k)
		v.App, v.Release = x.App, x.Release
		if !counted || x.Requests != was.Requests || x.Status != was.Status {
			v.grown = t.round
		}
		v.Requests += grown(x.Requests, was.Requests)
		v.Failed += grown(x.Failed, was.Failed)
		v.Aborted += grown(x.Aborted, was.Aborted)
		v.Retried += grown(x.Retried, was.Retried)
		v.Spent += grown(x.Spent, was.Spent)
		v.Over += grown(x.Over, was.Over)
		v.Held += grown(x.Held, was.Held)
		v.HeldMax = max(v.HeldMax, x.HeldMax)
		for i := range x.Status {
			v.Status[i] += grown(x.Status[i], was.Status[i])
		}
		if v.Latency == nil {
			v.Latency = make([]uint64, gapless.LatencyBuckets)
		}
		for i := range min(len(x.Latency), len(v.Latency)) {
			n := uint64(0)
			if i < len(was.Latency) {
				n = was.Latency[i]
			}
			v.Latency[i] += grown(x.Latency[i], n)
		}
	}
}

func (t *totals) absorbInstances(l *edgeLife) {
	before := map[ofApp]gapless.InstanceTraffic{}
	for _, x := range l.counted.Instances {
		before[ofApp{x.App, x.Instance}] = x
	}
	for _, x := range l.newest.Instances {
		k := ofApp{x.App, x.Instance}
		v, was := total(t.instances, k), before[k]
		v.App, v.Instance = x.App, x.Instance
		v.Requests += grown(x.Requests, was.Requests)
		v.Ejections += grown(x.Ejections, was.Ejections)
	}
}

func (t *totals) absorbMirrors(l *edgeLife) {
	before := map[ofApp]gapless.MirrorTraffic{}
	for _, x := range l.counted.Mirrors {
		before[ofApp{x.App, x.Rollout}] = x
	}
	for _, x := range l.newest.Mirrors {
		v, was := total(t.mirrors, ofApp{x.App, x.Release}), before[ofApp{x.App, x.Rollout}]
		v.App, v.Release = x.App, x.Release
		v.Copied += grown(x.Copied, was.Copied)
		v.Dropped += grown(x.Dropped, was.Dropped)
		v.Answered += grown(x.Answered, was.Answered)
		v.Failed += grown(x.Failed, was.Failed)
		v.Compared += grown(x.Compared, was.Compared)
		v.Different += grown(x.Different, was.Different)
	}
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
		x := t.releases[k].ReleaseTraffic
		x.Latency = slices.Clone(x.Latency)
		out.Releases = append(out.Releases, x)
	}
	out.Instances = t.present(live)
	for _, k := range inOrder(t.mirrors) {
		out.Mirrors = append(out.Mirrors, *t.mirrors[k])
	}
	for _, app := range slices.Sorted(maps.Keys(t.logs)) {
		out.Logs = append(out.Logs, *t.logs[app])
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
		if v := t.instances[k]; v != nil {
			x.Requests, x.Ejections = v.Requests, v.Ejections
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
	keys := slices.SortedFunc(maps.Keys(t.releases), func(a, b ofApp) int {
		return cmp.Or(cmp.Compare(t.releases[b].grown, t.releases[a].grown), byName(a, b))
	})
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
		}
	}
	told := func(k ofApp) bool { return t.releases[k] != nil || named[k] }
	maps.DeleteFunc(t.mirrors, func(k ofApp, _ *gapless.MirrorTraffic) bool { return !told(k) })
	maps.DeleteFunc(t.logs, func(app string, _ *gapless.LogTraffic) bool { return !routed[app] && !apps[app] })
}

func byName(a, b ofApp) int { return cmp.Or(cmp.Compare(a.app, b.app), cmp.Compare(a.name, b.name)) }

// inOrder lists the keys of a map by app and name.
func inOrder[V any](m map[ofApp]V) []ofApp { return slices.SortedFunc(maps.Keys(m), byName) }
