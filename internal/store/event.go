package store

import (
	"context"
	"encoding/json"

	"gapless"
)

// eventsKept bounds the event log; older events are dropped.
const eventsKept = 100_000

// AddEvent appends an event and returns it with its number.
func (s *Store) AddEvent(ctx context.Context, e gapless.Event) (gapless.Event, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return e, err
	}
	res, err := s.db.ExecContext(ctx, "INSERT INTO event (time, app, rollout, data) VALUES (?, ?, ?, ?)", stamp(e.Time), e.App, e.Rollout, string(data))
	if err != nil {
		return e, failed("save event", s.seen(err))
	}
	e.Seq, err = res.LastInsertId()
	if err == nil && e.Seq%1000 == 0 {
		_, err = s.db.ExecContext(ctx, "DELETE FROM event WHERE seq <= ?", e.Seq-eventsKept)
	}
	return e, err
}

// Events lists the events of one rollout after number since, oldest first.
func (s *Store) Events(ctx context.Context, rollout string, since int64) ([]gapless.Event, error) {
	return list[gapless.Event](ctx, s, "events",
		"SELECT json_set(data, '$.seq', seq) FROM event WHERE rollout = ? AND seq > ? ORDER BY seq LIMIT 10000", rollout, since)
}
