package main

import (
	"math"
	"slices"
	"time"

	"gapless"
)

// pace is how long a release takes: a lognormal base of median 50 ms with a
// heavy tail, as services have it, and what was changed.
type pace struct {
	times     float64 // every request takes so many times as long; 0: 1
	tailShare float64 // this share of requests …
	tailTimes float64 // … takes so many times as long on top
}

const (
	medianMS   = 50
	sigma      = 0.8  // of the base, in logarithms
	heavyShare = 0.01 // of requests that take longer by a Pareto factor
	heavyIndex = 0.7  // mean of that factor's logarithm
)

// over is the share of requests that take longer than an age in seconds.
func (p pace) over(age float64) float64 {
	if age <= 0 {
		return 1
	}
	z := math.Log(age * 1000 / medianMS)
	if p.times > 0 {
		z -= math.Log(p.times)
	}
	s := baseOver(z)
	if p.tailShare > 0 {
		s += p.tailShare * (baseOver(z-math.Log(p.tailTimes)) - s)
	}
	return s
}

// baseOver is the share whose logarithm lies over z: normal, and for a few
// normal plus exponential (the exponentially modified normal distribution).
func baseOver(z float64) float64 {
	normal := func(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }
	body := normal(-z / sigma)
	rate := 1 / heavyIndex
	heavy := body + math.Exp(rate*rate*sigma*sigma/2-rate*z)*normal(z/sigma-rate*sigma)
	return body + heavyShare*(heavy-body)
}

// cells cut the latencies of one release at everything that somebody counts
// by: the buckets of the edge's histogram, and the limits of age that hold.
type cells struct {
	share  []float64 // of requests in each
	bucket []int
	slow   []slowness
}

// slowness says which limits a cell is beyond.
type slowness struct{ worse, margin [gapless.Quantiles]bool }

// survival is the share of requests over each bucket's start.
type survival [gapless.LatencyBuckets]float64

func (p pace) survival() *survival {
	var s survival
	for b := range s {
		s[b] = p.over(bucketStart(b))
	}
	return &s
}

func bucketStart(b int) float64 { return float64(gapless.LatencyBucketStart(b)) / 1e6 }

// cut cuts at all buckets, whose shares are known, and at these limits.
func cut(p pace, known *survival, worse, margin [gapless.Quantiles]time.Duration) cells {
	limits := make([]float64, 0, 2*gapless.Quantiles) // seconds
	for q := range gapless.Quantiles {
		limits = append(limits, worse[q].Seconds(), margin[q].Seconds())
	}
	slices.Sort(limits)
	var c cells
	add := func(from, share float64) {
		if share < 1e-12 {
			return
		}
		var beyond slowness
		for q := range gapless.Quantiles {
			beyond.worse[q] = from >= worse[q].Seconds()
			beyond.margin[q] = from >= margin[q].Seconds()
		}
		c.share = append(c.share, share)
		c.bucket = append(c.bucket, gapless.LatencyBucket(uint64(from*1e6+0.5)))
		c.slow = append(c.slow, beyond)
	}
	for b := range known {
		from, over := bucketStart(b), known[b]
		end, last := math.Inf(1), 0.0
		if b+1 < len(known) {
			end, last = bucketStart(b+1), known[b+1]
		}
		for _, l := range limits {
			if l > from && l < end {
				at := p.over(l)
				add(from, over-at)
				from, over = l, at
			}
		}
		add(from, over-last)
	}
	return c
}

// draw draws how many requests fall into each cell; mean is of their sum.
// Parts of a Poisson stream are independent Poisson streams, so this is exact.
func (c cells) draw(d dice, mean float64, a *arm) {
	for i, s := range c.share {
		n := d.poisson(mean * s)
		if n == 0 {
			continue
		}
		a.requests += n
		a.latency[c.bucket[i]] += n
		for q := range gapless.Quantiles {
			count(&a.paces.Worse[q], n, c.slow[i].worse[q])
			count(&a.paces.Margin[q], n, c.slow[i].margin[q])
		}
	}
}

func count(p *gapless.Pace, n uint64, slow bool) {
	if slow {
		p.Slow += n
	} else {
		p.Fast += n
	}
}

// histogram is latencies by gapless.LatencyBucket.
type histogram [gapless.LatencyBuckets]uint64

func (h *histogram) add(o *histogram) {
	for b, n := range o {
		h[b] += n
	}
}

// quantile is in milliseconds, interpolated inside of a bucket; 0 if empty.
func (h *histogram) quantile(q float64) float64 {
	var total uint64
	for _, n := range h {
		total += n
	}
	if total == 0 {
		return 0
	}
	rest := q * float64(total)
	for b, n := range h {
		if n > 0 && rest <= float64(n) {
			low, high := gapless.LatencyBucketStart(b), gapless.LatencyBucketStart(b+1)
			return (float64(low) + rest/float64(n)*float64(high-low)) / 1000
		}
		rest -= float64(n)
	}
	return float64(gapless.LatencyBucketStart(gapless.LatencyBuckets)) / 1000
}
