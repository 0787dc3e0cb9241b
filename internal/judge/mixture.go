package judge

import "math"

// mixture is the logarithm of the mean of bets whose logarithms are given.
// The mean of bets that are fair under one hypothesis is fair under it too;
// so a grid of alternatives needs no correction (Robbins' method of mixtures,
// with a grid for the prior). The largest is taken out first: no overflow.
func mixture(logs []float64) float64 {
	top := math.Inf(-1)
	for _, l := range logs {
		top = max(top, l)
	}
	if math.IsInf(top, 0) {
		return top
	}
	sum := 0.0
	for _, l := range logs {
		sum += math.Exp(l - top)
	}
	return top + math.Log(sum/float64(len(logs)))
}
