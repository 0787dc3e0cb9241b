// Command pm2 does to PM2 what gapless is made for (a new version, a broken
// new version, the death of the daemon, a restart, all under constant load)
// and counts with internal/load what users lose. It prints a markdown table.
// Every subject runs from a temporary directory on loopback, with its own home,
// and only its own processes are ended.
//
//	test/apps/install.sh && go run ./test/bench/pm2
//	make build && go run ./test/bench/pm2 --write docs/comparison.md     # gapless in the same run
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

type options struct {
	json    bool
	write   string
	only    *regexp.Regexp
	gapless string
	pm2     string
	runs    int
}

func main() {
	var o options
	var only string
	flag.BoolVar(&o.json, "json", false, "print the results as JSON instead of a table")
	flag.StringVar(&o.write, "write", "", "also write the table between the marks in this `file`")
	flag.StringVar(&only, "only", "", "only scenarios whose \"subject, app, variant, action\" matches this `regexp`")
	flag.StringVar(&o.gapless, "gapless", "", "also measure this gapless `binary` (default: bin/gapless, if it is there; none: do not)")
	flag.StringVar(&o.pm2, "pm2", "", "install PM2 in this `directory`, or find it there (default: a temporary one)")
	flag.IntVar(&o.runs, "runs", 1, "repeat each scenario")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	err := bench(ctx, only, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench runs every scenario on every subject, one after the other.
func bench(ctx context.Context, only string, o options) (err error) {
	if o.only, err = regexp.Compile(only); err != nil {
		return err
	}
	source, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	temp, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "bench: what was left is in", temp)
			return
		}
		os.RemoveAll(temp)
	}()
	if o.pm2 == "" {
		o.pm2 = filepath.Join(temp, "pm2")
	}
	if o.pm2, err = filepath.Abs(o.pm2); err != nil {
		return err
	}
	if err := os.MkdirAll(o.pm2, 0o755); err != nil {
		return err
	}
	bin, err := installPM2(ctx, o.pm2)
	if err != nil {
		return err
	}
	subjects := []func(home string) Subject{func(home string) Subject { return &pm2{bin: bin, home: home} }}
	if built := filepath.Join(source, "bin", "gapless"); o.gapless == "" && exists(built) {
		o.gapless = built
	}
	if o.gapless != "" && o.gapless != "none" {
		exe, err := filepath.Abs(o.gapless)
		if err != nil {
			return err
		}
		subjects = append(subjects, func(home string) Subject { return &gapless{bin: exe, home: home} })
	}

	var results []Result
	n := 0
	for _, sc := range scenarios() {
		for _, subject := range subjects {
			for range o.runs {
				n++
				dir := filepath.Join(temp, fmt.Sprint(n))
				s := subject(filepath.Join(dir, "home"))
				name := strings.Join([]string{s.Name(), sc.App, sc.Variant, sc.Action}, ", ")
				if !o.only.MatchString(name) {
					continue
				}
				fmt.Fprintln(os.Stderr, name)
				res, err := one(ctx, s, sc, source, dir)
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				fmt.Fprintf(os.Stderr, "  %.1f s, exit %d\n", res.Seconds, res.Exit)
				fmt.Fprintln(os.Stderr, "  "+strings.ReplaceAll(strings.TrimSpace(res.Load.String()), "\n", "\n  "))
				results = append(results, res)
			}
		}
	}
	if len(results) == 0 {
		return errors.New("no scenario matches")
	}
	return o.print(results)
}

func one(ctx context.Context, s Subject, sc Scenario, source, dir string) (Result, error) {
	if err := os.MkdirAll(filepath.Join(dir, "home"), 0o755); err != nil {
		return Result{}, err
	}
	app, err := newApp(source, sc.App, filepath.Join(dir, "app"))
	if err != nil {
		return Result{}, err
	}
	res, err := measure(ctx, s, sc, app)
	if err == nil {
		err = os.RemoveAll(dir)
	}
	return res, err
}

func (o options) print(results []Result) error {
	text := table(results)
	if o.write != "" {
		by := fmt.Sprintf("\nMeasured %s by `go run ./test/bench/pm2 %s`; cells are lost/all requests, WebSockets\n"+
			"and event streams (a client that is turned away tries again after 0.1 s, and that counts again). The last column is what clients\n"+
			"do not see: requests that the edge gave to a second instance, and those it held until one was ready (the longest).\n\n",
			time.Now().UTC().Format(time.DateOnly), strings.Join(os.Args[1:], " "))
		if err := writeBetween(o.write, by+text); err != nil {
			return err
		}
	}
	if o.json {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(results)
	}
	fmt.Print(text)
	return nil
}

// moduleRoot is the directory of this module's go.mod.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
