package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"time"

	"gapless"
	"gapless/internal/edge"
	"gapless/internal/keeper"
)

// Proxy is an edge alone: no keeper, no daemon, no app. It serves one table
// until it is told to end.
type Proxy struct {
	Table   gapless.Table
	Metrics string      // address of /metrics; "": none
	Edge    edge.Config // Socket, Host and Log are set by Run
}

// InForce is the whole configuration that p runs with, defaults included, for
// people and for JSON.
func (p Proxy) InForce() map[string]any {
	return map[string]any{"metrics": p.Metrics, "table": p.Table, "edge": settings(p.Edge.InForce())}
}

// settings are the fields of a configuration that a person can read.
func settings(cfg any) map[string]any {
	out := map[string]any{}
	v := reflect.ValueOf(cfg)
	for i := range v.NumField() {
		switch x := v.Field(i).Interface().(type) {
		case time.Duration:
			out[v.Type().Field(i).Name] = gapless.Duration(x)
		case int, int64, bool, string:
			out[v.Type().Field(i).Name] = x
		}
	}
	delete(out, "Generation")
	delete(out, "Socket")
	return out
}

// Run serves until ctx ends, then it drains. serving is called once every
// address is served, with the addresses as they really are. What cannot be
// listened on or served is an error, and nothing is left behind.
func (p Proxy) Run(ctx context.Context, log *slog.Logger, serving func(addrs []string)) error {
	if err := p.Table.Validate(); err != nil {
		return err
	}
	if err := resolve(ctx, p.Table, net.DefaultResolver.LookupHost, log); err != nil {
		return err
	}
	host := &proxyHost{listeners: map[string]net.Listener{}}
	defer host.close()
	var addrs []string
	for _, r := range p.Table.Routes {
		for _, addr := range r.Listen {
			bound, err := host.open(addr)
			if err != nil {
				return err
			}
			if bound != "" {
				addrs = append(addrs, bound)
			}
		}
	}
	var metrics net.Listener
	if p.Metrics != "" {
		l, err := keeper.Listen(p.Metrics)
		if err != nil {
			return err
		}
		defer l.Close()
		metrics = l
	}
	dir, err := os.MkdirTemp("", "gapless-proxy")
	if err != nil {
		return gapless.Errorf(gapless.Unavailable, "make a directory for the control socket: %w", err).
			WithHint("set TMPDIR to a directory that can be written")
	}
	defer os.RemoveAll(dir)

	cfg := p.Edge
	cfg.Generation, cfg.Socket, cfg.Host, cfg.Log = 1, filepath.Join(dir, "edge.sock"), host, log
	if cfg.DrainGrace == 0 {
		cfg.DrainGrace = time.Nanosecond // nobody takes over: idle connections need not wait
	}
	life, end := context.WithCancel(context.Background())
	defer end()
	ended := make(chan error, 1)
	go func() { ended <- edge.Run(life, cfg) }()
	control, err := host.serve(ctx, cfg.Socket, p.Table, ended)
	if err != nil {
		end()
		return err
	}
	defer func() { _ = control.Close() }()
	if metrics != nil {
		go serveMetrics(life, metrics, &traffic{report: func(ctx context.Context) (gapless.EdgeReport, int, error) {
			rep, err := control.Report(ctx)
			return rep, 1, err
		}, log: log})
	}
	serving(addrs)
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	end()
	return <-ended
}

// proxyHost holds the sockets of a proxy until its edge takes them. There is
// no edge after that one, so it gives them away: when the edge stops to
// accept, connections are refused and do not wait for nobody.
type proxyHost struct {
	mu        sync.Mutex
	listeners map[string]net.Listener
}

// open makes the socket of addr, once, and returns what it is bound to.
func (h *proxyHost) open(addr string) (string, error) {
	if h.listeners[addr] != nil {
		return "", nil
	}
	l, err := keeper.Listen(addr)
	if err != nil {
		return "", err
	}
	h.listeners[addr] = l
	return l.Addr().String(), nil
}

func (h *proxyHost) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range h.listeners {
		l.Close()
	}
	h.listeners = nil
}

// Listener implements edge.Host.
func (h *proxyHost) Listener(_ context.Context, addr string) (net.Listener, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.listeners[addr]
	if l == nil {
		return nil, fmt.Errorf("%s is not held", addr)
	}
	delete(h.listeners, addr)
	return l, nil
}

// Save implements edge.Host: the table is that of the command line, always.
func (h *proxyHost) Save(context.Context, []byte) error { return nil }

// Load implements edge.Host.
func (h *proxyHost) Load(context.Context) ([]byte, error) { return nil, nil }

// serve waits for the edge's control socket and gives it the table.
func (h *proxyHost) serve(ctx context.Context, socket string, table gapless.Table, ended chan error) (*edge.Client, error) {
	for {
		control, err := edge.Dial(ctx, socket)
		if err == nil {
			if err = control.Apply(ctx, table); err != nil {
				return nil, err
			}
			return control, nil
		}
		select {
		case err := <-ended:
			if err == nil {
				err = gapless.Errorf(gapless.Internal, "the edge ended before it served")
			}
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// ReadTable reads a table as the edge knows it, from JSON. A field that is
// not known is refused.
func ReadTable(file string) (gapless.Table, error) {
	var t gapless.Table
	f, err := os.Open(file)
	if err != nil {
		return t, gapless.Errorf(gapless.Invalid, "read table: %w", err)
	}
	defer f.Close()
	dec := json.NewDecoder(f)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&t); err != nil {
		return t, gapless.Errorf(gapless.Invalid, "read table %s: %w", file, err).
			WithHint("write what --print-config prints as table, and not all of it: gapless proxy --to … --print-config | jq .table")
	}
	t.Version = max(t.Version, 1)
	return t, t.Validate()
}
