// Command judge plays rollouts against a model of traffic and asks how often a
// rule takes a good candidate back, how many bad answers a bad one gives before
// it is, and how long a good one takes: the judge of internal/judge as it is
// shipped, and rules as other tools have them, on the same streams.
//
// All of it follows from the seed, so a run can be repeated anywhere. Counts are
// drawn per stretch of time, which is exact for the streams that are modelled;
// bad answers are put in order where the order could matter. Reaction takes no
// time here: what the edge and the daemon need comes on top.
//
// Exit code 1: a target was missed, 2: it did not run.
//
//	make bench-judge
//	go run ./test/bench/judge --only 'hiccups' --runs 500
package main

import (
	"flag"
	"fmt"
	"hash/fnv"
	"os"
	"regexp"
	"runtime"
	"time"
)

func main() {
	var b bench
	flag.BoolVar(&b.all, "all", false, "the full grid")
	flag.Func("only", "only cells whose description matches this regular `expression`, of the full grid", func(s string) (err error) {
		b.only, err = regexp.Compile(s)
		return err
	})
	flag.IntVar(&b.runs, "runs", 0, "`number` of runs of each cell; default: as many as its targets need")
	flag.IntVar(&b.workers, "workers", runtime.NumCPU(), "runs at once")
	flag.Uint64Var(&b.seed, "seed", 1, "what all chance follows from")
	flag.StringVar(&b.write, "write", "", "write the tables into this `file`, between its marks")
	flag.Parse()
	missed, err := b.run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	if missed > 0 {
		fmt.Printf("FAIL: %d targets were missed\n", missed)
		os.Exit(1)
	}
}

type bench struct {
	all           bool
	only          *regexp.Regexp
	runs, workers int
	seed          uint64
	write         string
}

func (b bench) run() (missed int, err error) {
	if b.runs < 0 || b.workers < 1 {
		return 0, fmt.Errorf("%d runs on %d workers is not possible", b.runs, b.workers)
	}
	var results []result
	begun := time.Now()
	for _, c := range grid() {
		if b.only != nil && !b.only.MatchString(c.about) || b.only == nil && c.wide && !b.all {
			continue
		}
		runs := c.runs
		if b.runs > 0 {
			runs = b.runs
		}
		at := time.Now()
		r, err := c.play(b.seed^hash(c.about), runs, b.workers)
		if err != nil {
			return 0, err
		}
		results = append(results, r)
		fmt.Fprintf(os.Stderr, "%6.1fs %s", time.Since(at).Seconds(), r.row())
		for _, m := range r.unreached() {
			missed++
			fmt.Fprintln(os.Stderr, "        missed:", m)
		}
	}
	if len(results) == 0 {
		return 0, fmt.Errorf("no cell matches %v", b.only)
	}
	text := report(results)
	fmt.Print(text)
	fmt.Fprintf(os.Stderr, "%d cells in %s\n", len(results), time.Since(begun).Round(time.Second))
	if b.write != "" {
		return missed, writeBetween(b.write, text)
	}
	return missed, nil
}

// hash gives each cell streams of its own, whatever else is played.
func hash(about string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(about))
	return h.Sum64()
}
