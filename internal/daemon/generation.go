package daemon

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"gapless"
	"gapless/internal/edge"
)

const (
	// freshFor is how old a report may be. What an edge that is silent for
	// longer serves is unknown.
	freshFor = time.Second
	// silentFor is how long a table waits for an edge that was silent before.
	silentFor = 300 * time.Millisecond
	// retryEdge is how soon an edge that could not be reached is tried again.
	retryEdge = 50 * time.Millisecond
	// renewEvery is how often a lease is renewed while its rollout is looked after.
	renewEvery = time.Second
)

// generation is one live edge generation: one goroutine brings it to the
// present table, another one hears its reports. Neither can hold up another
// generation, or whoever looks.
type generation struct {
	r      *router
	number int
	socket string
	poked  chan struct{} // there may be a newer table
	ended  chan struct{} // closed when its process is gone
	end    func()

	mu      sync.Mutex
	rep     gapless.EdgeReport // the newest one; no Start: none yet
	latest  uint64             // version that it acknowledged
	tried   int                // attempts to bring it to a table that failed
	err     error              // of the last one
	changed chan struct{}      // closed when one of these changes
	kept    map[string]uint64  // per app: its evidence is saved up to this report
	told    map[string]uint64  // what it knows of that
	renewed map[string]time.Duration

	paced map[string]gapless.LatencyLimits // what it was told on this connection; only hear touches it
}

func (r *router) newGeneration(number int) *generation {
	g := &generation{
		r: r, number: number, socket: r.home.EdgeSocket(number), poked: make(chan struct{}, 1), ended: make(chan struct{}),
		changed: make(chan struct{}), kept: map[string]uint64{}, told: map[string]uint64{}, renewed: map[string]time.Duration{}, paced: map[string]gapless.LatencyLimits{},
	}
	g.end = sync.OnceFunc(func() { close(g.ended) })
	return g
}

// run serves and follows it, until its process is gone.
func (g *generation) run(ctx context.Context) {
	go g.serve(ctx)
	g.follow(ctx)
	if ctx.Err() != nil {
		return // the daemon ends, not the edge
	}
	rep, _ := g.report()
	g.r.remember(rep)
}

// change tells whoever waits; g.mu is held.
func (g *generation) change() {
	close(g.changed)
	g.changed = make(chan struct{})
}

func (g *generation) poke() {
	select {
	case g.poked <- struct{}{}:
	default:
	}
}

// serve keeps the generation at the present table until it ends.
func (g *generation) serve(ctx context.Context) {
	var client *edge.Client
	defer func() {
		if client != nil {
			_ = client.Close()
		}
	}()
	for {
		table := g.r.present()
		g.mu.Lock()
		due := table.Version > g.latest
		g.mu.Unlock()
		pause := time.Second
		if due {
			if err := g.bring(ctx, &client, table); err != nil {
				if code := gapless.CodeOf(err); code != gapless.Invalid && code != gapless.Conflict {
					pause = retryEdge
				}
				g.mu.Lock()
				g.tried, g.err = g.tried+1, err
				g.change()
				g.mu.Unlock()
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-g.ended:
		case <-g.poked:
		case <-timer.C:
		}
		timer.Stop()
		select {
		case <-ctx.Done():
			return
		case <-g.ended:
			return
		default:
		}
	}
}

// bring makes the generation serve a table, and asks at once what it serves.
func (g *generation) bring(ctx context.Context, client **edge.Client, table gapless.Table) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	if *client == nil {
		c, err := edge.Dial(ctx, g.socket)
		if err != nil {
			return err
		}
		*client = c
	}
	err := (*client).Apply(ctx, table)
	var rep gapless.EdgeReport
	if err == nil {
		rep, err = (*client).Report(ctx)
	}
	if err != nil {
		_ = (*client).Close()
		*client = nil
		return err
	}
	g.take(rep, nil)
	return nil
}

// await returns when the generation serves a version, or an attempt to bring
// it there failed. One that was silent before holds nobody up for long.
func (g *generation) await(ctx context.Context, version uint64, tried int) error {
	began := time.Now()
	for {
		g.mu.Lock()
		latest, err, failed, changed := g.latest, g.err, g.tried > tried, g.changed
		silent := !g.fresh()
		g.mu.Unlock()
		switch took := time.Since(began); {
		case latest >= version:
			return nil
		case failed:
			return fmt.Errorf("edge generation %d: %w", g.number, err)
		case silent && took >= silentFor, took >= callLimit:
			return gapless.Errorf(gapless.Unavailable, "edge generation %d does not answer", g.number)
		}
		timer := time.NewTimer(silentFor)
		select {
		case <-changed:
		case <-timer.C:
		case <-g.ended:
			timer.Stop()
			return nil // it serves nothing any more
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		timer.Stop()
	}
}

// failures is how many attempts to bring the generation to a table failed.
func (g *generation) failures() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tried
}

