package edge

import (
	"testing"

	"gapless"
)

// TestCountedWeight: what is counted, and by which coin.
func TestCountedWeight(t *testing.T) {
	v1, v2 := func(s float64) gapless.Weight { return gapless.Weight{Release: "v1", Share: s} }, func(s float64) gapless.Weight { return gapless.Weight{Release: "v2", Share: s} }
	for _, c := range []struct {
		name    string
		weights []gapless.Weight
		want    float64
		counts  bool
	}{
		{"one alone", []gapless.Weight{v1(1)}, 0, false},
		{"a canary", []gapless.Weight{v1(0.9), v2(0.1)}, 0.1, true},
		{"after a flip", []gapless.Weight{v1(0), v2(1)}, 1, true},
		{"stable is watched", []gapless.Weight{v1(1), v2(0)}, 0, true},
		{"three", []gapless.Weight{v1(0.8), v2(0.1), {Release: "v3", Share: 0.1}}, 0, false},
	} {
		w, counts := countedWeight(gapless.Route{Stable: "v1", Weights: c.weights})
		if w != c.want || counts != c.counts {
			t.Errorf("%s: %v, %v", c.name, w, counts)
		}
	}
}
