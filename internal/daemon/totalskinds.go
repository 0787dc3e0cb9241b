package daemon

import (
	"slices"

	"gapless"
)

// kind is how one kind of counts is added up.
type kind[T any] struct {
	entry  func(*T) ofApp     // names it in the reports of a process
	total  func(*T) ofApp     // names what it is added to
	name   func(sum, x *T)    // gives a total its names, and what is not a sum
	counts func(*T) []*uint64 // what is; as many for each T
}

var ofReleases = kind[gapless.ReleaseTraffic]{
	entry: func(x *gapless.ReleaseTraffic) ofApp { return ofApp{x.App, x.Release} },
	total: func(x *gapless.ReleaseTraffic) ofApp { return ofApp{x.App, x.Release} },
	name: func(sum, x *gapless.ReleaseTraffic) {
		sum.App, sum.Release, sum.HeldMax = x.App, x.Release, max(sum.HeldMax, x.HeldMax)
	},
	counts: func(x *gapless.ReleaseTraffic) []*uint64 {
		out := []*uint64{&x.Requests, &x.Failed, &x.Aborted, &x.Retried, &x.Spent, &x.Over, &x.Held}
		for i := range x.Status {
			out = append(out, &x.Status[i])
		}
		if len(x.Latency) != gapless.LatencyBuckets { // also of another version
			x.Latency = append(slices.Clone(x.Latency), make([]uint64, gapless.LatencyBuckets)...)[:gapless.LatencyBuckets]
		}
		for i := range x.Latency {
			out = append(out, &x.Latency[i])
		}
		return out
	},
}

var ofInstances = kind[gapless.InstanceTraffic]{
	entry:  func(x *gapless.InstanceTraffic) ofApp { return ofApp{x.App, x.Instance} },
	total:  func(x *gapless.InstanceTraffic) ofApp { return ofApp{x.App, x.Instance} },
	name:   func(sum, x *gapless.InstanceTraffic) { sum.App, sum.Instance = x.App, x.Instance },
	counts: func(x *gapless.InstanceTraffic) []*uint64 { return []*uint64{&x.Requests, &x.Bad, &x.Ejections} },
}

// ofMirrors adds up the rollouts of a release.
var ofMirrors = kind[gapless.MirrorTraffic]{
	entry: func(x *gapless.MirrorTraffic) ofApp { return ofApp{x.App, x.Rollout} },
	total: func(x *gapless.MirrorTraffic) ofApp { return ofApp{x.App, x.Release} },
	name:  func(sum, x *gapless.MirrorTraffic) { sum.App, sum.Release = x.App, x.Release },
	counts: func(x *gapless.MirrorTraffic) []*uint64 {
		return []*uint64{&x.Copied, &x.Dropped, &x.Answered, &x.Failed, &x.Compared, &x.Different}
	},
}

var ofLogs = kind[gapless.LogTraffic]{
	entry:  func(x *gapless.LogTraffic) ofApp { return ofApp{app: x.App} },
	total:  func(x *gapless.LogTraffic) ofApp { return ofApp{app: x.App} },
	name:   func(sum, x *gapless.LogTraffic) { sum.App = x.App },
	counts: func(x *gapless.LogTraffic) []*uint64 { return []*uint64{&x.Lines, &x.Dropped} },
}

// tlsCounts of none are zeros.
func tlsCounts(x *gapless.TLSTraffic) []*uint64 {
	if x == nil {
		x = &gapless.TLSTraffic{}
	}
	return []*uint64{&x.Handshakes, &x.Resumed, &x.Failed, &x.Shed}
}

func shedCounts(x *gapless.Shed) []*uint64 {
	return []*uint64{&x.Connections, &x.Requests, &x.Overload, &x.Holds}
}

// absorb adds by how much a process's counts grew since before. grew is told
// which totals did; it may be nil.
func (k kind[T]) absorb(sums map[ofApp]*T, now, before []T, grew func(ofApp)) {
	was := map[ofApp]T{}
	for _, x := range before {
		was[k.entry(&x)] = x
	}
	for _, x := range now {
		old, counted := was[k.entry(&x)]
		of := k.total(&x)
		sum := sums[of]
		if sum == nil {
			sum = new(T)
		}
		more := grow(k.counts(sum), k.counts(&x), k.counts(&old))
		if counted && !more {
			continue // and if its total was forgotten, it stays so
		}
		k.name(sum, &x)
		sums[of] = sum
		if grew != nil {
			grew(of)
		}
	}
}

// grow adds by how much counters grew, and reports whether one did. What
// became less was left out of a report and is nothing new.
func grow(sums, now, before []*uint64) (more bool) {
	for i := range sums {
		if *now[i] > *before[i] {
			*sums[i] += *now[i] - *before[i]
			more = true
		}
	}
	return more
}
