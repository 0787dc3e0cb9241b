package cli

import (
	"testing"

	"gapless"
	"gapless/internal/api"
)

// TestPresentReleases: v1 serves, v2 is kept, v3 was taken back.
func TestPresentReleases(t *testing.T) {
	a := api.AppStatus{Stable: "v1", Weights: []gapless.Weight{{Release: "v1", Share: 1}},
		Rollout: &gapless.Rollout{From: "v1", To: "v3", Outcome: gapless.TakenBack},
		Instances: []api.InstanceStatus{
			{Instance: gapless.Instance{Release: "v1"}, Role: "stable"},
			{Instance: gapless.Instance{Release: "v2"}, Role: "kept"},
		}}
	check := func(when string, want map[string]bool) {
		for name, want := range want {
			if got := presentRelease(a, name); got != want {
				t.Errorf("%s: %s is shown: %v", when, name, got)
			}
		}
	}
	check("at rest", map[string]bool{"v1": true, "v2": true, "v3": false})
	a.Rollout.Outcome = gapless.Running
	check("under way", map[string]bool{"v1": true, "v2": true, "v3": true})
	a.Weights, a.Instances = []gapless.Weight{{Release: "v4", Share: 1}}, nil
	check("while the route is behind", map[string]bool{"v1": true, "v2": false, "v4": true})
}
