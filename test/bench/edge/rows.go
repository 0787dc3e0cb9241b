package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
)

// row is one kind of load.
type row struct {
	name, title string
	setup       setup
	conns       int
	limits      map[string]float64 // per proxy: most that its ratio to nginx may be; "idle": most bytes
	path        string
	large       bool
	headers     []string
	measure     func(context.Context, *bench, row) error
}

var rows []row

func init() {
	one, two := setup{workers: 1}, setup{workers: 2}
	rows = []row{
		{name: "keep-alive", title: "Kept connections, 1 KB, one worker", setup: one, measure: loaded, limits: map[string]float64{"gapless": 0.75, "gapless, unix sockets": 0.60}},
		{name: "keep-alive-2", title: "Kept connections, 1 KB, two workers, nothing pinned", setup: two, measure: loaded},
		{name: "close", title: "A connection per request, 1 KB, one worker", setup: one, measure: loaded, headers: []string{"Connection: close"}, limits: map[string]float64{"gapless": 1}},
		{name: "rate", title: "500 requests per second, open loop, one worker", setup: one, measure: paced, limits: map[string]float64{"gapless": 1}},
		{name: "1m", title: "Bodies of 1 MiB, one worker", setup: one, conns: 4, path: "1m", large: true, measure: loaded, limits: map[string]float64{"gapless": 1}},
		{name: "64m", title: "Bodies of 64 MiB, one worker", setup: one, conns: 4, path: "64m", large: true, measure: loaded, limits: map[string]float64{"gapless": 1}},
		{name: "tls", title: "Kept TLS connections, 1 KB, one worker", setup: setup{workers: 1, tls: true}, measure: loaded, limits: map[string]float64{"gapless": 1.5}},
		{name: "routes", title: "10 and 10,000 hosts and paths, one worker", setup: one, measure: routes, headers: []string{"Host: host-0.test"}, limits: map[string]float64{"gapless, 10000 routes": 1.05}},
		{name: "idle", title: "Idle kept connections, one worker", setup: one, measure: idle},
	}
}

func rowNames() (names []string) {
	for _, r := range rows {
		names = append(names, r.name)
	}
	return names
}

// starter starts a proxy; its name is what --proxies says.
type starter struct {
	name  string
	start func(*bench, context.Context, setup) (*proxy, error)
}

var starters = []starter{
	{"nginx", (*bench).startNginx}, {"haproxy", (*bench).startHaproxy}, {"caddy", (*bench).startCaddy},
	{"gapless", (*bench).startGapless}, {"unix", overUnix}, {"up", (*bench).startUp},
}

func proxyNames() (names []string) {
	for _, s := range starters {
		names = append(names, s.name)
	}
	return names
}

// wanted are the names of the proxies to measure.
func (b *bench) wanted() iter.Seq[string] {
	if b.proxies == "" {
		return slices.Values(proxyNames())
	}
	return strings.SplitSeq("nginx,"+b.proxies, ",")
}

func overUnix(b *bench, ctx context.Context, s setup) (*proxy, error) {
	s.unix = true
	return b.startGapless(ctx, s)
}

