package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// How long what was told is remembered, so that it is not told again, and how
// much of it at most.
const (
	noticesFor  = 30 * 24 * time.Hour
	noticesKept = 20_000
)

// Notice is a message that waits to be sent to one target.
type Notice struct {
	Seq    int64
	Key    string // of the event
	Target string
	App    string
	Made   time.Time
	Due    time.Time // when it is tried next
	Data   json.RawMessage
}

// AddNotice queues a notice, unless its target was told of its key before or
// it waits already: then added is false.
func (s *Store) AddNotice(ctx context.Context, n Notice) (added bool, err error) {
	res, err := s.db.ExecContext(ctx, "INSERT INTO notice (key, target, app, made, due, data) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (target, key) DO NOTHING",
		n.Key, n.Target, n.App, stamp(n.Made), stamp(n.Due), string(n.Data))
	if err != nil {
		return false, failed("save notice "+n.Key, s.seen(err))
	}
	rows, err := res.RowsAffected()
	if err != nil || rows == 0 {
		return false, err
	}
	if seq, err := res.LastInsertId(); err == nil && seq%100 == 0 {
		return true, s.exec(ctx, "notices", "DELETE FROM notice WHERE due = '' AND (made < ? OR seq <= ?)", stamp(n.Made.Add(-noticesFor)), seq-noticesKept)
	}
	return true, nil
}

// Notices lists those that wait, oldest first.
func (s *Store) Notices(ctx context.Context, most int) (out []Notice, err error) {
	rows, err := s.db.QueryContext(ctx, "SELECT seq, key, target, app, made, due, data FROM notice WHERE due <> '' ORDER BY seq LIMIT ?", most)
	if err != nil {
		return nil, failed("read notices", s.seen(err))
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var n Notice
		var made, due, data string
		err := rows.Scan(&n.Seq, &n.Key, &n.Target, &n.App, &made, &due, &data)
		if err == nil {
			n.Made, err = time.Parse(time.RFC3339Nano, made)
		}
		if err == nil {
			n.Due, err = time.Parse(time.RFC3339Nano, due)
		}
		if err != nil {
			return nil, failed("read notices", s.seen(err))
		}
		n.Data = json.RawMessage(data)
		out = append(out, n)
	}
	if err := rows.Err(); err != nil {
		return nil, failed("read notices", s.seen(err))
	}
	return out, nil
}

// PutOffNotice makes a notice wait again.
func (s *Store) PutOffNotice(ctx context.Context, n Notice) error {
	return s.exec(ctx, "notice "+n.Key, "UPDATE notice SET due = ?, data = ? WHERE seq = ?", stamp(n.Due), string(n.Data), n.Seq)
}

// EndNotice ends a notice. Its key is remembered.
func (s *Store) EndNotice(ctx context.Context, seq int64) error {
	return s.exec(ctx, fmt.Sprintf("notice %d", seq), "UPDATE notice SET due = '', data = '' WHERE seq = ?", seq)
}

// FoldNotices ends notices and queues one in their place, in one step.
func (s *Store) FoldNotices(ctx context.Context, ended []Notice, one Notice) (err error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return failed("save notice "+one.Key, s.seen(err))
	}
	defer func() {
		if err != nil {
			err = failed("save notice "+one.Key, s.seen(errors.Join(err, tx.Rollback())))
		}
	}()
	seqs := make([]any, len(ended))
	for i, n := range ended {
		seqs[i] = n.Seq
	}
	if _, err = tx.ExecContext(ctx, "UPDATE notice SET due = '', data = '' WHERE seq IN (?"+strings.Repeat(", ?", len(seqs)-1)+")", seqs...); err != nil {
		return err
	}
	if _, err = tx.ExecContext(ctx, "INSERT INTO notice (key, target, app, made, due, data) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (target, key) DO NOTHING",
		one.Key, one.Target, one.App, stamp(one.Made), stamp(one.Due), string(one.Data)); err != nil {
		return err
	}
	return tx.Commit()
}
