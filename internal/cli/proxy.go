package cli

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/config"
	"gapless/internal/daemon"
)

// proxyFlags are what a person says about an edge alone.
type proxyFlags struct {
	listen, to, weights, hosts []string
	path, health, table        string
	maxBody                    string
	hold                       time.Duration
	accessLog, accessSize      string
	metrics                    string
	access                     gapless.AccessLog
	proxy                      daemon.Proxy
}

func (c *command) proxy() *cobra.Command {
	var f proxyFlags
	var show bool
	cmd := &cobra.Command{
		Use:   "proxy",
		Short: "Run the edge alone, in front of servers that gapless does not start",
		Long: `Run the edge alone in the foreground: an HTTP proxy in front of servers that
something else starts. It needs no app, no daemon and no state. SIGTERM and
Ctrl-C let what is in flight end; a second Ctrl-C does not wait.

A server is ADDRESS or RELEASE=ADDRESS, where ADDRESS is host:port, a port of
this machine, or unix:/path, with h2c:, h2: or https: before it where the server
speaks HTTP/2 without TLS (gRPC), HTTP/2 with it, or HTTP/1.1 with it. Requests go to the releases by --weight, an
independent coin for each; what no weight names is the share of the first
release. Inside a release the server with the least in flight is taken.`,
		Example: `  gapless proxy --listen 127.0.0.1:8080 --to 127.0.0.1:9001 --to unix:/run/app.sock
  gapless proxy --to v1=127.0.0.1:9001 --to v2=127.0.0.1:9002 --weight v2=10%
  gapless proxy --table routes.json --print-config`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.read(cmd); err != nil {
				return err
			}
			if show {
				return c.term.json(f.proxy.InForce())
			}
			return c.runProxy(cmd.Context(), f.proxy)
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVarP(&f.listen, "listen", "l", []string{"127.0.0.1:8080"}, "accept connections on this `address`; may be repeated")
	fl.StringArrayVar(&f.to, "to", nil, "a server, as `[RELEASE=]ADDRESS`; may be repeated")
	fl.StringArrayVar(&f.weights, "weight", nil, "share of the requests of a release, as `RELEASE=10%`; may be repeated")
	fl.StringArrayVar(&f.hosts, "host", nil, "serve this host `name` only; may be repeated")
	fl.StringVar(&f.path, "path", "/", "serve paths below this `prefix` only")
	fl.StringVar(&f.health, "health", "", "probe servers with this `path`; without it an accepted connection is enough")
	fl.DurationVar(&f.hold, "hold", 5*time.Second, "longest wait of a request while no server is ready")
	fl.StringVar(&f.accessLog, "access-log", "", "write a line for each request to this `file`; -: to stdout")
	fl.StringVar(&f.access.Format, "access-format", gapless.AccessJSON, "json, common or combined")
	fl.BoolVar(&f.access.Query, "access-query", false, "write queries, too")
	fl.StringVar(&f.accessSize, "access-max-size", "100M", "size at which the access log is rotated; 0: never")
	fl.IntVar(&f.access.Keep, "access-keep", 5, "rotated access logs that are kept")
	fl.StringVar(&f.metrics, "metrics", "", "answer /metrics for Prometheus on this `address`, without a token; a port alone is one of 127.0.0.1")
	fl.StringVar(&f.table, "table", "", "serve the routes in this `file`, which is what --print-config prints as table, instead")
	fl.IntVar(&f.proxy.Edge.Loops, "workers", 0, "threads that serve plain HTTP/1.1 on Linux; 0: half as many as processors; -1: none, a goroutine serves each connection")
	fl.IntVar(&f.proxy.Edge.MaxConnections, "max-connections", 0, "connections of clients at once (default 50000)")
	fl.StringVar(&f.maxBody, "max-body", "", "largest request body, as in 20M (default no limit)")
	fl.DurationVar(&f.proxy.Edge.DrainTimeout, "drain", 30*time.Second, "longest wait for requests in flight at the end")
	fl.BoolVar(&show, "print-config", false, "print the configuration in force, with all defaults, and end")
	return cmd
}

// read makes the proxy of the flags.
func (f *proxyFlags) read(cmd *cobra.Command) error {
	if f.proxy.Edge.Loops < -1 || f.proxy.Edge.Loops > 1024 {
		return gapless.Errorf(gapless.Invalid, "--workers %d is not between -1 and 1024", f.proxy.Edge.Loops)
	}
	if f.proxy.Edge.MaxConnections < 0 {
		return gapless.Errorf(gapless.Invalid, "--max-connections %d is negative", f.proxy.Edge.MaxConnections)
	}
	for name, d := range map[string]time.Duration{"hold": f.hold, "drain": f.proxy.Edge.DrainTimeout} {
		if d < 0 {
			return gapless.Errorf(gapless.Invalid, "--%s %s is negative", name, d)
		}
	}
	if f.maxBody != "" {
		n, err := config.Size(f.maxBody)
		if err != nil {
			return ofFlag("max-body", err)
		}
		f.proxy.Edge.MaxBody = n
	}
	if f.metrics != "" {
		addr, err := config.Listen(nearby(f.metrics))
		if err != nil {
			return ofFlag("metrics", err)
		}
		f.proxy.Metrics = addr
	}
	if f.table != "" {
		for _, name := range []string{"listen", "to", "weight", "host", "path", "health", "hold", "access-log"} {
			if cmd.Flags().Changed(name) {
				return gapless.Errorf(gapless.Invalid, "--table and --%s say the same thing twice", name).
					WithHint("write it into %s, or leave --table out", f.table)
			}
		}
		t, err := daemon.ReadTable(f.table)
		f.proxy.Table = t
		return err
	}
	r, err := f.route()
	if err != nil {
		return err
	}
	f.proxy.Table = gapless.Table{Version: 1, Routes: []gapless.Route{r}}
	return f.proxy.Table.Validate()
}

// route is the one route that flags can say.
func (f *proxyFlags) route() (gapless.Route, error) {
	r := gapless.Route{App: "proxy", Path: f.path, Hold: gapless.Duration(f.hold), Probe: gapless.Health{
		Path: f.health, Interval: gapless.Duration(2 * time.Second), Timeout: gapless.Duration(2 * time.Second)}}
	for _, s := range f.listen {
		addr, err := config.Listen(s)
		if err != nil {
			return r, ofFlag("listen", err)
		}
		if slices.Contains(r.Listen, addr) {
			return r, gapless.Errorf(gapless.Invalid, "--listen %s is given twice", s)
		}
		r.Listen = append(r.Listen, addr)
	}
	for _, s := range f.hosts {
		name, err := config.Host(s)
		if err != nil {
			return r, ofFlag("host", err)
		}
		r.Hosts = append(r.Hosts, name)
	}
	if err := config.Path(f.path); err != nil {
		return r, ofFlag("path", err)
	}
	if f.health != "" {
		if err := config.Path(f.health); err != nil {
			return r, ofFlag("health", err)
		}
	}
	if f.accessLog != "" {
		l, err := f.log()
		if err != nil {
			return r, err
		}
		r.AccessLog = &l
	}
	if len(f.to) == 0 {
		return r, gapless.Errorf(gapless.Invalid, "no server was given").WithHint("write --to 127.0.0.1:9001")
	}
	var releases []string
	for _, s := range f.to {
		t, err := server(s)
		if err != nil {
			return r, err
		}
		for _, o := range r.Targets {
			if o.Address == t.Address {
				return r, gapless.Errorf(gapless.Invalid, "server %s is given twice", t.Address)
			}
		}
		if !slices.Contains(releases, t.Release) {
			releases = append(releases, t.Release)
		}
		r.Targets = append(r.Targets, t)
	}
	r.Stable = releases[0]
	weights, err := f.shares(releases)
	r.Weights = weights
	return r, err
}

// log is the access log that flags ask for.
func (f *proxyFlags) log() (gapless.AccessLog, error) {
	l := f.access
	size, err := config.Size(f.accessSize)
	if err != nil {
		return l, ofFlag("access-max-size", err)
	}
	l.MaxSize = size
	if l.Path = f.accessLog; l.Path == "-" {
		l.Path = "/dev/stdout"
	}
	if l.Path, err = filepath.Abs(l.Path); err != nil {
		return l, gapless.Errorf(gapless.Invalid, "--access-log %s: %w", f.accessLog, err)
	}
	if info, err := os.Stat(filepath.Dir(l.Path)); err != nil || !info.IsDir() {
		return l, gapless.Errorf(gapless.Invalid, "--access-log %s: there is no such directory", f.accessLog)
	}
	if err := l.Validate(); err != nil {
		return l, ofFlag("access-format", err)
	}
	return l, nil
}

// shares are the weights of the releases: what is left is the first one's.
func (f *proxyFlags) shares(releases []string) ([]gapless.Weight, error) {
	given := map[string]float64{}
	sum := 0.0
	for _, s := range f.weights {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			return nil, gapless.Errorf(gapless.Invalid, "--weight %s names no release", s).WithHint("write --weight v2=10%%")
		}
		if !slices.Contains(releases, name) {
			return nil, gapless.Errorf(gapless.Invalid, "--weight %s: no server is of release %s", s, name).
				WithHint("known: %s; write --to %s=ADDRESS", strings.Join(releases, ", "), name)
		}
		if _, twice := given[name]; twice {
			return nil, gapless.Errorf(gapless.Invalid, "--weight of %s is given twice", name)
		}
		share, err := config.Share(value)
		if err != nil {
			return nil, ofFlag("weight", err)
		}
		given[name] = share
		sum += share
	}
	rest, stated := given[releases[0]]
	switch {
	case stated && (sum < 1-1e-9 || sum > 1+1e-9):
		return nil, gapless.Errorf(gapless.Invalid, "the weights sum to %s, not 100 %%", gapless.Percent(sum)).
			WithHint("leave out the weight of %s: it gets what is left", releases[0])
	case !stated && sum > 1:
		return nil, gapless.Errorf(gapless.Invalid, "the weights sum to %s, more than all", gapless.Percent(sum))
	case !stated:
		rest = 1 - sum
	}
	list := []gapless.Weight{{Release: releases[0], Share: rest}}
	for _, name := range releases[1:] {
		list = append(list, gapless.Weight{Release: name, Share: given[name]})
	}
	return list, nil
}

