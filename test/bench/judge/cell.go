package main

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// cell is one question: a scenario, played many times.
type cell struct {
	scenario
	about   string  // for people
	group   string  // heading in the tables
	share   float64 // of the candidate; 0: whole rollouts, each rule by its own steps
	seconds float64
	finest  float64 // seconds between two looks, where it matters
	runs    int
	wide    bool // only in the full grid
	targets []target
}

// result is a cell that was played.
type result struct {
	*cell
	rules []tallyOf // the judge first
}

// tallyOf sums up one rule.
type tallyOf struct {
	name                      string
	runs, takenBack, promoted int
	bad, requests, at         spread // at: of those that were decided as they should; see play
}

// spread is a sample in order.
type spread []float64

func (s spread) mean() float64 {
	if len(s) == 0 {
		return 0
	}
	return mean(s)
}

func (s spread) quantile(q float64) float64 {
	if len(s) == 0 {
		return 0
	}
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

// play plays a cell on so many processors. What it finds follows from the seed
// alone.
func (c *cell) play(seed uint64, runs, workers int) (result, error) {
	all := make([][]outcome, runs)
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, workers)
	for range workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < runs; i = int(next.Add(1)) - 1 {
				dice := func() dice { return newDice(seed, uint64(i)) }
				var err error
				if c.share > 0 {
					all[i], err = atShare(c, dice())
				} else {
					all[i], err = wholeRollouts(c, dice)
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return result{}, fmt.Errorf("%s: %w", c.about, err)
	default:
	}
	return result{c, sumUp(all)}, nil
}

func sumUp(all [][]outcome) []tallyOf {
	names := []string{"gapless"}
	for _, r := range peers() {
		names = append(names, r.name())
	}
	rules := make([]tallyOf, len(names))
	for i, name := range names {
		t := &rules[i]
		t.name, t.runs = name, len(all)
		for _, outcomes := range all {
			o := outcomes[i]
			t.bad = append(t.bad, float64(o.bad))
			switch o.decision {
			case takenBack:
				t.takenBack++
			case promoted:
				t.promoted++
			}
			if o.decision != waiting {
				t.at = append(t.at, o.at)
				if i == 0 {
					t.requests = append(t.requests, float64(o.since))
				} else {
					t.requests = append(t.requests, float64(o.requests))
				}
			}
		}
		slices.Sort(t.bad)
		slices.Sort(t.requests)
		slices.Sort(t.at)
	}
	return rules
}

// target is what the judge must reach in a cell.
type target struct {
	what    string
	most    float64
	reached func(tallyOf) float64
}

// unreached tells which targets were missed.
func (r result) unreached() []string {
	var missed []string
	for _, t := range r.targets {
		if v := t.reached(r.rules[0]); !(v <= t.most) {
			missed = append(missed, fmt.Sprintf("%s: %s: %.4g, the target is %.4g", r.about, t.what, v, t.most))
		}
	}
	return missed
}

const confidence = 0.99

// falseAlarms bounds the share of good candidates that are taken back, at its
// upper confidence limit.
func falseAlarms(most float64) target {
	return target{"false rollbacks (upper 99 % limit)", most, func(t tallyOf) float64 { return upperShare(t.takenBack, t.runs, confidence) }}
}

// badAnswers bounds how many bad answers the candidate gives, in 95 of 100 runs.
func badAnswers(most float64) target {
	return target{"bad answers before the decision (p95)", most, func(t tallyOf) float64 { return t.bad.quantile(0.95) }}
}

// requestsToDecide bounds the mean number of the candidate's requests.
func requestsToDecide(most float64) target {
	return target{"candidate requests before the decision (mean)", most, func(t tallyOf) float64 { return t.requests.mean() }}
}

// missed bounds the share of bad candidates that are not taken back in time.
func missed(most float64) target {
	return target{"bad candidates that were not taken back", most, func(t tallyOf) float64 { return 1 - float64(t.takenBack)/float64(t.runs) }}
}

// promotedWithin bounds the median of seconds until a good one has everything.
func promotedWithin(seconds float64) target {
	return target{"seconds to 100 % with every proof (median)", seconds, func(t tallyOf) float64 {
		if 2*t.promoted <= t.runs {
			return math.Inf(1)
		}
		return t.at.quantile(0.5)
	}}
}
