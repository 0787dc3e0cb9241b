package daemon

import (
	"context"
	"iter"

	"gapless"
	"gapless/internal/api"
)

// Record implements api.Gate. An act that cannot be kept, on a full disk, is
// at least in the log: going back must not wait for the audit.
func (d *Daemon) Record(ctx context.Context, act gapless.Act) {
	if err := d.store.AddAct(ctx, act); err != nil {
		d.log.Error("the audit misses an act", "by", act.Caller, "verb", act.Verb, "app", act.App, "outcome", act.Outcome, "err", err)
	}
}

// actsAtOnce is how many entries are read in one go.
const actsAtOnce = 500

// Audit implements api.Service.
func (d *Daemon) Audit(ctx context.Context, req api.AuditRequest) (iter.Seq2[gapless.Act, error], error) {
	first, err := d.store.Acts(ctx, req.App, req.Since, 0, actsAtOnce)
	if err != nil {
		return nil, err
	}
	return func(yield func(gapless.Act, error) bool) {
		for acts := first; len(acts) > 0; {
			for _, a := range acts {
				if !yield(a, nil) {
					return
				}
			}
			var err error
			if acts, err = d.store.Acts(ctx, req.App, req.Since, acts[len(acts)-1].Seq, actsAtOnce); err != nil {
				yield(gapless.Act{}, err)
				return
			}
		}
	}, nil
}

// sign tells in each of the rollouts who asked for it.
func (d *Daemon) sign(ctx context.Context, list []gapless.Rollout) ([]gapless.Rollout, error) {
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	who, err := d.store.Starters(ctx, ids)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if c, ok := who[list[i].ID]; ok {
			list[i].By = c.String()
		}
	}
	return list, nil
}
