// Command edge measures what a request costs: CPU of gapless's edge and of
// nginx as a proxy, for the same load from wrk in front of the same backend
// (nginx that answers 1 KB), on kept TCP connections. The edge is the shipped
// one, as `gapless up` runs it, with its keeper and daemon beside it, and the
// backend is the instance of its app. Rounds are interleaved and their order
// reversed, and ratios are taken within a round, because on a busy machine
// only those can be believed. It needs nginx, wrk and bin/gapless, and exits
// with 1 when the median ratio is above -max.
//
//	make build && go run ./test/bench/edge
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	var b bench
	flag.IntVar(&b.rounds, "rounds", 7, "rounds, each with one slice per proxy")
	flag.DurationVar(&b.slice, "slice", 2*time.Second, "length of one slice")
	flag.IntVar(&b.conns, "c", 64, "kept connections")
	flag.Float64Var(&b.max, "max", 1.15, "largest median of edge's CPU per request / nginx's")
	flag.StringVar(&b.gapless, "gapless", "bin/gapless", "`binary` to measure")
	flag.BoolVar(&b.pin, "pin", runtime.NumCPU() > 1, "proxies on one core, load and backend on another")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ratio, err := b.run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	if ratio > b.max {
		fmt.Printf("FAIL: %.2f is above %.2f\n", ratio, b.max)
		os.Exit(1)
	}
}

type bench struct {
	rounds, conns int
	slice         time.Duration
	gapless       string
	max           float64
	pin           bool
}

// proxy is one process under measurement.
type proxy struct {
	name string
	addr string
	pid  int
	cost []float64 // µs of CPU per request, by round
}

func (b *bench) run(ctx context.Context) (ratio float64, err error) {
	for _, tool := range []string{"nginx", "wrk"} {
		if _, err := exec.LookPath(tool); err != nil {
			return 0, fmt.Errorf("%s is needed (Debian: apt-get install nginx-light wrk): %w", tool, err)
		}
	}
	dir, err := os.MkdirTemp("", "edgebench")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	ports, err := freePorts(3)
	if err != nil {
		return 0, err
	}
	backend, viaNginx, viaEdge := ports[0], ports[1], ports[2]

	var children []*exec.Cmd
	defer func() {
		for _, c := range children {
			c.Process.Signal(syscall.SIGTERM)
			c.Wait()
		}
	}()
	child := func(core int, argv ...string) (int, error) {
		cmd := b.command(core, argv...)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			return 0, fmt.Errorf("start %s: %w", argv[0], err)
		}
		children = append(children, cmd)
		return cmd.Process.Pid, nil
	}
	// The backend is the app's instance; nginx finds it on a port of its own.
	conf := nginxConf(dir, "backend", fmt.Sprintf("server { listen %s; listen 127.0.0.1:@PORT@; location / { return 200 '%s'; } }\n", backend, strings.Repeat("x", 1024)))
	g := &gapless{bench: b, dir: filepath.Join(dir, "app"), home: filepath.Join(dir, "h")}
	if err := g.up(ctx, viaEdge, conf); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, g.down()) }()
	edgePID, err := g.edge(ctx)
	if err != nil {
		return 0, err
	}
	conf = nginxConf(dir, "proxy", fmt.Sprintf("upstream app { server %s; keepalive 256; keepalive_requests 1000000000; }\n"+
		"server { listen %s; location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; } }\n", backend, viaNginx))
	file := filepath.Join(dir, "proxy.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return 0, err
	}
	pid, err := child(0, "nginx", "-p", dir, "-c", file)
	if err != nil {
		return 0, err
	}
	proxies := []*proxy{{name: "nginx", addr: viaNginx, pid: pid}, {name: "edge", addr: viaEdge, pid: edgePID}}
	for _, p := range proxies {
		if err := await(ctx, p.addr); err != nil {
			return 0, err
		}
		if _, err := b.load(ctx, p, 500*time.Millisecond); err != nil { // warm
			return 0, err
		}
	}
	var ratios []float64
	for round := range b.rounds {
		for _, p := range proxies {
			cost, err := b.load(ctx, p, b.slice)
			if err != nil {
				return 0, err
			}
			p.cost = append(p.cost, cost)
		}
		byName := map[string]float64{}
		for _, p := range proxies {
			byName[p.name] = p.cost[round]
		}
		ratios = append(ratios, byName["edge"]/byName["nginx"])
		fmt.Printf("round %d: nginx %.1f, edge %.1f CPU-µs per request, ratio %.2f\n", round+1, byName["nginx"], byName["edge"], ratios[round])
		slices.Reverse(proxies)
	}
	for _, p := range proxies {
		fmt.Printf("%-5s median %.1f CPU-µs per request\n", p.name, median(p.cost))
	}
	m := median(ratios)
	fmt.Printf("edge / nginx, median of %d paired rounds: %.2f\n", len(ratios), m)
	return m, nil
}

