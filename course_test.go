package gapless

import (
	"math"
	"testing"
	"time"
)

func TestCourseIsBoundedAndKeepsBothEnds(t *testing.T) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var course []Moment
	for i := range 36_000 { // an hour, ten times a second
		m := Moment{At: begin.Add(time.Duration(i) * 100 * time.Millisecond), LnE: float64(i)}
		before := append([]Moment{}, course...)
		next := Along(course, m)
		for k := range before {
			if !before[k].Equal(course[k]) {
				t.Fatalf("after %d moments the old course was changed", i)
			}
		}
		course = next
		if len(course) > MostMoments {
			t.Fatalf("%d moments after %d", len(course), i)
		}
		if !course[0].At.Equal(begin) || course[len(course)-1].LnE != float64(i) {
			t.Fatalf("after %d moments it goes from %v to %v", i, course[0], course[len(course)-1])
		}
		for k := 1; k < len(course); k++ {
			if !course[k].At.After(course[k-1].At) {
				t.Fatalf("after %d moments they are out of order", i)
			}
		}
	}
	if len(course) < MostMoments/2 {
		t.Errorf("only %d moments of an hour", len(course))
	}
	for k := 1; k < len(course); k++ {
		if gap := course[k].At.Sub(course[k-1].At); gap > 15*time.Minute {
			t.Errorf("nothing is known of %s", gap)
		}
	}
}

func TestMomentOfWhatJSONCannotSay(t *testing.T) {
	m := MomentOf(Verdict{Evidence: Figures{LnE: math.Inf(-1)}, Bound: 0.123456789, Bands: &Bands{Rate: Band{1.23456, math.Inf(1)}}}, time.Time{})
	if m.LnE != 0 || m.Bound != 0.1235 || m.Bands.Rate != (Band{1.235, 0}) {
		t.Errorf("%+v %+v", m, *m.Bands)
	}
}
