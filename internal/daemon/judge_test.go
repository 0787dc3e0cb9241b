package daemon

import (
	"math"
	"testing"

	"gapless"
	"gapless/internal/judge"
)

// TestConfiguredJudge: what a deploy lets through the judge takes, and one
// number that it refuses keeps none of the others out.
func TestConfiguredJudge(t *testing.T) {
	base := judge.Config{Candidate: "v2", Stable: "v1"}
	values := []float64{math.Inf(-1), -1, -1e-9, 0, 1e-12, 1e-9, 9e-7, 1e-6, 4e-4, 5e-4, 0.01, 0.5, 0.6, 1, 1.1, 10, 11, math.Inf(1), math.NaN()}
	fields := map[string]func(*gapless.JudgeSpec) *float64{
		"max_errors": func(j *gapless.JudgeSpec) *float64 { return &j.MaxErrors },
		"alpha":      func(j *gapless.JudgeSpec) *float64 { return &j.Alpha },
		"errors":     func(j *gapless.JudgeSpec) *float64 { return &j.Errors },
		"budget":     func(j *gapless.JudgeSpec) *float64 { return &j.Budget },
		"p99":        func(j *gapless.JudgeSpec) *float64 { return &j.Slower[2] },
	}
	for name, field := range fields {
		taken := 0
		for _, v := range values {
			var spec gapless.JudgeSpec
			*field(&spec) = v
			if spec.Validate() != nil {
				continue
			}
			taken++
			if _, refused := configured(base, spec); len(refused) > 0 {
				t.Errorf("%s: %v is let through: %v", name, v, refused)
			}
		}
		if taken < 3 || taken == len(values) {
			t.Errorf("%s: %d of %d values are let through", name, taken, len(values))
		}
	}
	c, refused := configured(base, gapless.JudgeSpec{MaxErrors: 0.05, Errors: 1e-9, Budget: 0.02, Slower: [gapless.Quantiles]float64{0.2, 99, -1}})
	if len(refused) != 2 || c.PMax != 0.05 || c.Errors != 0 || c.Budget != 0.02 || c.Slower != [gapless.Quantiles]float64{0.2, 0, -1} {
		t.Errorf("%+v, refused %v", c, refused)
	}
}