func (b *bench) command(core int, argv ...string) *exec.Cmd {
	if b.pin {
		argv = append([]string{"taskset", "-c", strconv.Itoa(core)}, argv...)
	}
	return exec.Command(argv[0], argv[1:]...)
}

var wrkTotal = regexp.MustCompile(`(\d+) requests in`)

// load sends requests for d and returns the CPU that each cost the proxy.
func (b *bench) load(ctx context.Context, p *proxy, d time.Duration) (float64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	before, err := cpu(p.pid)
	if err != nil {
		return 0, err
	}
	cmd := b.command(1, "wrk", "-t1", "-c"+strconv.Itoa(b.conns), "-d"+strconv.Itoa(max(1, int(d.Seconds())))+"s", "http://"+p.addr+"/")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("wrk: %w: %s", err, out)
	}
	after, err := cpu(p.pid)
	if err != nil {
		return 0, err
	}
	m := wrkTotal.FindSubmatch(out)
	if m == nil || strings.Contains(string(out), "Non-2xx") || strings.Contains(string(out), "Socket errors") {
		return 0, fmt.Errorf("%s did not answer everything: %s", p.name, out)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%s answered nothing: %s", p.name, out)
	}
	return float64(after-before) / float64(n) / 1e3, nil
}

// cpu returns the CPU time of all threads of a process in nanoseconds.
func cpu(pid int) (int64, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("read CPU time of process %d: %w", pid, errors.Join(err, os.ErrNotExist))
	}
	var sum int64
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that has ended
		}
		first, _, _ := strings.Cut(string(b), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", f, err)
		}
		sum += n
	}
	return sum, nil
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// freePorts finds addresses on 127.0.0.1 below the range for outgoing connections.
func freePorts(n int) ([]string, error) {
	var found []string
	for port := 18000 + os.Getpid()%4000; port < 32000 && len(found) < n; port++ {
		addr := "127.0.0.1:" + strconv.Itoa(port)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		l.Close()
		found = append(found, addr)
	}
	if len(found) < n {
		return nil, errors.New("no free ports")
	}
	return found, nil
}

func await(ctx context.Context, addr string) error {
	for end := time.Now().Add(10 * time.Second); ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(end) {
			return fmt.Errorf("wait for %s: %w", addr, err)
		}
	}
	return ctx.Err()
}

// nginxConf is the configuration of an nginx with one process.
func nginxConf(dir, name, server string) string {
	return "daemon off; master_process off; worker_processes 1; error_log stderr crit; pid " + dir + "/" + name + ".pid;\n" +
		"events { worker_connections 4096; }\nhttp { access_log off; keepalive_requests 1000000000;\n" + tempPaths(dir) + server + "}\n"
}

func tempPaths(dir string) string {
	var b strings.Builder
	for _, k := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&b, "%s_temp_path %s/tmp_%s;\n", k, dir, k)
	}
	return b.String()
}
