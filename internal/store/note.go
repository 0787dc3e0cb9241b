package store

import (
	"context"
	"encoding/json"
)

// SetNote remembers a value of the installation itself under a key; nil forgets it.
func (s *Store) SetNote(ctx context.Context, key string, v any) error {
	if v == nil {
		return s.exec(ctx, "note "+key, "DELETE FROM note WHERE key = ?", key)
	}
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.exec(ctx, "note "+key, "INSERT INTO note (key, data) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET data = excluded.data", key, string(data))
}

// Note reads the value under a key into v, or returns gapless.NotFound.
func (s *Store) Note(ctx context.Context, key string, v any) error {
	return s.one(ctx, v, "note "+key, "SELECT data FROM note WHERE key = ?", key)
}
