package supervise

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"gapless"
)

// readiness is the question whether one web process can be given requests:
// a listener of its own process tree accepts on the port it was given, and
// the probe succeeded twice in a row. Without a path, accepting is enough.
type readiness struct {
	pid     int
	port    int
	socket  string // path, instead of a port
	handed  bool   // the socket was there before the process: only an answer says that it accepts
	health  gapless.Health
	h2c     bool   // it speaks HTTP/2 from the first byte
	host    string // Host header of the probe; "" is the address
	timeout time.Duration
}

// fault is a reason why a process is not ready. It may pass: it is told to
// people when it has held for publish, and is final when it has held for fail
// (0: never before the timeout).
type fault struct {
	why
	publish, fail time.Duration
	confirm       func(context.Context) bool // asked once more before it is final
}

// wait asks until the process is ready (address set), a fault is final or the
// timeout is over (address ""); report hears of faults that have held. When ctx
// ends it returns nothing.
func (r readiness) wait(ctx context.Context, report func(why)) (address string, w why) {
	begin := time.Now()
	deadline := begin.Add(r.timeout)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()

	current, since, published := r.nowhere(), begin, false
	surveyed := begin
	good := 0
	for look := 0; ; look++ {
		f, found := fault{}, false
		// Few programs listen on the IPv6 loopback only: that is tried less often.
		conn, stolen := r.connect(ctx, good > 0, look%4 == 0 || good > 0)
		if conn == nil {
			good = 0
		}
		switch {
		case stolen != nil:
			f, found = *stolen, true
		case conn != nil && r.health.Path == "" && !r.handed:
			conn.Close()
			return addressOf(conn), why{}
		case conn != nil:
			if f, found = r.probe(ctx, conn); found {
				good = 0
			} else if good++; good >= orDefault(r.health.Healthy, 2) || r.health.Path == "" {
				return addressOf(conn), why{}
			}
		case time.Since(surveyed) > surveyEvery:
			surveyed = time.Now()
			if s, err := surveyTree(r.pid); err == nil {
				f, found = r.notOnPort(s), true
			}
		}
		if found && ctx.Err() == nil && f.reason != current.reason {
			current, since, published = f, time.Now(), false
		}
		held := time.Since(since)
		switch {
		case ctx.Err() != nil && time.Now().Before(deadline):
			return "", why{} // somebody else ended it
		case ctx.Err() != nil:
			return "", why{fmt.Sprintf("not ready within %s: %s", short(r.timeout), current.reason), current.hint}
		case current.fail > 0 && held >= current.fail:
			if current.confirm == nil || current.confirm(ctx) {
				return "", current.why
			}
			current.fail += 2 * time.Second
		case !published && held >= current.publish && good == 0:
			published = true
			report(current.why)
		}
		if good == 0 {
			pause(ctx, pollEvery(time.Since(begin)))
		} else {
			pause(ctx, 5*time.Millisecond)
		}
	}
}

// surveyEvery is the time between two looks at where a process listens that
// does not listen on its port; such a look reads the whole process table.
const surveyEvery = 500 * time.Millisecond

// pollEvery is the time between two looks at a process of this age: most apps
// start within a second and should not wait; the slow ones should cost little.
func pollEvery(age time.Duration) time.Duration {
	switch {
	case age < 2*time.Second:
		return 15 * time.Millisecond
	case age < 10*time.Second:
		return 100 * time.Millisecond
	}
	return 250 * time.Millisecond
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// connect returns a connection to the process on its port and a loopback
// address, nil if none is accepted, and a fault if it is accepted by a
// listener that is not the process's own. owned says that this was looked at.
func (r readiness) connect(ctx context.Context, owned, ipv6 bool) (conn net.Conn, stolen *fault) {
	if r.socket != "" {
		return r.connectSocket(ctx, owned)
	}
	for _, ip := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
		if ip.Is6() && !ipv6 {
			continue
		}
		addr := netip.AddrPortFrom(ip, uint16(r.port))
		d := net.Dialer{Timeout: time.Second}
		conn, err := d.DialContext(ctx, "tcp", addr.String())
		if err != nil {
			continue
		}
		if owned {
			return conn, nil
		}
		s, err := surveyTree(r.pid)
		if errors.Is(err, errors.ErrUnsupported) || err == nil && (!s.complete || reachable(s.own, addr)) {
			return conn, nil
		}
		conn.Close()
		if err == nil {
			stolen = r.stolen(s)
		}
	}
	return nil, stolen
}

// reachable reports whether one of the listeners accepts connections to addr.
func reachable(listeners []netip.AddrPort, addr netip.AddrPort) bool {
	return slices.ContainsFunc(listeners, func(l netip.AddrPort) bool {
		ip := l.Addr()
		return l.Port() == addr.Port() &&
			(ip == addr.Addr() || ip.IsUnspecified() && (ip.Is6() || addr.Addr().Is4()))
	})
}

func (r readiness) stolen(s survey) *fault {
	who := "another program"
	if h := holder(s.others[r.port]); h != "" {
		who += " (" + h + ")"
	}
	return &fault{publish: time.Second, fail: 2 * time.Second, why: why{
		fmt.Sprintf("%s holds port %d", who, r.port),
		"the next start gets another port; if it is this app's own process, it must not leave the process tree of its instance",
	}}
}

func (r readiness) nowhere() fault {
	if r.handed {
		return fault{publish: 10 * time.Second, why: notAccepted}
	}
	if r.socket != "" {
		return fault{publish: 10 * time.Second, why: why{"does not listen on the unix socket that it was given in PORT: " + r.socket, asNumber}}
	}
	return fault{publish: 10 * time.Second, why: why{
		fmt.Sprintf("listens on no port, and was given port %d in PORT", r.port),
		"listen on process.env.PORT; a process that serves no HTTP belongs under processes: in gapless.yaml",
	}}
}

