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
// least one sample of each of these kinds must have been under way when its
// drain began or after. Otherwise losing nothing was luck and the test is
// void, as it is where nothing was drained; there is one error per missing
// kind. Call it with the samples of a stopped Run.
func Overlaps(samples []Sample, drains []Drain, need ...Kind) []error {
	if len(drains) == 0 || len(need) == 0 {
		return []error{fmt.Errorf("void: %d drains and %d kinds of traffic to look for", len(drains), len(need))}
	}
	var errs []error
	for _, d := range drains {
		for _, kind := range need {
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
