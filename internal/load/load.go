// Package load is the strict open-loop load client: it sends a constant mix
// of requests, WebSockets and event streams, verifies every answer to the last
// byte and counts what users would have lost. It never retries and speaks
// HTTP/1.1 on its own connections, because net/http's Transport silently
// repeats requests on dead connections. It starts no servers and knows nothing
// of apps or rollouts. demo, rehearse and tests call it.
package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"
)

// Mix says how much of each kind of traffic there is. Rates are arrivals per
// second, by a schedule that does not wait for answers; 0 means none.
type Mix struct {
	KeepAlive        float64 // GET / by clients that keep their connection
	KeepAliveClients int     // how many such clients; default 8
	Fresh            float64 // GET / on a connection of its own
	Slow             float64 // GET /slow?ms=SlowTime
	SlowTime         time.Duration
	Upload           float64       // POST /upload, every second one chunked
	UploadSize       int           // bytes; default 1 MiB
	UploadTime       time.Duration // over which the body is trickled; default 1 s
	WebSockets       int           // clients that keep an echo on /ws open and reconnect at once
	SSE              int           // clients that keep a stream on /events open and reconnect at once
	H2C              float64       // GET / by HTTP/2 with prior knowledge, on two connections
	Path             float64       // GET PathName on kept connections; the answer is its last part and the release: "cart v1"
	PathName         string        // default /cart
}

// Config is what a Run needs to know.
type Config struct {
	URL     string        // "http://127.0.0.1:8080", or https with TLS
	TLS     *tls.Config   // nil: plain http
	Host    string        // Host header; default: the host of URL
	Mix     Mix           //
	Timeout time.Duration // a request without its whole answer after this time (plus SlowTime or UploadTime) hangs; default 10 s

	// Releases returns the releases that may answer now; nil: any. An answer
	// is right if its release was allowed when the request started or when it
	// ended. It is called twice per request and must be quick.
	Releases func() map[string]bool

	// OnBad is called with every sample that is not OK, from the request's goroutine.
	OnBad func(Sample)
}

// Run is load under way.
type Run struct {
	cfg     Config
	address string // to dial
	ctx     context.Context
	abort   context.CancelFunc
	stop    chan struct{} // closed: no more arrivals
	once    sync.Once
	wg      sync.WaitGroup
	rec     recorder
	blob    []byte // what uploads are cut from
}

// Start begins to send load until Stop is called. When ctx ends before that,
// everything under way is cut off and not counted.
func Start(ctx context.Context, cfg Config) (*Run, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	if scheme := map[bool]string{false: "http", true: "https"}[cfg.TLS != nil]; u.Scheme != scheme || u.Host == "" {
		return nil, fmt.Errorf("load: %q is not an %s://host:port URL", cfg.URL, scheme)
	}
	address := u.Host
	if u.Port() == "" {
		address = net.JoinHostPort(u.Hostname(), "80")
	}
	if cfg.Host == "" {
		cfg.Host = u.Host
	}
	setDefault(&cfg.Timeout, 10*time.Second)
	setDefault(&cfg.Mix.KeepAliveClients, 8)
	setDefault(&cfg.Mix.SlowTime, 2500*time.Millisecond)
	setDefault(&cfg.Mix.UploadSize, 1<<20)
	setDefault(&cfg.Mix.UploadTime, time.Second)
	setDefault(&cfg.Mix.PathName, "/cart")

	r := &Run{cfg: cfg, address: address, stop: make(chan struct{}), blob: newBlob(cfg.Mix.UploadSize)}
	r.ctx, r.abort = context.WithCancel(ctx)
	r.rec.start = time.Now()
	r.launch()
	return r, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Stop ends the arrivals, waits for what is under way (each bounded by its own
// timeout) and returns the final report.
func (r *Run) Stop() Report {
	r.once.Do(func() { close(r.stop) })
	r.wg.Wait()
	r.abort()
	r.rec.finish()
	return r.Report()
}

// Report is a snapshot of the counts so far.
func (r *Run) Report() Report { return r.rec.report() }

// Samples returns the finished slow requests, uploads, WebSockets and event
// streams, and every request of any kind that was not OK, in the order in
// which they ended. Call it after Stop for all of them. At most MaxSamples are
// kept; Report.Forgotten counts the rest.
func (r *Run) Samples() []Sample { return r.rec.kept() }

// launch starts one schedule or client per kind of the mix.
func (r *Run) launch() {
	m := r.cfg.Mix
	if m.KeepAlive > 0 {
		queue := make(chan time.Time, maxUnderWay)
		for range m.KeepAliveClients {
			r.wg.Go(func() { r.keepAliveClient(queue) })
		}
		r.wg.Go(func() {
			defer close(queue)
			r.arrivals(m.KeepAlive, func(due time.Time) bool {
				select {
				case queue <- due:
					return true
				default:
					return false
				}
			})
		})
	}
	slow, uploads, paths := &pool{run: r}, &pool{run: r}, &pool{run: r}
	r.schedule(m.Fresh, r.fresh)
	r.schedule(m.Slow, func(due time.Time) { r.slow(slow, due) })
	r.schedule(m.Upload, func(due time.Time) { r.upload(uploads, due) })
	r.schedule(m.Path, func(due time.Time) { r.path(paths, due) })
	if m.H2C > 0 {
		clients := [2]*h2cClient{newH2C(r), newH2C(r)}
		r.schedule(m.H2C, func(due time.Time) { clients[due.UnixNano()&1].get(due) })
	}
	for i := range m.WebSockets {
		r.wg.Go(func() { r.constantly(func() error { return r.webSocket(i) }) })
	}
	for range m.SSE {
		r.wg.Go(func() { r.constantly(r.eventStream) })
	}
}

// constantly runs sessions one after the other until the run stops. After one
// that failed it waits 100 ms, so that a server that is down is not counted as
// thousands of losses.
func (r *Run) constantly(session func() error) {
	for !r.stopped() {
		if session() == nil {
			continue
		}
		select {
		case <-r.stop:
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (r *Run) stopped() bool {
	select {
	case <-r.stop:
		return true
	case <-r.ctx.Done():
		return true
	default:
		return false
	}
}

// allowed is the set of releases that may answer now; nil: any.
func (r *Run) allowed() map[string]bool {
	if r.cfg.Releases == nil {
		return nil
	}
	return r.cfg.Releases()
}

// checkRelease compares the release that answered with what was allowed when
// the request began and with what is allowed now.
func (r *Run) checkRelease(release string, before map[string]bool) error {
	if r.cfg.Releases == nil || before[release] || r.allowed()[release] {
		return nil
	}
	return &failure{class: WrongRelease, cause: fmt.Errorf("release %q answered", release)}
}

// end records a finished sample with its error, if any.
func (r *Run) end(s Sample, err error) {
	s.End = time.Now()
	if s.Latency == 0 {
		s.Latency = s.End.Sub(s.Due)
	}
	if err != nil {
		if r.ctx.Err() != nil {
			return // we cut it off ourselves
		}
		s.Err, s.Detail = classOf(err), err.Error()
		var f *failure
		if errors.As(err, &f) && f.code != 0 {
			s.Code = f.code
		}
	}
	r.rec.add(s)
	if s.Err != "" && r.cfg.OnBad != nil {
		r.cfg.OnBad(s)
	}
}