// inspector is the port of Node's debugger.
const inspector = 9229

// notOnPort explains, from where the process does listen, why nothing accepts
// on its port.
func (r readiness) notOnPort(s survey) fault {
	if r.socket != "" {
		return r.notOnSocket(s)
	}
	var elsewhere []netip.AddrPort // on another port
	var hidden []string            // on the right port
	for _, l := range s.own {
		switch {
		case int(l.Port()) == r.port:
			hidden = append(hidden, l.String())
		case l.Port() != inspector || !l.Addr().IsLoopback():
			elsewhere = append(elsewhere, l)
		}
	}
	switch {
	case len(hidden) > 0:
		return fault{publish: time.Second, fail: 5 * time.Second, why: why{
			"listens on " + strings.Join(hidden, " and ") + " only, where gapless does not reach it",
			"listen on 127.0.0.1 or on every address (0.0.0.0 or ::)",
		}}
	case len(elsewhere) > 0:
		ports := map[string]bool{}
		var names []string
		for _, l := range elsewhere {
			if p := fmt.Sprint(l.Port()); !ports[p] {
				ports[p] = true
				names = append(names, p)
			}
		}
		slices.Sort(names)
		return fault{publish: 3 * time.Second, fail: 5 * time.Second,
			why: why{
				fmt.Sprintf("listens on %s, but was given port %d in PORT", strings.Join(names, " and "), r.port),
				"listen on process.env.PORT, or write the port into run: e.g. `run: node server.js --port $PORT`",
			},
			// It may be a metrics or debug port that opens before the real one. It
			// is the app itself if it answers there as the app should.
			confirm: func(ctx context.Context) bool { return r.serves(ctx, elsewhere) },
		}
	}
	return r.nowhere()
}

// serves reports whether one of the listeners answers like the app.
func (r readiness) serves(ctx context.Context, at []netip.AddrPort) bool {
	r.health.Path = orDefault(r.health.Path, "/")
	for _, l := range at {
		ip := l.Addr()
		if ip.IsUnspecified() {
			ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		d := net.Dialer{Timeout: time.Second}
		conn, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(ip, l.Port()).String())
		if err != nil {
			continue
		}
		status, err := r.get(ctx, conn)
		if err == nil && status != http.StatusNotFound && status < 500 {
			return true
		}
	}
	return false
}

// probe asks the health path once, or without one for any answer.
func (r readiness) probe(ctx context.Context, conn net.Conn) (f fault, failed bool) {
	anything := r.health.Path == ""
	r.health.Path = orDefault(r.health.Path, "/")
	status, err := r.get(ctx, conn)
	if err == nil && (anything || status >= 200 && status < 400) {
		return fault{}, false
	}
	w := why{reason: fmt.Sprintf("GET %s answered %d", r.health.Path, status)}
	late := errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
	switch {
	case late && r.handed:
		return r.notTaken(), true
	case late:
		w.reason = fmt.Sprintf("GET %s did not answer within %s", r.health.Path, short(r.probeTimeout()))
		w.hint = "the program accepts connections but does not answer: see its log, or raise health.timeout"
	case err != nil:
		w.reason = fmt.Sprintf("GET %s got no HTTP answer", r.health.Path)
		w.hint = "the port must speak plain HTTP, not https; see the log"
		if r.h2c {
			w.hint = "protocol is h2c: the port must speak HTTP/2 without TLS from the first byte; see the log"
		}
	case status == http.StatusNotFound:
		w.hint = "set health.path in gapless.yaml to a path that answers 200, or remove it"
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		w.hint = "the health path must answer without a login"
	case status < 500:
		w.hint = "the health path must answer 2xx or 3xx to a plain GET"
	default:
		w.hint = "the program starts but says it is not well: see its log"
	}
	return fault{why: w, publish: time.Second}, true
}

func (r readiness) probeTimeout() time.Duration {
	return orDefault(r.health.Timeout.Std(), 2*time.Second)
}

// get asks once on conn, which it closes, and returns the status of the
// answer. It speaks by itself what a transport would: one request, one head.
func (r readiness) get(ctx context.Context, conn net.Conn) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.probeTimeout())
	defer cancel()
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.asked(conn)+r.health.Path, nil)
	if err != nil {
		return 0, fmt.Errorf("make the probe of %s: %w", r.health.Path, err)
	}
	req.Host = orDefault(r.host, req.Host)
	req.Close = true
	req.Header.Set("User-Agent", "gapless-probe")
	if r.h2c {
		return getHTTP2(req, conn)
	}
	if err := req.Write(conn); err != nil {
		return 0, fmt.Errorf("probe %s: %w", r.health.Path, err)
	}
	for in := bufio.NewReader(conn); ; {
		res, err := http.ReadResponse(in, req)
		if err != nil {
			return 0, fmt.Errorf("probe %s: %w", r.health.Path, err)
		}
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			return res.StatusCode, nil
		}
	}
}

// getHTTP2 is get for a process that speaks HTTP/2 from the first byte.
func getHTTP2(req *http.Request, conn net.Conn) (int, error) {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	req.Close = false
	tr := &http.Transport{Protocols: &p, DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	defer tr.CloseIdleConnections()
	res, err := tr.RoundTrip(req)
	if err != nil {
		return 0, fmt.Errorf("probe %s by HTTP/2: %w", req.URL.Path, err)
	}
	res.Body.Close()
	return res.StatusCode, nil
}

// asked is the host of a probe without a host name.
func (r readiness) asked(conn net.Conn) string {
	if r.socket != "" {
		return "localhost"
	}
	return conn.RemoteAddr().String()
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
