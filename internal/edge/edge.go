package edge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gapless"
	"gapless/internal/edge/h1"
)

// Edge is one running generation.
type Edge struct {
	cfg   Config
	log   *slog.Logger
	start time.Time

	ctx  context.Context // ends when what is left is cut
	kill context.CancelFunc

	state       atomic.Pointer[state]
	holding     atomic.Int64
	connections atomic.Int64
	refusing    atomic.Int64 // connections that are told why
	most        int          // connections that fit below the limit of descriptors
	anyGate     *gate
	noLimits    *limits
	room        room
	meter       meter
	shed        shed
	draining    atomic.Bool
	drainOnce   sync.Once
	drained     chan struct{} // closed when Drain was asked for
	graceEnd    atomic.Int64  // edge clock; 0: not draining
	drainEnd    time.Time     // deadline, set before draining

	mu         sync.Mutex // applies, one at a time; and what follows
	loops      []*loop    // none: goroutines serve everything
	listeners  map[string]*listener
	instances  map[target]*instance
	counts     []*traffic             // oldest first
	counted    map[[2]string]*traffic // the same by app and release
	budgets    map[string]*budget     // per app
	leases     map[string]*lease
	mirrors    map[string]*mirror               // per app
	paced      map[string]gapless.LatencyLimits // per app
	queues     map[string]*queue                // by app
	pages      map[string]*page                 // by file
	fullReport int64                            // edge clock of the last report that had all
	versions   map[string]uint64                // per app: of the table that brought its present route
	logs       map[string]*accessLog            // by app

	saving sync.Mutex // stores tables, one at a time; taken after mu
	saved  uint64     // version of the table that this edge stored or found stored

	tls      *terminator
	ejecting sync.Mutex // one at a time, so that two do not leave together

	counters Counters
	firsts   firsts
	id       string // random, of this process
	watchMu  sync.Mutex
	watchers map[*watcher]struct{}

	tickMu  sync.Mutex
	ticking map[ticked]struct{} // clients that the clock looks after
}

// listener accepts on one address of the table.
type listener struct {
	net.Listener
	addr  string
	done  chan struct{}
	tls   bool   // speaks https
	leave func() // lets the loops accept no more; nil: a goroutine accepts
}

// open accepts on l from now on.
func (e *Edge) open(l *listener) {
	if !l.tls && e.openDoors(l) {
		close(l.done)
		return
	}
	go e.accept(l)
}

// shut accepts no more.
func (l *listener) shut() {
	if l.leave != nil {
		l.leave()
	}
	l.Close()
}

// Run serves until ctx ends (then it drains as Drain does) or until it has
// been drained. It returns nil after a drain, also when the deadline cut
// something off.
func Run(ctx context.Context, cfg Config) error {
	e := &Edge{
		cfg: cfg.withDefaults(), start: time.Now(), drained: make(chan struct{}),
		listeners: map[string]*listener{}, instances: map[target]*instance{}, ticking: map[ticked]struct{}{},
		budgets: map[string]*budget{}, queues: map[string]*queue{}, pages: map[string]*page{},
		id: newStart(), watchers: map[*watcher]struct{}{}, paced: map[string]gapless.LatencyLimits{},
	}
	e.log = e.cfg.Log.With("edge", cfg.Generation)
	e.ctx, e.kill = context.WithCancel(context.Background())
	defer e.kill()
	e.state.Store(&state{changed: make(chan struct{})})
	e.setBounds()
	if err := e.startLoops(); err != nil {
		return err
	}
	defer e.stopLoops()
	e.tls = newTerminator(e)
	if err := e.restore(ctx); err != nil {
		return err
	}
	control, err := e.listenControl()
	if err != nil {
		return err
	}
	defer control.close()
	go e.tick()
	go e.storeLeases()
	go e.tls.keepFresh(e.ctx)
	go control.serve()

	select {
	case <-ctx.Done():
		e.Drain()
	case <-e.drained:
	}
	e.awaitEmpty()
	e.closeLogs()
	return nil
}

// restore serves the table that an edge before this one stored.
func (e *Edge) restore(ctx context.Context) error {
	b, err := e.cfg.Host.Load(ctx)
	if err != nil {
		return fmt.Errorf("load the last table: %w", err)
	}
	if b == nil {
		return nil
	}
	t, err := decodeTable(b)
	if err == nil {
		e.saved = t.Version
		err = e.serve(ctx, t.Table, t.Leases, false)
	}
	if err != nil {
		// The daemon will bring a table; serving nothing until then beats not running.
		e.log.Error("the stored table cannot be served", "error", err)
	}
	return nil
}

// now is the edge clock: nanoseconds since the start of this generation.
func (e *Edge) now() int64 { return int64(time.Since(e.start)) }

