package gapless

import (
	"testing"
	"time"
)

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		refused int
		since   time.Duration
		want    bool
	}{
		{0, 0, false}, {1, time.Hour, false}, {3, 0, false}, {100, 499 * time.Millisecond, false},
		{3, 500 * time.Millisecond, true}, {1000, time.Minute, true},
	} {
		if got := (InstanceTraffic{Refused: c.refused, RefusedFor: Duration(c.since)}).Refuses(); got != c.want {
			t.Errorf("%d refused in %s: %v", c.refused, c.since, got)
		}
	}
}

func TestTallyThatCannotBe(t *testing.T) {
	for _, c := range []struct {
		t    Tally
		fine bool
	}{
		{Tally{Release: "v2", Weight: 0.25, Requests: 3, Bad: 3}, true},
		{Tally{Release: "v2", Weight: 0.25, Bad: 2, Late: 2}, true},
		{Tally{Release: "v2", Weight: 0.25, Requests: 1, Bad: 90}, false},
		{Tally{Release: "v2", Weight: 0.25, Requests: 1, Bad: 1, Late: 2}, false},
		{Tally{Weight: 0.25}, false}, {Tally{Release: "v2", Weight: -1}, false},
	} {
		if err := c.t.Validate(); (err == nil) != c.fine {
			t.Errorf("%+v: %v", c.t, err)
		}
	}
}
