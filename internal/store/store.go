// Package store keeps what must outlive the daemon in one SQLite file: apps
// and their rollout state, releases, rollouts and the event log. It knows no
// rules: it saves and returns the words of the root package. Only the daemon
// calls it; the request path never does.
package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the database/sql driver

	"gapless"
)

// Store is an open database. It is safe for concurrent use.
type Store struct {
	db      *sql.DB
	path    string
	fresh   bool
	once    sync.Once
	damaged chan struct{}
}

// Open opens the database file or creates it, 0600, reads all of it once, and
// brings its schema up to date. Migrations only add, so that the version
// before can still use the file. A file that is damaged is left as it is:
// errors.Is(err, ErrDamaged).
func Open(ctx context.Context, path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, failed("make the state directory", err)
	}
	there, err := present(path)
	if err == nil && !there {
		err = create(ctx, path)
	}
	if err != nil {
		return nil, failed("open the database "+path, err)
	}
	s, err := connect(ctx, path)
	if err != nil {
		return nil, err
	}
	s.fresh = !there
	return s, nil
}

// Fresh reports whether Open made the file.
func (s *Store) Fresh() bool { return s.fresh }

// create makes the file beside its place and then moves it there, so that no
// crash leaves half a database under the name of a whole one.
func create(ctx context.Context, path string) error {
	draft := path + ".new"
	for _, part := range parts {
		if err := missing(os.Remove(draft + part)); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(draft, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // before SQLite makes it with wider modes
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	s, err := connect(ctx, draft)
	if err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	return install(draft, path)
}

// install makes a finished file durable under another name.
func install(draft, path string) error {
	for _, step := range []func() error{
		func() error { return syncFile(draft) },
		func() error { return os.Rename(draft, path) },
		func() error { return syncFile(filepath.Dir(path)) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// connect opens a file that is there.
func connect(ctx context.Context, path string) (*Store, error) {
	proof, err := dial(path, "&mode=ro") // so that a damaged file is not written to
	if err != nil {
		return nil, err
	}
	if err := errors.Join(proof.seen(proof.check(ctx)), proof.db.Close()); err != nil {
		return nil, failed("open the database "+path, err)
	}
	// FULL: a saved intent survives a power cut. The cache is small, the data is too.
	s, err := dial(path, "&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=cache_size(-512)&_pragma=wal_autocheckpoint(200)")
	if err != nil {
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(failed("open the database "+path, s.seen(err)), s.Close())
	}
	return s, nil
}

func dial(path, options string) (*Store, error) {
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: url.PathEscape(path)}).String()+"?_pragma=busy_timeout(5000)"+options)
	if err != nil {
		return nil, fmt.Errorf("open the database %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	return &Store{db: db, path: path, damaged: make(chan struct{})}, nil
}

// Close closes the database. A damaged one is left as it is until the process
// ends: to close it would write what is in its log into it.
func (s *Store) Close() error {
	select {
	case <-s.damaged:
		return nil
	default:
		return s.db.Close()
	}
}

func (s *Store) migrate(ctx context.Context) error {
	files, names, err := steps()
	if err != nil {
		return err
	}
	var have int
	if err := s.db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
		return err
	}
	for i, name := range names {
		if i < have {
			continue
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		tx, err := s.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, string(text)); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", name, err), tx.Rollback())
		}
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", i+1)); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}

// one scans a single JSON column into v; sql.ErrNoRows becomes NotFound.
func (s *Store) one(ctx context.Context, v any, what, query string, args ...any) error {
	var text string
	err := s.db.QueryRowContext(ctx, query, args...).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return gapless.Errorf(gapless.NotFound, "no %s", what)
	}
	if err != nil {
		return failed("read "+what, s.seen(err))
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		return failed("read "+what, s.seen(err))
	}
	return nil
}

func (s *Store) exec(ctx context.Context, what, query string, args ...any) error {
	if _, err := s.db.ExecContext(ctx, query, args...); err != nil {
		return failed("save "+what, s.seen(err))
	}
	return nil
}

func list[T any](ctx context.Context, s *Store, what, query string, args ...any) ([]T, error) {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, failed("read "+what, s.seen(err))
	}
	defer func() { _ = rows.Close() }()
	var out []T
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, failed("read "+what, s.seen(err))
		}
		var v T
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			return nil, failed("read "+what, s.seen(err))
		}
		out = append(out, v)
	}
	if err := rows.Err(); err != nil {
		return nil, failed("read "+what, s.seen(err))
	}
	return out, nil
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000000Z") }
