package store

import (
	"context"
	"encoding/json"
	"errors"

	"gapless"
)

// SaveApp saves the engine's state of an app together with its rollout, so
// that both tell the same story after a crash.
func (s *Store) SaveApp(ctx context.Context, name string, state any, r *gapless.Rollout) error {
	data, err := json.Marshal(state)
	if err != nil {
		return err
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return failed("save app "+name, s.seen(err))
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO app (name, state) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET state = excluded.state", name, string(data))
	if err == nil && r != nil {
		var text []byte
		if text, err = json.Marshal(r); err == nil {
			_, err = tx.ExecContext(ctx, saveRollout, r.ID, name, stamp(r.Started), string(text))
		}
	}
	if err != nil {
		err = failed("save app "+name, s.seen(err))
		if undo := tx.Rollback(); gapless.CodeOf(err) != gapless.Unavailable { // on a full disk SQLite has rolled back itself
			err = errors.Join(err, undo)
		}
		return err
	}
	if err := tx.Commit(); err != nil {
		return failed("save app "+name, s.seen(err))
	}
	return nil
}

// SaveRollout saves a rollout alone. The engine's state of its app, which
// others save meanwhile, stays as it is.
func (s *Store) SaveRollout(ctx context.Context, r *gapless.Rollout) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return s.exec(ctx, "rollout "+r.ID, saveRollout, r.ID, r.App, stamp(r.Started), string(text))
}

const saveRollout = "INSERT INTO rollout (id, app, started, data) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET data = excluded.data"

// Apps lists the names of all apps.
func (s *Store) Apps(ctx context.Context) ([]string, error) {
	return list[string](ctx, s, "apps", "SELECT json_quote(name) FROM app ORDER BY name")
}

// App reads the engine's state of an app into state.
func (s *Store) App(ctx context.Context, name string, state any) error {
	return s.one(ctx, state, "app "+name, "SELECT state FROM app WHERE name = ?", name)
}

// Rollout returns one rollout.
func (s *Store) Rollout(ctx context.Context, id string) (*gapless.Rollout, error) {
	var r gapless.Rollout
	if err := s.one(ctx, &r, "rollout "+id, "SELECT data FROM rollout WHERE id = ?", id); err != nil {
		return nil, err
	}
	return &r, nil
}

// Rollouts lists an app's rollouts, newest first, at most limit.
func (s *Store) Rollouts(ctx context.Context, app string, limit int) ([]gapless.Rollout, error) {
	return list[gapless.Rollout](ctx, s, "rollouts", "SELECT data FROM rollout WHERE app = ? ORDER BY started DESC LIMIT ?", app, limit)
}
