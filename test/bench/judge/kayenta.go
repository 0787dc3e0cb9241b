package main

import (
	"math"
	"slices"
)

// kayenta is Netflix's ACA judge 1.0 as Spinnaker's Kayenta ships it: one
// point a minute and release of each metric (error rate, p50, p99), a
// Mann-Whitney test of 98 % with a tolerance of a quarter of the shift's
// estimate; a metric that is High fails, and with one of three failed the
// score is under 75, so the canary is. It looks every minute from the fifth on.
// Its steps are taken to be Kayenta's usual hour at one share.
type kayenta struct {
	candidate, stable [3][]float64 // per metric, a point per minute
}

func (k *kayenta) name() string { return "Kayenta" }

func (k *kayenta) share(second float64) float64 {
	if second >= 3600 {
		return 1
	}
	return 0.1
}

const (
	kayentaFirst     = 5              // minutes
	kayentaTolerance = 0.25           // of the estimated shift
	kayentaZ         = 2.326347874041 // of a two-sided 98 %
)

func (k *kayenta) minute(m *minute) decision {
	if m.candidate.requests == 0 || m.stable.requests == 0 {
		return waiting // no point
	}
	point := func(s *seen) [3]float64 {
		return [3]float64{s.errorRate(), s.latency.quantile(0.5), s.latency.quantile(0.99)}
	}
	c, s := point(&m.candidate), point(&m.stable)
	for i := range k.candidate {
		k.candidate[i] = append(k.candidate[i], c[i])
		k.stable[i] = append(k.stable[i], s[i])
	}
	if len(k.candidate[0]) < kayentaFirst {
		return waiting
	}
	for i := range k.candidate {
		if high(k.candidate[i], k.stable[i]) {
			return takenBack
		}
	}
	return waiting
}

// high classifies a metric as Kayenta does for the direction "increase".
func high(experiment, control []float64) bool {
	x, y := slices.Sorted(slices.Values(experiment)), slices.Sorted(slices.Values(control))
	if slices.Equal(x, y) {
		return false
	}
	if x[0] == x[len(x)-1] && y[0] == y[len(y)-1] { // two constants: Kayenta adds some noise, so that they can be ranked
		if x[0] < y[0] {
			return false
		}
		for i := range x {
			x[i] *= 1 + 1e-5*float64(i)/float64(len(x))
		}
		for i := range y {
			y[i] *= 1 + 1e-5*float64(i)/float64(len(y))
		}
	}
	lower, ok := shift(x, y, kayentaZ)
	if !ok {
		return false
	}
	estimate, ok := shift(x, y, 0)
	if !ok || lower <= kayentaTolerance*math.Abs(estimate) {
		return false
	}
	mx, my := mean(x), mean(y)
	return mx == 0 || my == 0 || mx >= my
}

// shift is by how much x lies over y: the value at which the standardised rank
// sum of x-value against y is z. The rank sum falls as the value grows.
func shift(x, y []float64, z float64) (float64, bool) {
	low, high := x[0]-y[len(y)-1], x[len(x)-1]-y[0]
	moved := slices.Clone(x)
	standard := func(by float64) (float64, bool) {
		for i, v := range x {
			moved[i] = v - by
		}
		return rankSum(moved, y)
	}
	atLow, ok1 := standard(low)
	atHigh, ok2 := standard(high)
	switch {
	case !ok1 || !ok2:
		return 0, false
	case atLow <= z:
		return low, true
	case atHigh >= z:
		return high, true
	}
	for range 40 {
		mid := (low + high) / 2
		v, ok := standard(mid)
		if !ok {
			return 0, false
		}
		if v > z {
			low = mid
		} else {
			high = mid
		}
	}
	return (low + high) / 2, true
}

// rankSum is Mann and Whitney's statistic of two sorted samples, standardised,
// corrected for ties and for continuity; false if all values are the same.
func rankSum(x, y []float64) (float64, bool) {
	nx, ny := float64(len(x)), float64(len(y))
	ranks, ties := 0.0, 0.0
	for i, j, before := 0, 0, 0.0; i < len(x) || j < len(y); {
		v := math.Inf(1)
		if i < len(x) {
			v = x[i]
		}
		if j < len(y) {
			v = min(v, y[j])
		}
		ofX, ofY := 0.0, 0.0
		for ; i < len(x) && x[i] == v; i++ {
			ofX++
		}
		for ; j < len(y) && y[j] == v; j++ {
			ofY++
		}
		same := ofX + ofY
		ranks += ofX * (before + (same+1)/2)
		ties += same*same*same - same
		before += same
	}
	u := ranks - nx*(nx+1)/2 - nx*ny/2
	n := nx + ny
	spread := math.Sqrt(nx * ny / 12 * (n + 1 - ties/(n*(n-1))))
	if spread == 0 || math.IsNaN(spread) {
		return 0, false
	}
	switch {
	case u > 0:
		u -= 0.5
	case u < 0:
		u += 0.5
	}
	return u / spread, true
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}
