package daemon

import (
	"slices"
	"time"

	"gapless"
	"gapless/internal/judge"
)

// stableRecord is what is known of a release that serves alone: how its
// instances differ from each other, what it answered and how long that took. It
// is of the last hour and small; JSON carries it. No I/O and no clock here.
type stableRecord struct {
	Release string         `json:"release"`
	Slices  []recordSlice  `json:"slices"`  // of the last hour, oldest first
	Minutes []recordMinute `json:"minutes"` // of the last ten, oldest first
}

// recordSlice sums up what was seen in sliceTime from Began on.
type recordSlice struct {
	Began    time.Time                           `json:"began"`
	Requests uint64                              `json:"requests"`
	Bad      uint64                              `json:"bad"`
	Windows  int                                 `json:"windows,omitempty"` // in which instances could be compared
	Errors   judge.Dispersion                    `json:"errors,omitzero"`
	Slow     [gapless.Quantiles]judge.Dispersion `json:"slow,omitzero"`
}

// recordMinute has the latencies of one minute, without the zeros at the end.
type recordMinute struct {
	Began   time.Time `json:"began"`
	Latency []uint64  `json:"latency"` // see gapless.LatencyBucket
}

const (
	windowTime = 10 * time.Second // in which instances are compared
	sliceTime  = 10 * time.Minute
	recordTime = time.Hour
	recentTime = 10 * time.Minute // latencies follow the hour of the day
)

// enoughLatencies is how many requests must be known before those slower than
// a quantile can be told.
var enoughLatencies = [gapless.Quantiles]uint64{100, 100, 1000}

// recordWindow is what happened in one window.
type recordWindow struct {
	requests, bad uint64
	latency       []uint64
	instances     []instanceWindow // that can be compared; nil: none
}

// instanceWindow is what one instance did in it.
type instanceWindow struct {
	bad     uint64
	latency []uint64
}

// add takes in the window that ended at now.
func (r *stableRecord) add(now time.Time, w recordWindow) {
	r.forget(now)
	began := now.Truncate(sliceTime)
	if n := len(r.Slices); n == 0 || !r.Slices[n-1].Began.Equal(began) {
		r.Slices = append(r.Slices, recordSlice{Began: began})
	}
	s := &r.Slices[len(r.Slices)-1]
	s.Requests, s.Bad = s.Requests+w.requests, s.Bad+w.bad
	if len(w.instances) > 1 {
		r.compare(s, w.instances)
	}
	if !slices.ContainsFunc(w.latency, func(n uint64) bool { return n > 0 }) {
		return
	}
	minute := now.Truncate(time.Minute)
	if n := len(r.Minutes); n == 0 || !r.Minutes[n-1].Began.Equal(minute) {
		r.Minutes = append(r.Minutes, recordMinute{Began: minute})
	}
	m := &r.Minutes[len(r.Minutes)-1]
	m.Latency = plusCounts(m.Latency, w.latency)
}

// compare adds how much instances differed: in bad answers, and in requests
// that were slower than the release's own quantiles before. What they were
// given may differ, so slow requests are compared with what each was given.
func (r *stableRecord) compare(s *recordSlice, all []instanceWindow) {
	s.Windows++
	bad := make([]uint64, len(all))
	for i, x := range all {
		bad[i] = x.bad
	}
	s.Errors = s.Errors.Observe(bad)
	before, known := r.latency()
	for q, over := range gapless.Over() {
		if known < enoughLatencies[q] {
			continue
		}
		limit := gapless.LatencyBucket(gapless.Quantile(before, 1-over))
		slow, given := make([]uint64, len(all)), make([]uint64, len(all))
		for i, x := range all {
			for b, n := range x.latency {
				given[i] += n
				if b > limit {
					slow[i] += n
				}
			}
		}
		s.Slow[q] = s.Slow[q].ObserveOf(slow, given)
	}
}

// forget drops what is too old, or of a future that a clock showed by mistake.
func (r *stableRecord) forget(now time.Time) {
	old := func(began time.Time, d time.Duration) bool { return began.Before(now.Add(-d)) || began.After(now) }
	r.Slices = slices.DeleteFunc(r.Slices, func(s recordSlice) bool { return old(s.Began, recordTime) })
	r.Minutes = slices.DeleteFunc(r.Minutes, func(m recordMinute) bool { return old(m.Began, recentTime) })
}

// latency is the histogram of the last minutes, and of how many requests.
func (r *stableRecord) latency() (all []uint64, total uint64) {
	for _, m := range r.Minutes {
		all = plusCounts(all, m.Latency)
	}
	for _, n := range all {
		total += n
	}
	return all, total
}

// arm is what was answered in the last hour.
func (r *stableRecord) arm() (all gapless.Arm) {
	for _, s := range r.Slices {
		all.Requests, all.Bad = all.Requests+s.Requests, all.Bad+s.Bad
	}
	return all
}

// phi is the dispersion of bad answers, and of requests slower than each
// quantile. Unless known there were no two instances to compare.
func (r *stableRecord) phi() (errors float64, slow [gapless.Quantiles]float64, known bool) {
	var sum recordSlice
	for _, s := range r.Slices {
		sum.Windows += s.Windows
		sum.Errors = sum.Errors.Plus(s.Errors)
		for q := range slow {
			sum.Slow[q] = sum.Slow[q].Plus(s.Slow[q])
		}
	}
	errors = phiOf(sum.Errors)
	for q := range slow {
		slow[q] = phiOf(sum.Slow[q])
	}
	return errors, slow, sum.Windows > 0
}

// phiOf is what a judge takes, whatever a file says.
func phiOf(d judge.Dispersion) float64 {
	if phi, _ := d.Phi(); phi <= mostPhi { // false for NaN
		return phi
	}
	return 1
}

// mostPhi is more than any instances differ.
const mostPhi = 1e6

// plusCounts adds histograms of different lengths; sum may be changed.
func plusCounts(sum, more []uint64) []uint64 {
	n := len(more)
	for n > 0 && more[n-1] == 0 {
		n--
	}
	for len(sum) < n {
		sum = append(sum, 0)
	}
	for b, k := range more[:n] {
		sum[b] += k
	}
	return sum
}
