package judge

import (
	"math"
	"slices"
	"time"

	"gapless"
)

// warming is a time in which latencies are no evidence, because an instance is
// new: caches fill and code is compiled while it serves its first requests.
// Neither release's requests are counted then: without the candidate's alone
// the coin would be another one.
//
// Its end follows from what is seen. The candidate's requests are cut into
// blocks, each of at least warmBlock requests and half as long as all before
// it together. Once a block is not slower than stable is meanwhile, the
// candidate is warm. If it is slower, it may be slower for good, so it counts
// as warm once it gets no faster any more: after warmLeast, when a block is
// not faster than those before. Config.WarmUp ends it anyway. All of this is
// known before the requests that are then counted, so what is bet on them is
// as fair as ever.
type warming struct {
	Since  time.Time `json:"since"`  // when the candidate had its first requests; zero: it had none
	Start  time.Time `json:"start"`  // of the block
	Before histogram `json:"before"` // the candidate's requests of the blocks before
	Block  histogram `json:"block"`  // the candidate's of this one
	Stable histogram `json:"stable"` // and stable's meanwhile
}

const (
	warmBlock = 20
	warmLeast = 15 * time.Second
)

// warm begins to warm up where an instance is new, and ends it.
func (l *Learned) warm(c *Config, look gapless.LatencyLook) {
	if c.WarmUp < 0 {
		return
	}
	if l.meet(look.Instances) {
		l.Warming = &warming{}
	}
	if l.Warming == nil {
		return
	}
	w := *l.Warming
	w.Block.add(look.Candidate)
	w.Stable.add(look.Stable)
	n := w.Block.total()
	switch {
	case w.Since.IsZero() && n == 0:
		w.Stable = histogram{} // of the time in which nobody compares
	case w.Since.IsZero():
		w.Since, w.Start = l.At, l.At
	}
	over := !w.Since.IsZero() && l.At.Sub(w.Since) >= c.WarmUp.Std()
	if !over && n >= warmBlock && l.At.Sub(w.Start) >= w.Start.Sub(w.Since)/2 {
		over = !l.slower(&w) || l.At.Sub(w.Since) >= warmLeast && !w.faster()
		for b := range w.Before {
			w.Before[b] += w.Block[b]
		}
		w.Start, w.Block, w.Stable = l.At, histogram{}, histogram{}
	}
	l.Warming = &w
	if over {
		l.Warming = nil
		l.Candidate, l.Stable = histogram{}, histogram{}
	}
}

// meet notes the instances that serve and reports whether one is new. Of those
// that serve no more it forgets the oldest where there are many.
func (l *Learned) meet(serving []string) bool {
	isNew := func(id string) bool { return !slices.Contains(l.Instances, id) }
	if !slices.ContainsFunc(serving, isNew) {
		return false
	}
	gone := slices.DeleteFunc(slices.Clone(l.Instances), func(id string) bool { return slices.Contains(serving, id) })
	gone = gone[min(len(gone), max(0, len(gone)+len(serving)-mostInstances)):]
	l.Instances = append(gone, serving...)
	return true
}

// slower reports whether the candidate's block is slower than stable: at the
// same time if there are requests enough, else than it usually is. Not known
// is slower.
func (l *Learned) slower(w *warming) bool {
	by, m := &w.Stable, w.Stable.total()
	if m < warmBlock {
		by, m = &l.Usual, min(l.Usual.total(), record)
	}
	if m < warmBlock {
		return true
	}
	n := w.Block.total()
	for _, q := range []float64{0.5, 0.1} {
		noise := math.Sqrt(q * (1 - q) * (1/n + 1/m))
		if w.Block.over(by.quantile(1-q)) > q+1.64*noise { // 5 % of all blocks that are as fast
			return true
		}
	}
	return false
}

// faster reports whether the block is faster than those before it. A hint of
// it is enough: who ends a warm-up too early cries wolf.
func (w *warming) faster() bool {
	n, m := w.Block.total(), w.Before.total()
	if m < warmBlock {
		return true
	}
	noise := math.Sqrt(0.25 * (1/n + 1/m))
	return w.Block.over(w.Before.quantile(0.5)) < 0.5-0.5*noise
}
