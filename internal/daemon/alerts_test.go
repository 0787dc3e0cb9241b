package daemon

import (
	"context"
	"errors"
	"testing"
	"time"

	"gapless"
	"gapless/internal/rollout"
)

// fullDisk is a journal that saves nothing until it is free.
type fullDisk struct {
	rollout.Journal
	asked int
	free  bool
}

func (f *fullDisk) Save(ctx context.Context, s rollout.State) error {
	f.asked++
	if !f.free {
		return errors.New("no space left on device")
	}
	return f.Journal.Save(ctx, s)
}

// TestAlertThatCannotBeObeyed is tried again and again, and recorded once.
func TestAlertThatCannotBeObeyed(t *testing.T) {
	d := aDaemon(t)
	spec := onAddress("shop", "/")
	spec.Alerts = gapless.AlertPolicy{OnFiring: gapless.AlertPause}
	for _, name := range []string{"v1", "v2"} {
		d.releases["shop/"+name] = &gapless.Release{App: "shop", Name: name, Spec: spec}
	}
	now := time.Now()
	a := anApp(d, rollout.State{App: "shop", Stable: "v1", Entered: true, Rollout: &gapless.Rollout{ID: "r1", App: "shop", Kind: "deploy", From: "v1", To: "v2",
		Outcome: gapless.Running, Started: now.Add(-time.Minute), Plan: []gapless.Step{{Kind: gapless.StepJudge}, {Kind: gapless.StepPromote}}}})
	full := &fullDisk{Journal: a.runner.Journal}
	a.runner.Journal = full
	d.alerts.book.Alerts = []gapless.Alert{{ID: "a1", App: "shop", Name: "Errors", Since: now, Seen: now, Until: now.Add(time.Hour)}}
	recorded := func() []gapless.Act {
		acts, err := d.store.Acts(t.Context(), "shop", time.Time{}, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		return acts
	}
	for range 3 {
		d.obeyAlerts(t.Context())
	}
	if acts := recorded(); full.asked != 3 || len(acts) != 1 || acts[0].Outcome == gapless.ActOK {
		t.Errorf("%d tries, recorded %+v", full.asked, acts)
	}
	full.free = true
	for range 3 {
		d.obeyAlerts(t.Context())
	}
	if acts := recorded(); len(acts) != 2 || !a.runner.State().Paused {
		t.Errorf("recorded %+v, %+v", acts, a.runner.State().Rollout)
	}
}
