package daemon

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"

	"gapless"
)

// traffic is what Prometheus sees of an edge, or of all of them as if they were
// one: a report at the moment of the question. Labels are names of the table:
// apps, releases and instances.
type traffic struct {
	report func(context.Context) (rep gapless.EdgeReport, edges int, err error)
	log    *slog.Logger
}

func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("gapless_"+name, help, labels, nil)
}

var (
	connections  = metric("connections", "Connections of clients that are open.")
	edges        = metric("edges", "Edge processes that live: two while one takes over from the other.")
	tableVersion = metric("table_version", "Version of the route table that is served.")
	requests     = metric("requests_total", "Requests that the coin gave to a release.", "app", "release")
	responses    = metric("responses_total", "Answers by class of status; none: no instance answered.", "app", "release", "class")
	failures     = metric("failures_total", "Requests that an instance refused, reset, did not answer in time or answered malformed.", "app", "release")
	aborted      = metric("aborted_total", "Requests that the client did not wait for.", "app", "release")
	retried      = metric("retried_total", "Requests that were given to another instance.", "app", "release")
	held         = metric("held_total", "Requests that waited because no instance was ready.", "app", "release")
	latency      = metric("response_seconds", "Time to the head of the answer, without the time that the request was held.", "app", "release")
	inFlight     = metric("in_flight_requests", "Requests and upgraded connections under way.", "app", "instance")
	upgraded     = metric("upgraded_connections", "WebSockets and other upgraded connections that are open.", "app", "instance")
	healthy      = metric("instance_healthy", "1 while the probes of an instance succeed.", "app", "instance")
	byInstance   = metric("instance_requests_total", "Requests that an instance was given.", "app", "instance")
	logged       = metric("access_log_lines_total", "Lines of the access log.", "app")
	notLogged    = metric("access_log_dropped_lines_total", "Lines of the access log that were dropped, because the disk was full or too slow.", "app")
	spent        = metric("retries_refused_total", "Requests that were not given to another instance because too many were.", "app", "release")
	over         = metric("over_limit_total", "Requests that came when the release had as many in flight as it may.", "app", "release")
	ejections    = metric("ejections_total", "Times that an instance was left alone because requests did not get through to it.", "app", "instance")
	ejected      = metric("instance_ejected", "1 while an instance is left alone for that.", "app", "instance")
	copies       = metric("mirror_copies_total", "Copies of requests by what became of them.", "app", "release", "result")
	compared     = metric("mirror_compared_total", "Answers to copies that were compared with those of stable.", "app", "release")
	different    = metric("mirror_different_total", "Of these those that differed, by chance or not, and copies that failed.", "app", "release")
	shed         = metric("shed_total", "What was refused so that the edge is protected.", "what")
	resumed      = metric("tls_resumed_total", "TLS handshakes that went on with an earlier session.")
	handshakes   = metric("tls_handshakes_total", "TLS handshakes by how they ended.", "result")
)

// Describe implements prometheus.Collector: what there is depends on the table.
func (t *traffic) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (t *traffic) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	r, live, err := t.report(ctx)
	if err != nil {
		t.log.Warn("no metrics: the edge sends no report", "error", err)
		ch <- prometheus.NewInvalidMetric(requests, err)
		return
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(edges, float64(live))
	gauge(connections, float64(r.Connections))
	gauge(tableVersion, float64(r.Version))
	for _, x := range r.Releases {
		count(requests, x.Requests, x.App, x.Release)
		for class, n := range x.Status {
			name := "none"
			if class > 0 {
				name = strconv.Itoa(class) + "xx"
			}
			count(responses, n, x.App, x.Release, name)
		}
		count(failures, x.Failed, x.App, x.Release)
		count(aborted, x.Aborted, x.App, x.Release)
		count(retried, x.Retried, x.App, x.Release)
		count(held, x.Held, x.App, x.Release)
		count(spent, x.Spent, x.App, x.Release)
		count(over, x.Over, x.App, x.Release)
		n, sum, buckets := histogram(x.Latency)
		ch <- prometheus.MustNewConstHistogram(latency, n, sum, buckets, x.App, x.Release)
	}
	for _, i := range r.Instances {
		gauge(inFlight, float64(i.InFlight), i.App, i.Instance)
		gauge(upgraded, float64(i.Upgraded), i.App, i.Instance)
		up := 0.0
		if i.Healthy {
			up = 1
		}
		gauge(healthy, up, i.App, i.Instance)
		count(byInstance, i.Requests, i.App, i.Instance)
		count(ejections, i.Ejections, i.App, i.Instance)
		out := 0.0
		if i.Ejected > 0 {
			out = 1
		}
		gauge(ejected, out, i.App, i.Instance)
	}
	for _, l := range r.Logs {
		count(logged, l.Lines, l.App)
		count(notLogged, l.Dropped, l.App)
	}
	if h := r.TLS; h != nil {
		count(handshakes, h.Handshakes, "ok")
		count(handshakes, h.Failed, "failed")
		count(handshakes, h.Shed, "shed")
		count(resumed, h.Resumed)
	}
	for _, m := range r.Mirrors {
		count(copies, m.Answered, m.App, m.Release, "answered")
		count(copies, m.Failed, m.App, m.Release, "failed")
		count(copies, m.Dropped, m.App, m.Release, "dropped")
		count(compared, m.Compared, m.App, m.Release)
		count(different, m.Different, m.App, m.Release)
	}
	count(shed, r.Shed.Connections, "connections")
	count(shed, r.Shed.Requests, "requests")
	count(shed, r.Shed.Overload, "overload")
	count(shed, r.Shed.Holds, "holds")
}

// histogram is the edge's latency counts in buckets of powers of two, from
// 64 µs to 67 s. The sum takes the start of each fine bucket, at most a
// quarter too little.
func histogram(counts []uint64) (n uint64, sum float64, buckets map[float64]uint64) {
	buckets = map[float64]uint64{}
	next := uint64(64)
	for b, c := range counts {
		start := gapless.LatencyBucketStart(b)
		for next <= start && next <= 1<<26 {
			buckets[float64(next)/1e6] = n
			next *= 2
		}
		n += c
		sum += float64(c) * float64(start) / 1e6
	}
	for ; next <= 1<<26; next *= 2 {
		buckets[float64(next)/1e6] = n
	}
	return n, sum, buckets
}

func (t *traffic) gatherer() prometheus.Gatherer {
	registry := prometheus.NewRegistry()
	registry.MustRegister(t)
	return registry
}

// text is all of it in the format that Prometheus reads.
func (t *traffic) text() (string, error) {
	families, err := t.gatherer().Gather()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	enc := expfmt.NewEncoder(&b, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

// Metrics implements api.Service.
func (d *Daemon) Metrics(context.Context) (string, error) {
	t := &traffic{log: d.log, report: func(ctx context.Context) (gapless.EdgeReport, int, error) {
		live := d.router.reports(ctx)
		sum := d.router.totals.sum(live, d.router.present())
		d.router.totals.save(d.log)
		return sum, len(live), nil
	}}
	return t.text()
}

// serveMetrics answers /metrics on an address until ctx ends.
func serveMetrics(ctx context.Context, l net.Listener, t *traffic) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(t.gatherer(), promhttp.HandlerOpts{}))
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(t.log.Handler(), slog.LevelDebug)}
	context.AfterFunc(ctx, func() { _ = s.Close() })
	_ = s.Serve(l)
}
