package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"gapless"
	"gapless/internal/api"
)

// archive is a daemon that knows rollouts of the past.
type archive struct {
	api.Service // what a test does not expect panics
	all         []gapless.Rollout
}

func (a archive) Rollout(_ context.Context, id string) (gapless.Rollout, error) {
	for _, r := range a.all {
		if r.ID == id {
			return r, nil
		}
	}
	return gapless.Rollout{}, gapless.Errorf(gapless.NotFound, "no rollout %q", id)
}

func TestTakenBackLater(t *testing.T) {
	promoted := gapless.Rollout{ID: "r1", App: "shop", From: "v1", To: "v2", Outcome: gapless.Promoted}
	aborted := gapless.Rollout{ID: "r2", App: "shop", From: "v1", To: "v3", Outcome: gapless.TakenBack}
	fine := gapless.Rollout{ID: "r3", App: "shop", From: "v1", To: "v4", Outcome: gapless.Promoted}
	back := gapless.Rollout{ID: gapless.BackID("r1"), App: "shop", Kind: "rollback", From: "v2", To: "v1", Outcome: gapless.Promoted, Auto: true}
	client := api.NewClient(serve(t, archive{all: []gapless.Rollout{promoted, aborted, fine, back}}))
	for _, x := range []struct {
		r    gapless.Rollout
		want string
	}{{promoted, back.ID}, {aborted, ""}, {fine, ""}, {back, ""}} {
		got, err := takenBackBy(t.Context(), client, x.r)
		if err != nil || got != x.want {
			t.Errorf("%s: %q %v, want %q", x.r.ID, got, err, x.want)
		}
		var out bytes.Buffer
		x.r.Started = time.Now()
		(&command{term: &term{out: &out}}).printRollout(x.r, nil, got)
		if said := strings.Contains(out.String(), "taken back later: r1-back\n"); said != (x.want != "") {
			t.Errorf("%s is shown as\n%s", x.r.ID, out.String())
		}
	}
}