var (
	releaseForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,62}$`)
	portForm    = regexp.MustCompile(`^:?[0-9]+$`)
)

// server reads [RELEASE=][PROTOCOL:]ADDRESS.
func server(s string) (gapless.Target, error) {
	name, address, named := strings.Cut(s, "=")
	if named = named && releaseForm.MatchString(name); !named {
		address = s
	}
	protocol, rest, ok := strings.Cut(address, ":")
	if ok = ok && (protocol == gapless.ProtocolH2C || protocol == gapless.ProtocolHTTPS || protocol == gapless.ProtocolH2) && !strings.HasPrefix(rest, "//"); !ok {
		return plainServer(s)
	}
	if named {
		rest = name + "=" + rest
	}
	t, err := plainServer(rest)
	t.Address = protocol + ":" + t.Address
	t.Instance = t.Address
	return t, err
}

func plainServer(s string) (gapless.Target, error) {
	const forms = "write --to 127.0.0.1:9001, --to unix:/run/app.sock, or --to v2=ADDRESS; h2c:, h2: or https: before the address where it does not speak HTTP/1.1"
	t := gapless.Target{Release: "v1", Address: s}
	if name, address, ok := strings.Cut(s, "="); ok && releaseForm.MatchString(name) {
		t.Release, t.Address = name, address
	}
	wrong := func(why string) (gapless.Target, error) {
		return t, gapless.Errorf(gapless.Invalid, "--to %s: %s", s, why).WithHint(forms)
	}
	if path, ok := strings.CutPrefix(t.Address, "unix:"); ok {
		if !filepath.IsAbs(path) {
			return wrong("a unix socket is named by its absolute path")
		}
		if len(path) > 107 {
			return wrong("the path of a unix socket has at most 107 bytes")
		}
		t.Instance = t.Address
		return t, nil
	}
	if strings.Contains(t.Address, "://") {
		return wrong("an address has no scheme")
	}
	if portForm.MatchString(t.Address) {
		t.Address = "127.0.0.1:" + strings.TrimPrefix(t.Address, ":")
	}
	host, port, err := net.SplitHostPort(t.Address)
	if n, perr := strconv.Atoi(port); err != nil || host == "" || perr != nil || n < 1 || n > 65535 {
		return wrong("that is not an address")
	}
	t.Instance = t.Address
	return t, nil
}

// ofFlag says which flag an error is about.
func ofFlag(name string, err error) error {
	return gapless.Errorf(gapless.CodeOf(err), "--%s: %w", name, err).WithHint("%s", cmp.Or(gapless.HintOf(err), "see: gapless proxy --help"))
}

// runProxy serves until ctx ends.
func (c *command) runProxy(ctx context.Context, p daemon.Proxy) error {
	idleMemory()
	// The first signal drains; the next one finds nobody who waits for it.
	defer context.AfterFunc(ctx, func() { signal.Reset(interrupts()...) })()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	return p.Run(ctx, log, func(addrs []string) {
		if c.json {
			state := p.InForce()
			state["serving"] = addrs
			_ = c.term.jsonLine(state)
			return
		}
		for _, r := range p.Table.Routes[:min(len(p.Table.Routes), 20)] {
			c.term.sayf("%s", routeLine(r))
		}
		c.term.answerf("serving %s", strings.Join(addrs, ", "))
	})
}

// routeLine is a route for people: where requests come from and go to.
func routeLine(r gapless.Route) string {
	what := strings.Join(r.Listen, ", ")
	if len(r.Hosts) > 0 {
		what += " " + strings.Join(r.Hosts[:min(len(r.Hosts), 5)], ", ")
	}
	if r.Path != "/" {
		what += " " + r.Path
	}
	var to []string
	for _, w := range r.Weights {
		var servers []string
		for _, t := range r.Targets {
			if t.Release == w.Release {
				servers = append(servers, t.Address)
			}
		}
		to = append(to, w.Release+" "+gapless.Percent(w.Share)+" ("+strings.Join(servers, ", ")+")")
	}
	return what + " → " + strings.Join(to, ", ")
}

// nearby is an address that means this machine alone where it says no other:
// whoever answers there asks for no token. ":9100" says every interface.
func nearby(addr string) string {
	if _, err := strconv.ParseUint(addr, 10, 16); err == nil {
		return "127.0.0.1:" + addr
	}
	return addr
}