func (e *Edge) accept(l *listener) {
	defer close(l.done)
	pause := time.Duration(0)
	for {
		nc, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Mostly out of descriptors: connections wait in the queue meanwhile.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			e.log.Warn("accept failed", "listen", l.addr, "error", err)
			time.Sleep(pause)
			continue
		}
		pause = 0
		g, from := e.gateOf(l.addr), peerOf(nc)
		proxied := g.terms.Load().proxied(from)
		if proxied {
			from = netip.Addr{} // its header says whom it counts for
		}
		pass, o := e.admit(g, from)
		if o.status != 0 {
			if l.tls { // who waits for a handshake would not understand a word
				nc.Close()
				e.dismiss(pass)
				continue
			}
			e.turnAway(nc, pass, o)
			continue
		}
		if proxied {
			go e.serveProxied(nc, l, pass)
			continue
		}
		c := e.newConn(nc, l.addr)
		c.gate, c.pass = pass.gate, pass
		if l.tls {
			c.secure()
			e.watchOver(c)
			go c.serveTLS()
			continue
		}
		e.watchOver(c)
		go c.serve()
	}
}

// Drain begins the end of this generation: nothing is accepted any more,
// kept connections end with their next answer or after the grace, streams
// are asked to end. Run returns when nothing is left, or at the deadline.
func (e *Edge) Drain() {
	e.drainOnce.Do(func() {
		e.mu.Lock()
		e.drainEnd = time.Now().Add(e.cfg.DrainTimeout)
		e.draining.Store(true)
		e.graceEnd.Store(e.now() + int64(e.cfg.DrainGrace))
		for addr, l := range e.listeners {
			l.shut()
			<-l.done
			delete(e.listeners, addr)
		}
		for _, i := range e.instances {
			i.part(e.cfg.DrainTimeout)
		}
		e.mu.Unlock()
		e.log.Info("draining", "connections", e.connections.Load())
		close(e.drained)
	})
}

// graceOver reports whether idle connections are to be closed.
func (e *Edge) graceOver() bool {
	end := e.graceEnd.Load()
	return end != 0 && e.now() >= end
}

// awaitEmpty returns when every connection has ended, by force at the deadline.
func (e *Edge) awaitEmpty() {
	for e.connections.Load() > 0 && time.Now().Before(e.drainEnd) {
		time.Sleep(10 * time.Millisecond)
	}
	if n := e.connections.Load(); n > 0 {
		e.log.Warn("drain deadline passed: connections are cut", "connections", n)
	}
	e.kill()
	e.tickMu.Lock()
	for c := range e.ticking {
		c.cut()
	}
	e.tickMu.Unlock()
	e.mu.Lock()
	for _, i := range e.instances {
		i.pool.shut()
		i.partNoMore()
		if i.stopProbe != nil {
			i.stopProbe()
		}
	}
	e.mu.Unlock()
}

// fullReportEvery is how often a report has the latencies of each instance,
// which are most of its bytes.
const fullReportEvery = int64(time.Second)

// sumOf adds counts of different lengths.
func sumOf(a, b []uint64) []uint64 {
	if len(a) < len(b) {
		a, b = b, a
	}
	for i, n := range b {
		a[i] += n
	}
	return a
}

// report says what is served and what is in flight.
func (e *Edge) report() gapless.EdgeReport {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := gapless.EdgeReport{
		Generation: e.cfg.Generation, Start: e.id, Made: Clock(), Version: e.state.Load().table.Version,
		Draining: e.draining.Load(), Connections: int(e.connections.Load()),
		Instances: []gapless.InstanceTraffic{}, Releases: []gapless.ReleaseTraffic{},
	}
	named, now := e.state.Load(), e.now()
	full := now-e.fullReport >= fullReportEvery
	if full {
		e.fullReport = now
	}
	for t, i := range e.instances {
		it := i.report(now)
		if full {
			it.Latency = i.latencies()
		}
		if it.InFlight == 0 && i.leaving.Load() && !named.names(t) {
			delete(e.instances, t)
			continue
		}
		if k := slices.IndexFunc(r.Instances, func(o gapless.InstanceTraffic) bool {
			return o.App == it.App && o.Instance == it.Instance
		}); k >= 0 { // the same instance at another address before
			r.Instances[k].InFlight += it.InFlight
			r.Instances[k].Upgraded += it.Upgraded
			r.Instances[k].Requests += it.Requests
			r.Instances[k].Bad += it.Bad
			r.Instances[k].Latency = sumOf(r.Instances[k].Latency, it.Latency)
			continue
		}
		r.Instances = append(r.Instances, it)
	}
	slices.SortFunc(r.Instances, func(a, b gapless.InstanceTraffic) int {
		return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Instance, b.Instance))
	})
	for _, t := range e.counts {
		r.Releases = append(r.Releases, t.report())
	}
	e.counters.age(now)
	r.Seq, r.Counters = e.counters.Report()
	r.Paced = e.pacedBy()
	r.FellBack = e.fellBack()
	r.Shed = e.shed.report()
	r.Mirrors = e.mirrorReports()
	r.TLS = e.tls.report()
	r.Logs = e.logTraffic()
	return r
}

// newStart names this process: 64 random bits in hex.
func newStart() string { return fmt.Sprintf("%016x", rand.Uint64()) }

// newID makes a request id: 128 random bits in hex.
func newID(id *[32]byte) []byte {
	h1.PutHex(id[:16], rand.Uint64())
	h1.PutHex(id[16:], rand.Uint64())
	return id[:]
}
