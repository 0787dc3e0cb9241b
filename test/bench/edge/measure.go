package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// sample is one slice of one proxy.
type sample struct {
	cost     float64 // CPU-µs per request, or CPU-s per GB, or bytes per connection
	rate     float64 // requests per second
	p50, p99 float64 // ms
}

var (
	wrkTotal = regexp.MustCompile(`(\d+) requests in`)
	wrkRead  = regexp.MustCompile(`([0-9.]+)([KMG]?)B read`)
	wrkRate  = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	wrkQuant = regexp.MustCompile(`(?m)^\s+(50|99)%\s+([0-9.]+)(us|ms|s|m)\s*$`)
)

// wrk loads a proxy for one slice. large: the cost is told per GB, else per
// request.
func (b *bench) wrk(ctx context.Context, p *proxy, core, conns int, url string, large bool, headers ...string) (sample, error) {
	var s sample
	if err := ctx.Err(); err != nil {
		return s, err
	}
	argv := []string{"wrk", "-t1", "-c" + strconv.Itoa(conns), "-d" + strconv.Itoa(max(1, int(b.slice.Seconds()))) + "s", "--timeout", "20s", "--latency"}
	for _, h := range headers {
		argv = append(argv, "-H", h)
	}
	before, err := cpu(p.pid)
	if err != nil {
		return s, err
	}
	out, err := b.command(core, append(argv, url)...).CombinedOutput()
	if err != nil {
		return s, fmt.Errorf("wrk: %w: %s", err, out)
	}
	after, err := cpu(p.pid)
	if err != nil {
		return s, err
	}
	m := wrkTotal.FindSubmatch(out)
	if m == nil || strings.Contains(string(out), "Non-2xx") || strings.Contains(string(out), "Socket errors") {
		return s, fmt.Errorf("%s did not answer everything: %s", p.name, out)
	}
	n, err := strconv.ParseFloat(string(m[1]), 64)
	if m := wrkRead.FindSubmatch(out); err == nil && large && m != nil { // a slice ends in the middle of bodies
		read, _ := strconv.ParseFloat(string(m[1]), 64)
		n = read * map[string]float64{"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[string(m[2])] / 1e9 // GB
	}
	if err != nil || n == 0 {
		return s, fmt.Errorf("%s: %w: %s", p.name, errNothing, out)
	}
	s.cost = float64(after-before) / n / 1e3
	if large {
		s.cost = float64(after-before) / n / 1e9
	}
	if m := wrkRate.FindSubmatch(out); m != nil {
		s.rate, _ = strconv.ParseFloat(string(m[1]), 64)
	}
	for _, m := range wrkQuant.FindAllSubmatch(out, -1) {
		v, _ := strconv.ParseFloat(string(m[2]), 64)
		v *= map[string]float64{"us": 0.001, "ms": 1, "s": 1000, "m": 60000}[string(m[3])]
		if string(m[1]) == "50" {
			s.p50 = v
		} else {
			s.p99 = v
		}
	}
	return s, nil
}

// openLoop sends a fixed rate of requests, whether they are answered or not:
// each has its time, and its latency counts from then.
func (b *bench) openLoop(ctx context.Context, p *proxy, perSecond int) (sample, error) {
	var s sample
	const conns = 32
	before, err := cpu(p.pid)
	if err != nil {
		return s, err
	}
	start := time.Now().Add(50 * time.Millisecond)
	n := int(b.slice.Seconds() * float64(perSecond))
	took := make([]float64, n)
	errs := make([]error, conns)
	var all sync.WaitGroup
	for k := range conns {
		all.Go(func() {
			c, err := net.Dial("tcp", p.addr)
			if err != nil {
				errs[k] = err
				return
			}
			defer c.Close()
			r := bufio.NewReader(c)
			for i := k; i < n && ctx.Err() == nil; i += conns {
				due := start.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
				time.Sleep(time.Until(due))
				if errs[k] = get(c, r); errs[k] != nil {
					return
				}
				took[i] = float64(time.Since(due)) / 1e6
			}
		})
	}
	all.Wait()
	after, err := cpu(p.pid)
	if err = errors.Join(err, errors.Join(errs...), ctx.Err()); err != nil {
		return s, fmt.Errorf("%s: %w", p.name, err)
	}
	slices.Sort(took)
	return sample{cost: float64(after-before) / float64(n) / 1e3, rate: float64(perSecond), p50: took[n/2], p99: took[n*99/100]}, nil
}

// get asks for / and reads the answer.
func get(c net.Conn, r *bufio.Reader) error {
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: bench\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// idleMemory is what a connection costs that was used once and is kept.
func (b *bench) idleMemory(ctx context.Context, p *proxy) (sample, error) {
	var s sample
	r := bufio.NewReaderSize(nil, 4096)
	open := func(n int) (list []net.Conn, err error) {
		for range n {
			if err := ctx.Err(); err != nil {
				return list, err
			}
			c, err := net.Dial("tcp", p.addr)
			if err != nil {
				return list, err
			}
			list = append(list, c)
			r.Reset(c)
			if err := get(c, r); err != nil {
				return list, err
			}
		}
		return list, nil
	}
	defer func() { time.Sleep(time.Second) }() // the proxy has seen them close
	first, err := open(200)                    // what every proxy needs once
	defer func() {
		for _, c := range first {
			c.Close()
		}
	}()
	if err != nil {
		return s, err
	}
	time.Sleep(time.Second)
	before, err := pss(p.pid)
	if err != nil {
		return s, err
	}
	more, err := open(b.idle)
	first = append(first, more...)
	if err != nil {
		return s, fmt.Errorf("%s: %w", p.name, err)
	}
	time.Sleep(3 * time.Second)
	after, err := pss(p.pid)
	return sample{cost: float64(after-before) / float64(b.idle)}, err
}

// pss is the memory of a process and those that it started, in bytes.
func pss(pid int) (sum int64, err error) {
	for _, id := range family(pid) {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", id))
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(data)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "Pss:" {
				n, err := strconv.ParseInt(f[1], 10, 64)
				if err != nil {
					return 0, err
				}
				sum += n << 10
			}
		}
	}
	return sum, nil
}

// family is a process and what it started.
func family(pid int) []int {
	list := []int{pid}
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		data, _ := os.ReadFile(f)
		for _, s := range strings.Fields(string(data)) {
			if id, err := strconv.Atoi(s); err == nil {
				list = append(list, family(id)...)
			}
		}
	}
	return list
}

// ran remembers the CPU of each thread, so that one that ends still counts
// with what was seen of it.
var ran = map[string]int64{}

// cpu returns the CPU time of all threads of a process and of those that it
// started, in nanoseconds.
func cpu(pid int) (int64, error) {
	seen := false
	for _, id := range family(pid) {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", id))
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				continue // a thread that has ended
			}
			first, _, _ := strings.Cut(string(data), " ")
			n, err := strconv.ParseInt(first, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read %s: %w", f, err)
			}
			seen = true
			ran[fmt.Sprintf("%d %s", pid, f)] = n
		}
	}
	if !seen {
		return 0, fmt.Errorf("read CPU time of process %d: %w", pid, os.ErrNotExist)
	}
	sum := int64(0)
	for k, n := range ran {
		if strings.HasPrefix(k, strconv.Itoa(pid)+" ") {
			sum += n
		}
	}
	return sum, nil
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
