package store

import (
	"context"
	"encoding/json"

	"gapless"
)

// NextRelease returns the number that the app's next release gets.
func (s *Store) NextRelease(ctx context.Context, app string) (int, error) {
	var n int
	err := s.db.QueryRowContext(ctx, "SELECT coalesce(max(number), 0) + 1 FROM release WHERE app = ?", app).Scan(&n)
	if err != nil {
		return 0, failed("read releases of "+app, s.seen(err))
	}
	return n, nil
}

// SaveRelease adds a release; its name must be new.
func (s *Store) SaveRelease(ctx context.Context, number int, r *gapless.Release) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return s.exec(ctx, "release "+r.Name, "INSERT INTO release (app, name, number, created, data) VALUES (?, ?, ?, ?, ?)",
		r.App, r.Name, number, stamp(r.Created), string(data))
}

// Release returns one release.
func (s *Store) Release(ctx context.Context, app, name string) (*gapless.Release, error) {
	var r gapless.Release
	if err := s.one(ctx, &r, "release "+name+" of "+app, "SELECT data FROM release WHERE app = ? AND name = ?", app, name); err != nil {
		return nil, err
	}
	return &r, nil
}

// Releases lists an app's releases, newest first.
func (s *Store) Releases(ctx context.Context, app string) ([]gapless.Release, error) {
	return list[gapless.Release](ctx, s, "releases", "SELECT data FROM release WHERE app = ? ORDER BY number DESC", app)
}

// DeleteRelease forgets a release.
func (s *Store) DeleteRelease(ctx context.Context, app, name string) error {
	return s.exec(ctx, "release "+name, "DELETE FROM release WHERE app = ? AND name = ?", app, name)
}
