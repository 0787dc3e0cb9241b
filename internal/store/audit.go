package store

import (
	"context"
	"encoding/json"
	"time"

	"gapless"
)

// Bounds of the audit: older entries are dropped.
const (
	actsKept = 100_000
	actsAge  = 400 * 24 * time.Hour // a year and a bit
)

// AddAct appends to the audit.
func (s *Store) AddAct(ctx context.Context, a gapless.Act) error {
	data, err := json.Marshal(a)
	if err != nil {
		return err
	}
	res, err := s.db.ExecContext(ctx, "INSERT INTO audit (time, app, rollout, data) VALUES (?, ?, ?, ?)", stamp(a.Time), a.App, a.Rollout, string(data))
	if err != nil {
		return failed("save the audit", s.seen(err))
	}
	if seq, err := res.LastInsertId(); err == nil && seq%100 == 0 {
		return s.trimAudit(ctx, seq-actsKept, a.Time.Add(-actsAge))
	}
	return nil
}

// trimAudit drops entries up to a number, and from before a time.
func (s *Store) trimAudit(ctx context.Context, upTo int64, before time.Time) error {
	return s.exec(ctx, "the audit", "DELETE FROM audit WHERE seq <= ? OR time < ?", upTo, stamp(before))
}

// Acts lists up to limit entries after number seq, oldest first: of one app,
// or of all where app is "", and from a time on.
func (s *Store) Acts(ctx context.Context, app string, since time.Time, seq int64, limit int) ([]gapless.Act, error) {
	return list[gapless.Act](ctx, s, "the audit",
		"SELECT json_set(data, '$.seq', seq) FROM audit WHERE seq > ? AND (? = '' OR app = ?) AND time >= ? ORDER BY seq LIMIT ?",
		seq, app, app, stamp(since), limit)
}

// Starters tells who began the given rollouts, by rollout; those that nobody
// is known of are not in it.
func (s *Store) Starters(ctx context.Context, rollouts []string) (map[string]gapless.Caller, error) {
	names, err := json.Marshal(rollouts)
	if err != nil {
		return nil, err
	}
	acts, err := list[gapless.Act](ctx, s, "the audit",
		"SELECT data FROM audit WHERE rollout <> '' AND rollout IN (SELECT value FROM json_each(?)) ORDER BY seq", string(names))
	if err != nil {
		return nil, err
	}
	out := map[string]gapless.Caller{}
	for _, a := range acts {
		if _, known := out[a.Rollout]; !known {
			out[a.Rollout] = a.Caller
		}
	}
	return out, nil
}