// fresh reports whether what the generation said last is what it is; g.mu is held.
func (g *generation) fresh() bool {
	return g.rep.Start != "" && edge.Clock()-g.rep.Made <= freshFor
}

// report is what the generation said last.
func (g *generation) report() (rep gapless.EdgeReport, fresh bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.rep, g.fresh()
}

// follow hears what the generation says until its process is gone. What it
// said before that is heard to the end.
func (g *generation) follow(ctx context.Context) {
	for {
		w, err := edge.Watch(ctx, g.socket)
		if err == nil {
			stop := context.AfterFunc(ctx, func() { _ = w.Close() })
			err = g.hear(ctx, w)
			stop()
			_ = w.Close()
		}
		g.r.log.Debug("watch", "generation", g.number, "err", err)
		timer := time.NewTimer(retryEdge)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-g.ended:
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func (g *generation) hear(ctx context.Context, w *edge.Watching) error {
	g.mu.Lock()
	clear(g.told) // it may be another process
	clear(g.renewed)
	g.mu.Unlock()
	clear(g.paced)
	for first := true; ; first = false {
		rep, news, err := w.Next()
		if err != nil {
			return err
		}
		g.take(rep, news)
		if first { // of what was before, nobody was told
			g.r.wake()
		}
		if err := g.tell(ctx, w); err != nil {
			return err
		}
		if err := g.pace(ctx, w); err != nil {
			return err
		}
	}
}

// take takes a report in and wakes who waits for what is in it.
func (g *generation) take(rep gapless.EdgeReport, news []string) {
	g.r.totals.take(rep)
	g.r.stables.take(rep)
	was, _ := g.report()
	switch {
	case was.Start == rep.Start:
	case was.Start == "":
		g.r.isBack(rep.Start)
	case rep.Made <= was.Made: // the last word of the process before
		g.r.remember(rep)
		return
	}
	g.mu.Lock()
	was, fresh := g.rep, g.fresh()
	if was.Start == rep.Start && rep.Seq <= was.Seq {
		g.mu.Unlock()
		if len(news) > 0 { // a newer one came on another way, and was no news
			g.r.wake(news...)
		}
		return
	}
	if was.Start != rep.Start {
		clear(g.kept)
	}
	g.rep, g.latest = rep, rep.Version
	g.change()
	g.mu.Unlock()
	if was.Start != "" && was.Start != rep.Start {
		g.r.remember(was)
	}
	if was.Start != rep.Start {
		g.poke()
	}
	switch {
	case was.Start != rep.Start || was.Version != rep.Version || !fresh:
		g.r.wake()
	case len(news) > 0:
		g.r.wake(news...)
	}
}

// tell says up to where the evidence is saved, and which candidates are judged.
func (g *generation) tell(ctx context.Context, w *edge.Watching) error {
	judged := g.r.judgedAt()
	g.mu.Lock()
	kept := map[string]uint64{}
	for _, c := range g.rep.Counters {
		if seq := g.kept[c.App]; seq > g.told[c.App] {
			kept[c.App] = seq
		}
	}
	maps.Copy(g.told, kept)
	for app, at := range judged {
		if at-g.renewed[app] < renewEvery {
			delete(judged, app)
		}
	}
	maps.Copy(g.renewed, judged)
	g.mu.Unlock()
	if len(kept)+len(judged) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	return w.Tell(ctx, kept, judged)
}

// ask asks for a report now, for people. The last one has to do if there is
// none within a short time.
func (g *generation) ask(ctx context.Context) gapless.EdgeReport {
	ctx, cancel := context.WithTimeout(ctx, silentFor)
	defer cancel()
	c, err := edge.Dial(ctx, g.socket)
	if err == nil {
		defer func() { _ = c.Close() }()
		if rep, err := c.Report(ctx); err == nil {
			g.take(rep, nil)
			return rep
		}
	}
	rep, _ := g.report()
	return rep
}
