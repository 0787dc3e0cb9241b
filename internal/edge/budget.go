package edge

import (
	"cmp"
	"math"
	"sync"
	"time"

	"gapless"
)

// budget bounds how many requests of one app are repeated: a share of what
// came in the last seconds, and a few beside. So an app that is down is not
// asked twice as often as one that is well. Requests cost nothing: what they
// earn is looked up when one is to be repeated.
type budget struct {
	mu       sync.Mutex
	share    float64
	requests func() uint64 // so far
	seen     uint64        // of them are in tokens
	at       int64         // edge clock
	tokens   float64
}

const (
	retryRate = 3.0              // per second, beside that
	retrySpan = 10 * time.Second // over which what was earned fades
)

func newBudget(now int64) *budget {
	return &budget{at: now, tokens: retryRate * retrySpan.Seconds()}
}

// earn sets what the budget lives on from now on. Counts of requests may be
// others than before: what they had earned is kept.
func (b *budget) earn(share float64, requests func() uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.requests != nil {
		// At the clock of the last look: no time passes here, so that a table
		// neither gives nor takes.
		if n := b.requests(); n > b.seen {
			b.tokens += b.share * float64(n-b.seen)
		}
	}
	b.share, b.requests = cmp.Or(share, gapless.DefaultRetries), requests
	b.seen = requests()
}

// take takes one repetition, if there is one left.
func (b *budget) take(now int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.requests()
	d := max(time.Duration(now-b.at), 0)
	b.tokens = earned(b.tokens, b.share*float64(n-min(n, b.seen)), d)
	b.seen, b.at = n, max(now, b.at)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// earned is what a budget has after d in which requests earned gain: all of it
// fades with the time constant retrySpan while more comes evenly.
func earned(tokens, gain float64, d time.Duration) float64 {
	const span = float64(retrySpan)
	keep := math.Exp(-float64(d) / span)
	come := retryRate * retrySpan.Seconds() * (1 - keep)
	if d > 0 {
		come += gain * (1 - keep) * span / float64(d)
	} else {
		come += gain
	}
	return tokens*keep + come
}

// mayRepeat takes one repetition from the budget of the app. It books if there
// is none left.
func (x *exchange) mayRepeat() bool {
	t := x.chosen.balance
	if t == nil || t.budget.take(x.edge.now()) {
		return true
	}
	x.chosen.traffic.spent.Add(1)
	return false
}
