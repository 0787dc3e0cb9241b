package judge

import "math"

// bets are bets on several alternatives, by the logarithms of what has become
// of the stake of 1 that was put on each. The mean of bets that are fair under
// one hypothesis is fair under it, too; so a grid of alternatives needs no
// correction (Robbins' method of mixtures, with a grid for the prior).
type bets struct {
	n    int // alternatives
	logs [mostAlternatives]float64
}

// mostAlternatives is the length of the longest grid.
const mostAlternatives = 41

// lnE is the logarithm of the mean. The largest is taken out first: no overflow.
func (b *bets) lnE() float64 {
	logs := b.logs[:b.n]
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
	return top + math.Log(sum/float64(b.n))
}

// after is b after n more events, each of which adds step.
func (b *bets) after(n float64, step *bets) bets {
	next := *b
	for k := range b.n {
		next.logs[k] += n * step.logs[k]
	}
	return next
}

// mostNeeded bounds the search for how many more events decide; beyond it
// nobody waits.
const mostNeeded = 1 << 24

// needed is about the number of further events that bring lnE to threshold, 0
// if there is none up to mostNeeded or it is there already. As a function of
// that number lnE is convex. One alternative alone reaches the threshold at the
// latest so late as its own bet does; from there Newton's method goes back to
// where the mixture does.
func (b *bets) needed(step *bets, threshold float64) uint64 {
	if b.lnE() >= threshold {
		return 0
	}
	n := math.Inf(1)
	for k := range b.n {
		if step.logs[k] > 0 {
			n = min(n, (threshold+math.Log(float64(b.n))-b.logs[k])/step.logs[k])
		}
	}
	if n > mostNeeded {
		return 0
	}
	for range 8 {
		at := b.after(n, step)
		lnE, slope := at.lnE(), 0.0
		for k := range at.n {
			slope += step.logs[k] * math.Exp(at.logs[k]-lnE) / float64(at.n)
		}
		less := (lnE - threshold) / slope
		n -= less
		if less < 0.001*n {
			break
		}
	}
	return max(1, uint64(math.Ceil(n)))
}

// fewest is the smallest n from which on decides is true, 0 if it is not even
// for mostNeeded, or for 0 already.
func fewest(decides func(n uint64) bool) uint64 {
	if decides(0) {
		return 0
	}
	low, high := uint64(0), uint64(1) // low does not decide
	for !decides(high) {
		if low, high = high, 2*high; high > mostNeeded {
			return 0
		}
	}
	for high-low > 1 {
		if mid := low + (high-low)/2; decides(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return high
}
