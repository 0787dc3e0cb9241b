package edge

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sort"
	"sync"
	"time"

	"gapless"
)

// How often an edge says what it has to whoever watches.
const (
	pushSpacing   = 10 * time.Millisecond  // at most so often, however much news there is
	reportEvery   = 100 * time.Millisecond // while something is judged or drains
	reportIdle    = 250 * time.Millisecond
	watchPatience = 10 * time.Second // for whoever watches to take a report
)

// lastWord is how long an edge that ends waits until its last report is taken.
const lastWord = time.Second

// watcher is somebody who is told at once when there is news of an app: a bad
// answer, a fallback, the last request of an instance that leaves.
type watcher struct {
	mu    sync.Mutex
	apps  map[string]bool
	ready chan struct{}
}

// news tells everybody who watches. It never blocks.
func (e *Edge) news(app string) {
	e.watchMu.Lock()
	defer e.watchMu.Unlock()
	for w := range e.watchers {
		w.mu.Lock()
		w.apps[app] = true
		w.mu.Unlock()
		select {
		case w.ready <- struct{}{}:
		default:
		}
	}
}

func (e *Edge) watch() *watcher {
	w := &watcher{apps: map[string]bool{}, ready: make(chan struct{}, 1)}
	e.watchMu.Lock()
	defer e.watchMu.Unlock()
	e.watchers[w] = struct{}{}
	return w
}

func (e *Edge) unwatch(w *watcher) {
	e.watchMu.Lock()
	defer e.watchMu.Unlock()
	delete(e.watchers, w)
}

// take returns the apps of which there is news.
func (w *watcher) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for app := range w.apps {
		out = append(out, app)
	}
	clear(w.apps)
	sort.Strings(out)
	return out
}

// busy reports whether somebody waits for what this edge counts.
func (e *Edge) busy() bool {
	if e.draining.Load() {
		return true
	}
	for _, r := range e.state.Load().table.Routes {
		if len(r.Weights) > 1 {
			return true
		}
		for _, t := range r.Targets {
			if t.Draining {
				return true
			}
		}
	}
	return false
}

// watches turns a connection that asks for it into one that watches, until it
// ends: reports go one way, what is kept and judged comes the other way. It
// reports whether that was asked for.
func (s *control) watches(c net.Conn, r *bufio.Reader, line []byte) bool {
	req, err := decodeRequest(line)
	if err != nil || req.Op != "watch" {
		return false
	}
	s.heed(req)
	gone := make(chan struct{})
	s.mu.Lock()
	select {
	case <-s.closing:
		s.mu.Unlock()
		return true
	default:
	}
	s.streams.Go(func() { s.stream(c, gone) })
	s.mu.Unlock()
	defer close(gone)
	for {
		line, err := readLine(r)
		if err != nil {
			return true
		}
		req, err := decodeRequest(line)
		if err != nil || req.Op != "watch" {
			return true
		}
		s.heed(req)
	}
}

// heed takes in what whoever watches has kept and judged.
func (s *control) heed(req request) {
	for app, seq := range req.Kept {
		s.edge.counters.Acknowledge(app, seq)
	}
	for app, at := range req.Judged {
		_ = s.edge.renew(app, at) // one that ran out is in the report
	}
	for app, l := range req.Limits {
		s.edge.pace(app, l)
	}
}

// stream sends reports: one now, one soon after there is news, and one every
// now and then.
func (s *control) stream(c net.Conn, gone <-chan struct{}) {
	w := s.edge.watch()
	defer s.edge.unwatch(w)
	timer := time.NewTimer(0)
	defer timer.Stop()
	pause := func(d time.Duration, ready <-chan struct{}) (last bool) {
		timer.Reset(d)
		select {
		case <-timer.C:
		case <-ready:
		case <-gone:
		case <-s.closing:
			return true
		}
		return false
	}
	for last := false; ; {
		res := response{V: controlVersion, News: w.take(), next: nextFields()}
		rep := s.edge.report()
		res.Report = &rep
		b, err := json.Marshal(res)
		if err != nil {
			return
		}
		if !last {
			c.SetWriteDeadline(time.Now().Add(watchPatience))
		}
		select {
		case <-s.closing:
			c.SetWriteDeadline(time.Now().Add(lastWord))
		default:
		}
		if _, err := c.Write(append(b, '\n')); err != nil || last {
			c.Close()
			return
		}
		every := reportIdle
		if s.edge.busy() {
			every = reportEvery
		}
		last = pause(pushSpacing, nil) || pause(every-pushSpacing, w.ready)
		select {
		case <-gone:
			return
		default:
		}
	}
}

// Watching is a connection on which one edge process says what it has.
type Watching struct {
	c net.Conn
	r *bufio.Reader

	mu sync.Mutex // one message at a time
}

// Watch connects to the control socket of an edge and asks for its reports.
func Watch(ctx context.Context, socket string) (*Watching, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, gapless.Errorf(gapless.Unavailable, "reach the edge at %s: %w", socket, err)
	}
	w := &Watching{c: c, r: bufio.NewReader(c)}
	if err := w.Tell(ctx, nil, nil); err != nil {
		c.Close()
		return nil, err
	}
	return w, nil
}

// Next waits for the next report. news are the apps because of which it came
// before its time: a bad answer was given, the last request of an instance
// that leaves has ended, a lease ran out.
func (w *Watching) Next() (rep gapless.EdgeReport, news []string, err error) {
	line, err := readLine(w.r)
	if err != nil {
		return rep, nil, gapless.Errorf(gapless.Unavailable, "watch the edge: %w", err)
	}
	var res response
	if err := json.Unmarshal(line, &res); err != nil {
		return rep, nil, gapless.Errorf(gapless.Internal, "read report of the edge: %w", err)
	}
	switch {
	case res.V != controlVersion:
		return rep, nil, gapless.Errorf(gapless.Unsupported, "the edge answers in control version %d, not %d", res.V, controlVersion)
	case res.Error != nil:
		return rep, nil, res.Error
	case res.Report == nil:
		return rep, nil, gapless.Errorf(gapless.Internal, "read report of the edge: there is none")
	}
	return *res.Report, res.News, nil
}

// Tell says what became of the reports: kept is the number of the last one
// whose evidence about an app is saved, judged when its candidate was judged,
// in Clock. There is no answer; a lease that ran out before is in the reports.
func (w *Watching) Tell(ctx context.Context, kept map[string]uint64, judged map[string]time.Duration) error {
	return w.send(ctx, request{Kept: kept, Judged: judged})
}

// Pace says from which ages on requests of apps are slow; Version 0 ends it.
// What holds is in the reports. Only an edge that reports Paced knows of it.
func (w *Watching) Pace(ctx context.Context, limits map[string]gapless.LatencyLimits) error {
	return w.send(ctx, request{Limits: limits})
}

// send sends one message of watch.
func (w *Watching) send(ctx context.Context, req request) error {
	req.V, req.Op = controlVersion, "watch"
	b, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("write message to the edge: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { w.c.SetWriteDeadline(past) })
	defer stop()
	if _, err := w.c.Write(append(b, '\n')); err != nil {
		if ctx.Err() != nil {
			err = errors.Join(ctx.Err(), err)
		}
		return gapless.Errorf(gapless.Unavailable, "tell the edge: %w", err)
	}
	return nil
}

// Close ends the connection; the edge goes on as it is.
func (w *Watching) Close() error { return w.c.Close() }