// subjects starts the proxies of a row, nginx first.
func (b *bench) subjects(ctx context.Context, r row) (list []*proxy, err error) {
	wanted := slices.Collect(b.wanted())
	for _, one := range starters {
		switch {
		case !slices.Contains(wanted, one.name),
			r.setup.tls && (one.name == "haproxy" || one.name == "caddy"),
			one.name == "up" && r.name != "keep-alive":
			continue
		}
		p, err := one.start(b, ctx, r.setup)
		if err != nil {
			b.stop(list...)
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

func (r row) url(p *proxy) string {
	scheme := "http"
	if r.setup.tls {
		scheme = "https"
	}
	return scheme + "://" + p.addr + "/" + r.path
}

// loaded measures a row with wrk.
func loaded(ctx context.Context, b *bench, r row) error {
	list, err := b.subjects(ctx, r)
	if err != nil {
		return err
	}
	defer b.stop(list...)
	return b.rate(r, list, func(p *proxy) (sample, error) {
		return b.load(ctx, r, p)
	})
}

func (b *bench) load(ctx context.Context, r row, p *proxy) (sample, error) {
	core, conns := 1, b.conns
	if r.setup.workers > 1 {
		core = -1
	}
	if r.conns > 0 {
		conns = r.conns
	}
	return b.wrk(ctx, p, core, conns, r.url(p), r.large, r.headers...)
}

// paced measures a row at a fixed rate.
func paced(ctx context.Context, b *bench, r row) error {
	list, err := b.subjects(ctx, r)
	if err != nil {
		return err
	}
	defer b.stop(list...)
	return b.rate(r, list, func(p *proxy) (sample, error) { return b.openLoop(ctx, p, 500) })
}

// routes compares gapless with few and with many routes.
func routes(ctx context.Context, b *bench, r row) error {
	var list []*proxy
	defer func() { b.stop(list...) }()
	for _, n := range []int{10, 10000} {
		s := r.setup
		s.hosts = n
		p, err := b.startGapless(ctx, s)
		if err != nil {
			return err
		}
		list = append(list, p)
	}
	return b.rate(r, list, func(p *proxy) (sample, error) { return b.load(ctx, r, p) })
}

// rate runs the rounds of a row and tells what came out; ratios are to the
// first proxy.
func (b *bench) rate(r row, list []*proxy, measure func(*proxy) (sample, error)) error {
	samples := map[*proxy][]sample{}
	order := slices.Clone(list)
	for _, p := range order { // warm
		if _, err := measure(p); err != nil {
			return err
		}
	}
	for round := range b.rounds {
		for _, p := range order {
			s, err := measure(p)
			if err != nil {
				return fmt.Errorf("round %d: %w", round+1, err)
			}
			samples[p] = append(samples[p], s)
		}
		fmt.Fprintf(os.Stderr, "%s: round %d of %d\n", r.name, round+1, b.rounds)
		slices.Reverse(order)
	}
	unit := "CPU-µs per request"
	if r.large {
		unit = "CPU-s per GB"
	}
	b.printf("\n## %s\n\n| | %s | of %s | wanted | | requests/s | p50 ms | p99 ms |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n", r.title, unit, list[0].name)
	base := samples[list[0]]
	for _, p := range list {
		var cost, ratio, rate, p50, p99 []float64
		for i, s := range samples[p] {
			cost, rate = append(cost, s.cost), append(rate, s.rate)
			p50, p99 = append(p50, s.p50), append(p99, s.p99)
			ratio = append(ratio, s.cost/base[i].cost)
		}
		wanted, verdict := "", ""
		if limit, ok := r.limits[p.name]; ok {
			wanted, verdict = fmt.Sprintf("≤ %.2f", limit), "ok"
			if median(ratio) > limit {
				verdict = "missed"
				b.missed++
			}
		}
		b.printf("| %s | %.2f | %.2f (%.2f–%.2f) | %s | %s | %.0f | %.2f | %.2f |\n", p.name, median(cost),
			median(ratio), slices.Min(ratio), slices.Max(ratio), wanted, verdict, median(rate), median(p50), median(p99))
	}
	return nil
}

// idle measures the memory of idle connections, once for each proxy.
func idle(ctx context.Context, b *bench, r row) error {
	b.printf("\n## %s\n\n| | bytes per connection | wanted | |\n| --- | --- | --- | --- |\n", r.title)
	for _, one := range starters[:4] {
		p, err := one.start(b, ctx, r.setup)
		if err != nil {
			return err
		}
		s, err := b.idleMemory(ctx, p)
		b.stop(p)
		if err != nil {
			return errors.Join(err, fmt.Errorf("idle connections of %s", p.name))
		}
		wanted, verdict := "", ""
		if p.name == "gapless" {
			wanted, verdict = "≤ 1024", "ok"
			if s.cost > 1024 {
				verdict = "missed"
				b.missed++
			}
		}
		b.printf("| %s | %.0f | %s | %s |\n", p.name, s.cost, wanted, verdict)
	}
	b.printf("\nGrowth of Pss over %d connections that made one request each; nginx has the table of its connections from the start.\n", b.idle)
	return nil
}

// configurations prints what each proxy ran with.
func (b *bench) configurations() {
	ctx := context.Background()
	b.printf("\n## Configuration\n")
	for _, one := range starters[:4] {
		p, err := one.start(b, ctx, setup{workers: 1})
		if err != nil {
			continue
		}
		b.stop(p)
		b.printf("\n%s:\n\n```\n%s```\n", p.name, strings.ReplaceAll(p.conf, b.dir, "DIR"))
	}
}
