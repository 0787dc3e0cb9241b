package notify

import "time"

// How long and how often is tried, and how many messages a target gets.
const (
	firstWait = 2 * time.Second
	mostWait  = 10 * time.Minute
	mostAfter = time.Hour      // of a Retry-After
	GiveUp    = 24 * time.Hour // after so long a message is dropped

	Burst    = 10              // messages at once
	Every    = 6 * time.Second // and then one in so long
	MostHeld = 200             // messages that wait for one target; from then on they are put together
)

// Wait is how long to wait after attempt number tries (1…) failed: twice as
// long each time, less a random part of up to a half, and no less than after.
// random is in [0,1).
func Wait(tries int, random float64, after time.Duration) time.Duration {
	d := mostWait
	if tries = max(tries, 1); tries < 20 {
		d = min(firstWait<<(tries-1), mostWait)
	}
	return max(d-time.Duration(random*float64(d)/2), min(after, mostAfter))
}

// Pace is how many more messages a target may get: a bucket of Burst that
// fills by one in Every. The zero value is full.
type Pace struct {
	Spent float64   `json:"spent"`
	At    time.Time `json:"at"`
}

// left is the bucket at now.
func (p Pace) left(now time.Time) float64 {
	spent := p.Spent - max(0, now.Sub(p.At).Seconds())/Every.Seconds()
	return Burst - max(0, spent)
}

// Take is the pace after one more message was sent at now.
func (p Pace) Take(now time.Time) Pace {
	return Pace{Spent: Burst - p.left(now) + 1, At: now}
}

// Next says what to do with n messages that are due for a target: send the
// first alone, put all of them into one, or wait. Messages are put together
// from the moment that they came too fast, so that the last places of the
// bucket tell what there is instead of how it began.
func (p Pace) Next(n int, now time.Time) (send, fold bool, wait time.Duration) {
	left := p.left(now)
	switch {
	case n == 0:
		return false, false, 0
	case left < 1:
		return false, false, time.Duration((1 - left) * float64(Every))
	case n > 1 && left < 2:
		return false, true, 0
	}
	return true, false, 0
}
