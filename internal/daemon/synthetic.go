package daemon

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"gapless"
)

// syntheticTimeout is the longest wait for one answer.
const syntheticTimeout = 10 * time.Second

// synthesize makes requests to an app while a candidate of it is judged, where
// it asks for them, until ctx ends. They come to the app's own listener as
// those of users do, so that the coin gives them to one of both releases, and
// are evidence like all others. Their answers are read and forgotten.
func (d *Daemon) synthesize(ctx context.Context, a *app) {
	tick := time.NewTimer(0)
	defer tick.Stop()
	var client *http.Client
	var at string // where it goes
	places := make(chan struct{}, mostSynthetic)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		spec := d.synthetic(a)
		if spec == nil {
			client = nil
			tick.Reset(time.Second)
			continue
		}
		tick.Reset(time.Second / time.Duration(spec.Judge.Synthetic.Rate()))
		if addr, _ := syntheticAddress(spec); client == nil || at != addr { // another candidate, too
			client, at = syntheticClient(spec), addr
		}
		select {
		case places <- struct{}{}:
			c := client
			d.work.Go(func() {
				defer func() { <-places }()
				askOnce(ctx, c, spec)
			})
		default: // as many as may be wait for their answers
		}
	}
}

// mostSynthetic is how many of an app's synthetic requests are under way at most.
const mostSynthetic = 50

// synthetic is the candidate's configuration while it is judged at a share of
// the traffic and asks for synthetic requests; else nil.
func (d *Daemon) synthetic(a *app) *gapless.App {
	to := a.runner.State().Judged()
	if to == "" {
		return nil
	}
	rel, err := d.release(a.name, to)
	if err != nil || rel.Spec.Judge.Synthetic.Path == "" || len(rel.Spec.Listen) == 0 {
		return nil
	}
	return &rel.Spec
}

// syntheticClient reaches the app at its first address, on this machine.
func syntheticClient(spec *gapless.App) *http.Client {
	dialer := &net.Dialer{Timeout: syntheticTimeout}
	addr, _ := syntheticAddress(spec)
	if strings.HasPrefix(addr, ":") {
		addr = "127.0.0.1" + addr
	}
	return &http.Client{
		Timeout: syntheticTimeout,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, addr)
			},
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // it is our own listener, by its address
			IdleConnTimeout: syntheticTimeout,                      // nobody closes them when the candidate is judged
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// syntheticAddress is an address of the app: one that speaks https if there is
// one, as plain ones may only redirect to it.
func syntheticAddress(spec *gapless.App) (addr string, secure bool) {
	for _, l := range spec.Listen {
		if spec.TLS.Secures(l) {
			return l, true
		}
	}
	return spec.Listen[0], false
}

// askOnce makes one request. That it fails is the edge's to count.
func askOnce(ctx context.Context, client *http.Client, spec *gapless.App) {
	scheme, host := "http", "localhost"
	if _, secure := syntheticAddress(spec); secure {
		scheme = "https"
	}
	if len(spec.Hosts) > 0 {
		host = strings.Replace(spec.Hosts[0], "*", "synthetic", 1)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+host+spec.Judge.Synthetic.Path, nil)
	if err != nil {
		return
	}
	req.Header.Set(gapless.SyntheticHeader, "1")
	resp, err := client.Do(req)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	resp.Body.Close()
}
