package judge

import (
	"math"
	"math/rand/v2"
	"testing"

	"gapless"
)

// What each bet is worth on average is summed up over all ways that a few
// requests can end, each with its probability. It is at most 1, the stake,
// wherever the hypothesis that the bet is against holds: whatever the rates are
// and however they drift, and though the weight follows what was seen. This is
// the one property that all guarantees rest on.

// outcome is how one request of a release can end.
type outcome struct {
	tally gapless.Tally
	p     float64
}

// mean sums up worth over all ways of n requests. at says how the next one can
// end, for each release, after so many requests and bad or slow ones.
func mean(j Judge, n, seen, struck int, weight func(seen, struck int) float64, at func(seen int, candidate bool) []outcome, worth func(Judge) float64) float64 {
	if seen == n {
		return worth(j)
	}
	w, total := weight(seen, struck), 0.0
	for _, candidate := range []bool{false, true} {
		release, coin := "v1", 1-w
		if candidate {
			release, coin = "v2", w
		}
		for _, o := range at(seen, candidate) {
			if o.p == 0 {
				continue
			}
			t := o.tally
			t.Release, t.Weight, t.Requests = release, w, 1
			hit := struck
			if t.Bad > 0 || t.Paces.Worse[0].Slow+t.Paces.Margin[0].Slow > 0 {
				hit++
			}
			total += coin * o.p * mean(j.Observe([]gapless.Tally{t}), n, seen+1, hit, weight, at, worth)
		}
	}
	return total
}

// scenery is rates that drift and weights that follow what was seen.
type scenery struct {
	rates   [8]float64
	weights [4]float64
}

func newScenery(r *rand.Rand) (s scenery) {
	for i := range s.rates {
		s.rates[i] = r.Float64() * 0.9
	}
	for i := range s.weights {
		s.weights[i] = 0.01 + 0.9*r.Float64()
	}
	return s
}

func (s *scenery) weight(seen, struck int) float64 { return s.weights[(seen+2*struck)%4] }

func TestBetsAreFair(t *testing.T) {
	bad := func(p float64) []outcome {
		return []outcome{{gapless.Tally{Bad: 1}, p}, {gapless.Tally{}, 1 - p}}
	}
	slow := func(i int, p float64) []outcome {
		var s, f gapless.Paces
		s.Worse[i].Slow, s.Margin[i].Slow, f.Worse[i].Fast, f.Margin[i].Fast = 1, 1, 1, 1
		return []outcome{{gapless.Tally{Paces: s}, p}, {gapless.Tally{Paces: f}, 1 - p}}
	}
	both := func(i int, p float64) (all []outcome) { // slow ones are bad, too
		for _, o := range slow(i, p) {
			o.tally.Bad = o.tally.Paces.Worse[i].Slow
			all = append(all, o)
		}
		return all
	}
	lnE := func(b bets) float64 { return math.Exp(b.lnE()) }
	const margin = 0.1
	for name, test := range map[string]struct {
		at     func(r *rand.Rand, rate, luck float64, i int, candidate bool) []outcome // under the hypothesis; luck, 0…1, is how far from its edge
		beyond func(rate float64, i int, candidate bool) []outcome                     // where it is wrong
		worth  func(j Judge, i int) float64
	}{
		"errors": {
			func(r *rand.Rand, rate, luck float64, i int, candidate bool) []outcome {
				if candidate {
					rate *= 1 - luck
				}
				return bad(rate)
			},
			func(rate float64, i int, candidate bool) []outcome {
				if candidate {
					return bad(min(1, 3*rate))
				}
				return bad(rate)
			},
			func(j Judge, i int) float64 { return math.Exp(j.sight(0).terms[0].LnE) },
		},
		"slower": {
			func(r *rand.Rand, rate, luck float64, i int, candidate bool) []outcome {
				if candidate {
					rate *= 1 - luck
				}
				return slow(i, rate)
			},
			func(rate float64, i int, candidate bool) []outcome {
				if candidate {
					return slow(i, 1)
				}
				return slow(i, gapless.Over()[i])
			},
			func(j Judge, i int) float64 { return lnE(j.Config.slower(i).on(j.Rows, i, (*Row).worse)) },
		},
		"all together": {
			func(r *rand.Rand, rate, luck float64, i int, candidate bool) []outcome {
				if candidate {
					rate *= 1 - luck
				}
				return both(i, rate)
			},
			func(rate float64, i int, candidate bool) []outcome {
				if candidate {
					return both(i, 1)
				}
				return both(i, gapless.Over()[i])
			},
			func(j Judge, i int) float64 { return math.Exp(j.sight(0).lnE) },
		},
		"excess": {
			func(r *rand.Rand, rate, luck float64, i int, candidate bool) []outcome {
				if candidate {
					rate = min(1, rate+margin+luck)
				}
				return bad(rate)
			},
			func(rate float64, i int, candidate bool) []outcome {
				if candidate {
					return bad(0)
				}
				return bad(0.5)
			},
			func(j Judge, i int) float64 { return lnE(j.Config.excess().on(j.Rows, margin)) },
		},
		"not slower": {
			func(r *rand.Rand, rate, luck float64, i int, candidate bool) []outcome {
				if candidate {
					rate += (1 - rate) * luck
				}
				return slow(i, rate)
			},
			func(rate float64, i int, candidate bool) []outcome {
				if candidate {
					return slow(i, 0)
				}
				return slow(i, 0.5)
			},
			func(j Judge, i int) float64 { return lnE(j.Config.notSlower(i).on(j.Rows, i, (*Row).margin)) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(21, 22))
			wins := 0
			for range 40 {
				s := newScenery(r)
				eta := 1 + 4*r.Float64()*float64(r.IntN(2))
				j := fresh(t, Config{Phi: eta, PhiSlow: [gapless.Quantiles]float64{eta, eta, eta}})
				i, luck := r.IntN(gapless.Quantiles), r.Float64()*float64(r.IntN(2))
				worth := func(j Judge) float64 { return test.worth(j, i) }
				fair := mean(j, 4, 0, 0, s.weight, func(seen int, candidate bool) []outcome {
					return test.at(r, s.rates[seen]*(1-margin), luck, i, candidate)
				}, worth)
				if fair > 1+1e-9 {
					t.Fatalf("mean %v of the stake, with %+v, luck %v, quantile %d", fair, s, luck, i)
				}
				unfair := mean(j, 4, 0, 0, s.weight, func(seen int, candidate bool) []outcome { return test.beyond(s.rates[seen], i, candidate) }, worth)
				if unfair > 1 {
					wins++
				}
			}
			if wins < 20 {
				t.Errorf("only %d of 40 bets win where they should", wins)
			}
		})
	}
}

