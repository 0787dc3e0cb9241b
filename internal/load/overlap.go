package load

import (
	"fmt"
	"time"
)

// Drain is the time in which an instance was drained: From its leaving the
// pick To its being told to stop.
type Drain struct {
	Instance string
	From, To time.Time
}

// Overlaps checks that a test proved something: on each drained instance at
// least one slow request, one upload and one WebSocket must have been under
// way when its drain began or after. Otherwise losing nothing was luck and the
// test is void; there is one error per missing kind. Where the load has fewer
// kinds, say which. Call it with the samples of a stopped Run.
func Overlaps(samples []Sample, drains []Drain, kinds ...Kind) []error {
	if len(kinds) == 0 {
		kinds = []Kind{Slow, Upload, WebSocket}
	}
	var errs []error
	for _, d := range drains {
		for _, kind := range kinds {
			if !overlaps(samples, d, kind) {
				errs = append(errs, fmt.Errorf("void: no %s sample overlaps the drain of %s (%s, %s)",
					kind, d.Instance, d.From.Format("15:04:05.000"), d.To.Sub(d.From).Round(time.Millisecond)))
			}
		}
	}
	return errs
}

func overlaps(samples []Sample, d Drain, kind Kind) bool {
	for _, s := range samples {
		if s.Kind == kind && s.Instance == d.Instance && s.Start.Before(d.To) && s.End.After(d.From) {
			return true
		}
	}
	return false
}
