package main

import (
	"math"
	"math/rand/v2"
)

// dice draws what chance decides. All of a run comes from its seed.
type dice struct{ *rand.Rand }

func newDice(cell, run uint64) dice { return dice{rand.New(rand.NewPCG(cell, run))} }

// poisson draws a count of mean mu: by inversion where it is small, by
// Hörmann's transformed rejection (PTRS, 1993) elsewhere. Both are exact.
func (d dice) poisson(mu float64) uint64 {
	if !(mu > 0) {
		return 0
	}
	if mu < 12 {
		p := math.Exp(-mu)
		u, k := d.Float64(), uint64(0)
		for u > p && k < 1000 {
			u -= p
			k++
			p *= mu / float64(k)
		}
		return k
	}
	b := 0.931 + 2.53*math.Sqrt(mu)
	a := -0.059 + 0.02483*b
	inverse := 1.1239 + 1.1328/(b-3.4)
	quick := 0.9277 - 3.6224/(b-2)
	for {
		u, v := d.Float64()-0.5, d.Float64()
		near := 0.5 - math.Abs(u)
		k := math.Floor((2*a/near+b)*u + mu + 0.43)
		if near >= 0.07 && v <= quick {
			return uint64(k)
		}
		if k < 0 || near < 0.013 && v > near {
			continue
		}
		lg, _ := math.Lgamma(k + 1)
		if math.Log(v*inverse/(a/(near*near)+b)) <= k*math.Log(mu)-mu-lg {
			return uint64(k)
		}
	}
}

// binomial draws how many of n happen, each with probability p: by inversion
// where few do, by Hörmann's BTRS (1993) elsewhere. Both are exact.
func (d dice) binomial(n uint64, p float64) uint64 {
	switch {
	case n == 0 || !(p > 0):
		return 0
	case p >= 1:
		return n
	case p > 0.5:
		return n - d.binomial(n, 1-p)
	}
	m := float64(n)
	if m*p < 10 {
		return d.fewOf(m, p)
	}
	spread := math.Sqrt(m * p * (1 - p))
	b := 1.15 + 2.53*spread
	a := -0.0873 + 0.0248*b + 0.01*p
	quick := 0.92 - 4.2/b
	mode := math.Floor((m + 1) * p)
	top := lgamma(mode+1) + lgamma(m-mode+1)
	for {
		u, v := d.Float64()-0.5, d.Float64()
		near := 0.5 - math.Abs(u)
		k := math.Floor((2*a/near+b)*u + m*p + 0.5)
		if near >= 0.07 && v <= quick {
			return uint64(k)
		}
		if k < 0 || k > m {
			continue
		}
		v *= (2.83 + 5.1/b) * spread / (a/(near*near) + b)
		if math.Log(v) <= top-lgamma(k+1)-lgamma(m-k+1)+(k-mode)*math.Log(p/(1-p)) {
			return uint64(k)
		}
	}
}

// fewOf jumps from one that happens to the next: the gaps are geometric.
func (d dice) fewOf(n, p float64) uint64 {
	k, at, each := uint64(0), 0.0, math.Log1p(-p)
	for {
		at += math.Floor(math.Log(1-d.Float64())/each) + 1
		if at > n {
			return k
		}
		k++
	}
}

func lgamma(x float64) float64 {
	v, _ := math.Lgamma(x)
	return v
}

// upperShare is the upper confidence limit of a share of which k of n were
// seen (Clopper and Pearson, 1934, one-sided): the share at which so few would
// be seen with probability 1-confidence.
func upperShare(k, n int, confidence float64) float64 {
	if k >= n {
		return 1
	}
	low, high := float64(k)/float64(n), 1.0
	for range 60 {
		if mid := (low + high) / 2; atMost(k, n, mid) > 1-confidence {
			low = mid
		} else {
			high = mid
		}
	}
	return high
}

// atMost is the probability that at most k of n happen, each with probability p.
func atMost(k, n int, p float64) float64 {
	sum := 0.0
	for i := range k + 1 {
		x, m := float64(i), float64(n)
		sum += math.Exp(lgamma(m+1) - lgamma(x+1) - lgamma(m-x+1) + x*math.Log(p) + (m-x)*math.Log1p(-p))
	}
	return sum
}