// A candidate that is just as much worse as a margin forbids is seldom said to
// keep it, at whatever moment one looks. Simulated, with fixed seeds.
func TestFalseProofs(t *testing.T) {
	const runs, looks, beta = 300, 70, 0.05
	most := int(beta*runs + 3*math.Sqrt(beta*(1-beta)*runs))
	r := rand.New(rand.NewPCG(31, 32))
	hits := func(n int, p float64) (k uint64) {
		for range n {
			if r.Float64() < p {
				k++
			}
		}
		return k
	}
	for test := range 1 + gapless.Quantiles {
		wrong, right := 0, 0
		for run := range runs {
			better := run%10 == 0 // some are fine: the proof can be had
			j := fresh(t, Config{})
			for look := range looks {
				w := []float64{0.05, 0.1, 0.25}[look/25]
				n := 30 * (look/10 + 1)
				others := int(float64(n) * (1 - w) / w)
				c, s := gapless.Tally{Release: "v2", Weight: w, Requests: uint64(n)}, gapless.Tally{Release: "v1", Weight: w, Requests: uint64(others)}
				if test == 0 {
					p := 0.01
					s.Bad = hits(others, p)
					if !better {
						p += j.Config.Errors
					}
					c.Bad = hits(n, p)
				} else {
					q := gapless.Over()[test-1]
					cs, ss := &c.Paces.Margin[test-1], &s.Paces.Margin[test-1]
					ss.Slow = hits(others, q)
					if better {
						q *= 0.5
					}
					cs.Slow = hits(n, q)
					cs.Fast, ss.Fast = uint64(n)-cs.Slow, uint64(others)-ss.Slow
				}
				j = j.Observe([]gapless.Tally{c, s})
				if proofs, _ := j.sight(w).prove(); proofs[test].Proven {
					if better {
						right++
					} else {
						wrong++
					}
					break
				}
			}
		}
		if wrong > most {
			t.Errorf("test %d: %d of %d proofs are false", test, wrong, runs)
		}
		if right < runs/10/2 {
			t.Errorf("test %d: only %d of %d good ones are proven", test, right, runs/10)
		}
	}
}

// The bound is an upper one for all looks together.
func TestBoundHolds(t *testing.T) {
	const runs, beta = 200, 0.05
	r := rand.New(rand.NewPCG(41, 42))
	broken, last := 0, 0.0
	for range runs {
		j := fresh(t, Config{})
		const weight, stable, candidate = 0.1, 0.01, 0.03
		for look := range 40 {
			var c, s gapless.Tally
			c, s = gapless.Tally{Release: "v2", Weight: weight}, gapless.Tally{Release: "v1", Weight: weight}
			for range 100 * (1 + look/4) {
				t, p := &s, stable
				if r.Float64() < weight {
					t, p = &c, candidate
				}
				t.Requests++
				if r.Float64() < p {
					t.Bad++
				}
			}
			j = j.Observe([]gapless.Tally{c, s})
			last = j.Config.excess().bound(j.Rows, j.Config.proof())
			if last < candidate-stable {
				broken++
				break
			}
		}
	}
	if most := int(beta*runs + 3*math.Sqrt(beta*(1-beta)*runs)); broken > most {
		t.Errorf("the bound was too small in %d of %d runs", broken, runs)
	}
	if last > 0.08 {
		t.Errorf("the bound is still %v after 2000 requests of the candidate", last)
	}
}
