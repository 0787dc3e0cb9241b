package daemon

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gapless"
)

// behind starts a server that answers with its name after the first byte of
// gate, if there is one, and returns its address as a table writes it.
func behind(t *testing.T, network, address, name string, gate chan struct{}) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gate != nil {
			gate <- struct{}{} // here it is
			<-gate
		}
		io.WriteString(w, name)
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	if network == "unix" {
		return "unix:" + address
	}
	return l.Addr().String()
}

// startProxy runs p on a free address until the returned function is called,
// which returns what Run does.
func startProxy(t *testing.T, p Proxy) (addr string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	bound, ended := make(chan []string, 1), make(chan error, 1)
	go func() { ended <- p.Run(ctx, slog.New(slog.DiscardHandler), func(a []string) { bound <- a }) }()
	stop = func() error {
		cancel()
		select {
		case err := <-ended:
			ended <- err
			return err
		case <-time.After(20 * time.Second):
			t.Fatal("the proxy did not end")
			return nil
		}
	}
	t.Cleanup(func() { stop() })
	select {
	case a := <-bound:
		return a[0], stop
	case err := <-ended:
		t.Fatalf("Run: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("the proxy never served")
	}
	return "", nil
}

func proxyTable(shares map[string]float64, targets ...gapless.Target) gapless.Table {
	r := gapless.Route{App: "proxy", Listen: []string{"127.0.0.1:0"}, Path: "/", Hold: gapless.Duration(time.Second),
		Probe: gapless.Health{Interval: gapless.Duration(time.Minute)}, Targets: targets, Stable: targets[0].Release}
	for name, share := range shares {
		r.Weights = append(r.Weights, gapless.Weight{Release: name, Share: share})
	}
	slices.SortFunc(r.Weights, func(a, b gapless.Weight) int { return strings.Compare(a.Release, b.Release) })
	return gapless.Table{Version: 1, Routes: []gapless.Route{r}}
}

// to is one server as a target.
func to(release, address string) gapless.Target {
	return gapless.Target{Instance: address, Release: release, Address: address}
}

func TestProxyTossesBetweenReleases(t *testing.T) {
	old := behind(t, "tcp", "127.0.0.1:0", "old", nil)
	next := behind(t, "unix", filepath.Join(t.TempDir(), "s"), "next", nil)
	addr, stop := startProxy(t, Proxy{Table: proxyTable(map[string]float64{"v1": 0.5, "v2": 0.5}, to("v1", old), to("v2", next))})
	seen := map[string]int{}
	for range 200 {
		resp, err := http.Get("http://" + addr + "/")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		seen[string(b)]++
	}
	// 200 fair coins: fewer than 40 of one side in less than one of 10^17 runs.
	if seen["old"] < 40 || seen["next"] < 40 || seen["old"]+seen["next"] != 200 {
		t.Errorf("answers: %v", seen)
	}
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// At the end what is in flight is answered, and who comes later is refused
// at once instead of waiting in the queue of a socket nobody accepts from.
func TestProxyDrains(t *testing.T) {
	gate := make(chan struct{})
	addr, stop := startProxy(t, Proxy{Table: proxyTable(map[string]float64{"v1": 1}, to("v1", behind(t, "tcp", "127.0.0.1:0", "done", gate)))})
	var answer atomic.Value
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		resp, err := http.Get("http://" + addr + "/")
		if err != nil {
			answer.Store(err.Error())
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		answer.Store(string(b))
	}()
	<-gate
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		c.Close()
		if time.Now().After(end) {
			t.Fatal("connections are still taken")
		}
	}
	select {
	case <-ended:
		t.Fatal("ended with a request in flight")
	default:
	}
	gate <- struct{}{}
	<-asked
	if got := answer.Load(); got != "done" {
		t.Errorf("the request in flight got %q", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestProxySaysWhatItCannotDo(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	table := proxyTable(map[string]float64{"v1": 1}, to("v1", "127.0.0.1:9"))
	table.Routes[0].Listen = []string{l.Addr().String()}
	never := func([]string) { t.Error("it says that it serves") }
	err = Proxy{Table: table}.Run(t.Context(), slog.New(slog.DiscardHandler), never)
	if gapless.CodeOf(err) != gapless.Conflict || gapless.HintOf(err) == "" {
		t.Errorf("address in use: %v (hint %q)", err, gapless.HintOf(err))
	}
	table.Routes[0].Listen = []string{"127.0.0.1:0"}
	table.Routes[0].Weights[0].Share = 0.5
	if err := (Proxy{Table: table}).Run(t.Context(), slog.New(slog.DiscardHandler), never); gapless.CodeOf(err) != gapless.Invalid {
		t.Errorf("weights that do not sum to 1: %v", err)
	}
}
