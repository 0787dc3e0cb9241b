// Command edge measures what proxies cost: nginx, haproxy, caddy and gapless
// in one run, in front of the same backends, for the same load. Each proxy has
// what a proxy in use has: two releases of which a coin picks one for each
// request, an access log, a request id, a limit of connections, counters.
//
// Rounds are interleaved, every second one in reversed order, and ratios are
// taken within a round, because on a busy machine only those can be believed.
// CPU is user and system time of all threads of the proxy, as the kernel's
// scheduler counts it. Exit code 1: a threshold was missed, 2: it did not run.
//
//	make bench-edge
//	go run ./test/bench/edge --only keep-alive --proxies unix --rounds 3
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

type bench struct {
	rounds, conns, idle int
	slice               time.Duration
	gapless             string
	only, proxies       string
	write               string
	pin                 bool

	dir      string
	backend  *backend
	children []*exec.Cmd
	missed   int
	out      strings.Builder // what is written to --write
}

func main() {
	var b bench
	flag.IntVar(&b.rounds, "rounds", 9, "rounds, each with one slice per proxy")
	flag.DurationVar(&b.slice, "slice", 2*time.Second, "length of one slice")
	flag.IntVar(&b.conns, "c", 64, "connections at once")
	flag.IntVar(&b.idle, "idle", 9000, "idle connections whose memory is measured")
	flag.StringVar(&b.gapless, "gapless", "bin/gapless", "`binary` to measure")
	flag.StringVar(&b.only, "only", "", "measure these `rows` only, separated by commas: "+strings.Join(rowNames(), ", "))
	flag.StringVar(&b.write, "write", "", "write the tables to this `file`")
	flag.BoolVar(&b.pin, "pin", runtime.NumCPU() > 1, "one worker: proxies on one core, load and backend on another")
	flag.StringVar(&b.proxies, "proxies", "", "measure nginx and these `proxies` only, separated by commas: "+strings.Join(proxyNames(), ", "))
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	if b.missed > 0 {
		fmt.Printf("FAIL: %d thresholds were missed\n", b.missed)
		os.Exit(1)
	}
}

func (b *bench) run(ctx context.Context) (err error) {
	for _, tool := range []string{"nginx", "haproxy", "caddy", "wrk"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is needed; run test/install.sh bench: %w", tool, err)
		}
	}
	chosen := rowNames()
	if b.only != "" {
		chosen = strings.Split(b.only, ",")
	}
	for _, name := range chosen {
		if !slices.Contains(rowNames(), name) {
			return fmt.Errorf("no row %q; there are %s", name, strings.Join(rowNames(), ", "))
		}
	}
	for name := range b.wanted() {
		if !slices.Contains(proxyNames(), name) {
			return fmt.Errorf("no proxy %q; there are %s", name, strings.Join(proxyNames(), ", "))
		}
	}
	if b.rounds < 1 {
		return fmt.Errorf("%d rounds are too few", b.rounds)
	}
	if b.gapless, err = filepath.Abs(b.gapless); err != nil {
		return err
	}
	if err := moreFiles(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "edgebench"); err != nil {
		return err
	}
	defer func() {
		if err == nil {
			err = os.RemoveAll(b.dir)
		} else {
			err = fmt.Errorf("%w (what the proxies said is in %s)", err, b.dir)
		}
	}()
	if err := os.Chmod(b.dir, 0o755); err != nil { // nginx's workers are another user
		return err
	}
	defer b.end()
	if b.backend, err = b.startBackend(ctx); err != nil {
		return err
	}
	b.printf("# What a request costs\n\nMade by `make bench-edge` (`go run ./test/bench/edge%s`) on %s, %d cores, %s.\n",
		flagsGiven(), time.Now().UTC().Format("2006-01-02"), runtime.NumCPU(), versions(b.gapless))
	b.printf("Every proxy tosses a coin between two releases (90/10), writes an access log, makes a request id, limits connections and counts. "+
		"Each figure is the median of %d rounds; ratios are to nginx in the same round. With one worker, proxies run on one core, load and backend on another. "+
		"CPU is user and system time of all threads by the kernel's scheduler. Throughput and latency depend on what else the machine does; ratios of CPU do so less.\n", b.rounds)
	for _, r := range rows {
		if !slices.Contains(chosen, r.name) {
			continue
		}
		if err := r.measure(ctx, b, r); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	b.configurations()
	if b.write != "" {
		return os.WriteFile(b.write, []byte(b.out.String()), 0o644)
	}
	return nil
}

// printf shows something and keeps it for --write.
func (b *bench) printf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Print(text)
	b.out.WriteString(text)
}

// child starts a process on a core, below 0: on any.
func (b *bench) child(core int, env []string, argv ...string) (*exec.Cmd, error) {
	cmd := b.command(core, argv...)
	cmd.Env = append(os.Environ(), env...)
	log, err := os.Create(filepath.Join(b.dir, fmt.Sprintf("child-%d.log", len(b.children))))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	b.children = append(b.children, cmd)
	return cmd, nil
}

// stop ends children that are not needed any more.
func (b *bench) stop(list ...*proxy) {
	for _, p := range list {
		if p.cmd != nil {
			end(p.cmd)
		}
		if p.down != nil {
			if err := p.down(); err != nil {
				fmt.Fprintln(os.Stderr, "bench:", err)
			}
		}
	}
}

func end(c *exec.Cmd) {
	if c.ProcessState != nil {
		return
	}
	_ = c.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(5*time.Second, func() { _ = c.Process.Kill() })
	defer kill.Stop()
	_ = c.Wait()
}

func (b *bench) end() {
	for _, c := range b.children {
		end(c)
	}
}

func (b *bench) command(core int, argv ...string) *exec.Cmd {
	if b.pin && core >= 0 {
		argv = append([]string{"taskset", "-c", fmt.Sprint(core)}, argv...)
	}
	return exec.Command(argv[0], argv[1:]...)
}

// moreFiles lets this process and its children open what an idle client needs.
func moreFiles() error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	l.Cur = l.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
}

func flagsGiven() string {
	var s string
	flag.Visit(func(f *flag.Flag) {
		if f.Name != "write" && f.Name != "gapless" {
			s += " --" + f.Name + " " + f.Value.String()
		}
	})
	return s
}

// versions are what is compared.
func versions(gapless string) string {
	var list []string
	for _, argv := range [][]string{{"nginx", "-v"}, {"haproxy", "-v"}, {"caddy", "version"}, {gapless, "version"}} {
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		first, _, _ := strings.Cut(string(out), "\n")
		if err != nil {
			first = err.Error()
		}
		first = strings.TrimPrefix(first, "nginx version: ")
		if argv[0] == "caddy" {
			first = "caddy " + first
		}
		list = append(list, strings.TrimSuffix(first, " - https://haproxy.org/"))
	}
	return strings.Join(list, ", ")
}

var errNothing = errors.New("it answered nothing")
