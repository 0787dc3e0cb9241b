package judge

// ladder are the shares that a ramp gives before all is given. The last one
// leaves stable half of the requests to compare with.
var ladder = [...]float64{0.01, 0.02, 0.05, 0.1, 0.25, 0.5}

// boundAtFirst is what is assumed before anything is known, or when less is
// known: a candidate that gives more than a tenth bad answers is taken back
// after some thirty requests, before a share that rises matters. So a ramp
// begins at the share at which a tenth uses up the budget: 5 % with the usual
// one. Two or three bad answers in a row decide there, and evidence comes five
// times as fast as at 1 %.
const boundAtFirst = 0.1

// share is the largest share of all requests that the candidate may have now:
// with probability 95 %, for all looks together, not more than the budget of
// all requests fails because of it. While instances warm up it does not rise.
// A share that the candidate has already it loses only when the bound has got
// twice too large for it; a bound that was proven once still holds when a
// later one is a little wider.
func (c *Config) share(bound, now float64, warming bool) float64 {
	bound = min(bound, boundAtFirst)
	share := ladder[0]
	for _, w := range ladder {
		fits := w*bound <= c.Budget*(1+1e-9)
		rises := w > max(now, c.first())+1e-9
		keeps := w <= now+1e-9 && w*bound <= 2*c.Budget*(1+1e-9)
		if fits && !(warming && rises) || keeps {
			share = w
		}
	}
	return share
}

// first is the share that a ramp begins with.
func (c *Config) first() float64 {
	first := ladder[0]
	for _, w := range ladder {
		if w*boundAtFirst <= c.Budget*(1+1e-9) {
			first = w
		}
	}
	return first
}
