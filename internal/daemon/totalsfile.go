package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"gapless"
	"gapless/internal/durable"
	"gapless/internal/keeper"
)

// Totals is the file of what all edges counted. Without it counting begins
// anew, with what the edges that live have counted in their lives.
func (h Home) Totals() string { return h.path("totals.json") }

// saveTotalsEvery is how much of what an edge counted may be lost, when it
// ends while no daemon lives.
const saveTotalsEvery = 10 * time.Second

// totalsFile is where totals outlive a daemon.
type totalsFile struct {
	path string // "": they do not

	saving sync.Mutex // held while it is written, in the order of what is
	last   []byte     // what is in it
	failed bool       // it could not be written, and that was said
}

// savedTotals is what is in it.
type savedTotals struct {
	Sum gapless.EdgeReport `json:"sum"` // the release that was given requests last is the last one
	// Edges says of each process that may live what of it is in Sum: so what it
	// says next is not counted twice.
	Edges []gapless.EdgeReport `json:"edges"`
}

// load goes on from what was saved. Processes of other generations than those
// that live are gone. What cannot be read is as if there were nothing.
func (t *totals) load(path string, live []int, log *slog.Logger) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begin()
	t.file.path = path
	data, err := os.ReadFile(path)
	var saved savedTotals
	if err == nil {
		err = json.Unmarshal(data, &saved)
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			log.Warn("read what edges counted: counters begin anew", "file", path, "err", err)
		}
		return
	}
	sum := saved.Sum
	ofReleases.absorb(t.releases, sum.Releases, nil, func(k ofApp) {
		t.round++
		t.grown[k] = t.round
	})
	ofInstances.absorb(t.instances, sum.Instances, nil, nil)
	ofMirrors.absorb(t.mirrors, sum.Mirrors, nil, nil)
	ofLogs.absorb(t.logs, sum.Logs, nil, nil)
	t.tls, t.shed = sum.TLS, sum.Shed
	for _, rep := range saved.Edges {
		if slices.Contains(live, rep.Generation) {
			t.lives[rep.Start] = &edgeLife{counted: rep}
		}
	}
	t.file.last = data
}

// save writes the totals down if they have changed. Whoever tells somebody of
// them saves them before: then nobody ever sees less than before.
func (t *totals) save(log *slog.Logger) {
	f := &t.file
	if f.path == "" {
		return
	}
	f.saving.Lock()
	defer f.saving.Unlock()
	data, err := t.encode()
	if err == nil && bytes.Equal(data, f.last) {
		return
	}
	if err == nil {
		err = durable.Write(f.path, data)
	}
	if err != nil {
		if !f.failed {
			log.Warn("save what edges counted: counters may go back with the next daemon", "file", f.path, "err", err)
		}
		f.failed = true
		return
	}
	f.last, f.failed = data, false
}

// encode adds up what is new and makes the file of it.
func (t *totals) encode() ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begin()
	for _, l := range t.lives {
		t.absorb(l)
	}
	out := savedTotals{Sum: gapless.EdgeReport{TLS: t.tls, Shed: t.shed}}
	for _, k := range slices.SortedFunc(maps.Keys(t.releases), t.byGrowth) {
		out.Sum.Releases = append(out.Sum.Releases, *t.releases[k])
	}
	slices.Reverse(out.Sum.Releases)
	for _, k := range inOrder(t.instances) {
		out.Sum.Instances = append(out.Sum.Instances, *t.instances[k])
	}
	for _, k := range inOrder(t.mirrors) {
		out.Sum.Mirrors = append(out.Sum.Mirrors, *t.mirrors[k])
	}
	for _, k := range inOrder(t.logs) {
		out.Sum.Logs = append(out.Sum.Logs, *t.logs[k])
	}
	for _, start := range slices.Sorted(maps.Keys(t.lives)) {
		if l := t.lives[start]; !l.gone {
			out.Edges = append(out.Edges, countsOf(l.counted))
		}
	}
	return json.Marshal(out)
}

// countsOf is a report without what is no counter.
func countsOf(rep gapless.EdgeReport) gapless.EdgeReport {
	out := gapless.EdgeReport{Start: rep.Start, Generation: rep.Generation, Logs: rep.Logs, Shed: rep.Shed}
	for _, x := range rep.Releases {
		x.Failing = nil
		out.Releases = append(out.Releases, x)
	}
	for _, x := range rep.Instances {
		out.Instances = append(out.Instances, gapless.InstanceTraffic{App: x.App, Instance: x.Instance, Requests: x.Requests, Bad: x.Bad, Ejections: x.Ejections})
	}
	for _, x := range rep.Mirrors {
		x.Differences = nil
		out.Mirrors = append(out.Mirrors, x)
	}
	if rep.TLS != nil {
		tls := *rep.TLS
		tls.Open = 0
		out.TLS = &tls
	}
	return out
}

// keepTotals saves them now and then, and at the end of the daemon.
func (r *router) keepTotals(ctx context.Context) {
	tick := time.NewTicker(saveTotalsEvery)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case <-ctx.Done():
			ended = true
		case <-tick.C:
		}
		var said []gapless.EdgeReport
		for _, g := range r.generations() {
			rep, _ := g.report()
			said = append(said, rep)
		}
		r.totals.sum(said, r.present()) // forgets what nobody asks for any more
		r.totals.save(r.log)
	}
}

// liveEdges are the generations that live, by keeper's word.
func liveEdges(ctx context.Context, k *keeper.Client) (out []int, err error) {
	procs, err := k.List(ctx)
	for _, p := range procs {
		if p.Kind == keeper.KindEdge && p.Running {
			out = append(out, p.Generation)
		}
	}
	return out, err
}
