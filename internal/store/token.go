package store

import (
	"context"
	"encoding/json"

	"gapless"
)

// HashedToken is a token with the hash of its secret.
type HashedToken struct {
	gapless.Token
	Hash string // hex
}

// AddToken keeps a token; a name that is taken is gapless.Conflict.
func (s *Store) AddToken(ctx context.Context, t HashedToken) error {
	data, err := json.Marshal(t.Token)
	if err != nil {
		return err
	}
	res, err := s.db.ExecContext(ctx, "INSERT INTO token (name, hash, data) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING", t.Name, t.Hash, string(data))
	if err != nil {
		return failed("save token "+t.Name, s.seen(err))
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return gapless.Errorf(gapless.Conflict, "there is a token %s already", t.Name).
			WithHint("take another name, or revoke that one: gapless token revoke %s", t.Name)
	}
	return nil
}

// Tokens lists all tokens by name.
func (s *Store) Tokens(ctx context.Context) ([]HashedToken, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT hash, data FROM token ORDER BY name")
	if err != nil {
		return nil, failed("read tokens", s.seen(err))
	}
	defer func() { _ = rows.Close() }()
	var out []HashedToken
	for rows.Next() {
		var t HashedToken
		var text string
		err := rows.Scan(&t.Hash, &text)
		if err == nil {
			err = json.Unmarshal([]byte(text), &t.Token)
		}
		if err != nil {
			return nil, failed("read tokens", s.seen(err))
		}
		out = append(out, t)
	}
	if err := rows.Err(); err != nil {
		return nil, failed("read tokens", s.seen(err))
	}
	return out, nil
}

// RemoveToken forgets a token; one that is not there is gapless.NotFound.
func (s *Store) RemoveToken(ctx context.Context, name string) error {
	res, err := s.db.ExecContext(ctx, "DELETE FROM token WHERE name = ?", name)
	if err != nil {
		return failed("remove token "+name, s.seen(err))
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return gapless.Errorf(gapless.NotFound, "no token %q", name).WithHint("list them with: gapless token list")
	}
	return nil
}
