package load

import (
	"math/rand/v2"
	"time"
)

const (
	// maxUnderWay bounds the requests of one kind that wait or are under way.
	maxUnderWay = 4096
	// lateAfter is how far behind its schedule an arrival may be before it counts as late.
	lateAfter = 100 * time.Millisecond
)

// arrivals calls send at random (Poisson) arrival times of that rate per
// second until the run stops. It never waits for answers. send reports whether
// there was room for one more request.
func (r *Run) arrivals(rate float64, send func(due time.Time) bool) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	due := time.Now()
	for {
		due = due.Add(time.Duration(rand.ExpFloat64() / rate * float64(time.Second)))
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-r.stop:
				return
			case <-r.ctx.Done():
				return
			}
		} else if r.stopped() {
			return
		}
		late := time.Since(due) > lateAfter
		sent := send(due)
		if late || !sent {
			r.rec.late(!sent)
		}
	}
}

// schedule runs request in a goroutine of its own at each arrival.
func (r *Run) schedule(rate float64, request func(due time.Time)) {
	if rate <= 0 {
		return
	}
	room := make(chan struct{}, maxUnderWay)
	r.wg.Go(func() {
		r.arrivals(rate, func(due time.Time) bool {
			select {
			case room <- struct{}{}:
			default:
				return false
			}
			r.wg.Go(func() {
				request(due)
				<-room
			})
			return true
		})
	})
}
