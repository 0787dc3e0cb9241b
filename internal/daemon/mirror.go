package daemon

import (
	"context"

	"gapless"
)

// Mirrored implements rollout.Mirrorer, from what the edges said last.
func (r *router) Mirrored(_ context.Context, app, rollout string) (map[string]gapless.MirrorCounts, error) {
	reports, _, any := r.evidence(app)
	if !any {
		return nil, gapless.Errorf(gapless.Unavailable, "no edge answers")
	}
	out := map[string]gapless.MirrorCounts{}
	for _, rep := range reports {
		for _, m := range rep.Mirrors {
			if m.App == app && m.Rollout == rollout && rep.Start != "" {
				out[rep.Start] = m.MirrorCounts
			}
		}
	}
	return out, nil
}
