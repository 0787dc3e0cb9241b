package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"gapless"
)

// ErrDamaged is in the chain of an error that says that the file is not the
// database that was written: cut short, overwritten, or partly unreadable.
var ErrDamaged = errors.New("the database is damaged")

// suspect lies beside a database in which a read found damage: the next Open
// does not trust it, even where its own check finds nothing.
const suspect = ".suspect"

// parts are the files that belong to one database.
var parts = []string{"", "-wal", "-shm"}

// Damaged is closed when a read or write finds that the file is damaged. What
// is in the file cannot be relied on any more: close it and open it again.
func (s *Store) Damaged() <-chan struct{} { return s.damaged }

// seen looks at an error of the database and remembers damage.
func (s *Store) seen(err error) error {
	if !damage(err) {
		return err
	}
	s.once.Do(func() {
		// Where the mark cannot be made, the check at the next Open has to find it.
		if f, err := os.OpenFile(s.path+suspect, os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
			_ = f.Close()
		}
		close(s.damaged)
	})
	if errors.Is(err, ErrDamaged) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// damage reports whether err says that stored bytes changed.
func damage(err error) bool {
	var syntax *json.SyntaxError // what was written was JSON
	if errors.As(err, &syntax) || errors.Is(err, ErrDamaged) {
		return true
	}
	c := code(err)
	return c == sqlite3.SQLITE_CORRUPT || c == sqlite3.SQLITE_NOTADB
}

// code is SQLite's primary result code of an error, 0 if it has none.
func code(err error) int {
	var coded interface{ Code() int }
	if errors.As(err, &coded) {
		return coded.Code() & 0xff
	}
	return 0
}

// present looks at the file before SQLite does, which would take an empty file
// for a new database. It reports whether there is one.
func present(path string) (bool, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.Size() == 0:
		return true, fmt.Errorf("%w: the file is empty", ErrDamaged)
	case err == nil:
		if _, err := os.Lstat(path + suspect); err == nil {
			return true, fmt.Errorf("%w: a read found that before", ErrDamaged)
		}
		return true, nil
	case !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	// A log without its database would be played into the next one.
	if info, err := os.Lstat(path + "-wal"); err == nil && info.Size() > 0 {
		return false, fmt.Errorf("%w: its log is there, but the file is gone", ErrDamaged)
	}
	return false, missing(os.Remove(path + suspect)) // of one that was set aside
}

func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Verify reads the whole file. Damage is also told by Damaged.
func (s *Store) Verify(ctx context.Context) error {
	if err := s.seen(s.check(ctx)); err != nil {
		return failed("verify the database", err)
	}
	return nil
}

// check reads the whole file.
func (s *Store) check(ctx context.Context) error {
	rows, err := s.db.QueryContext(ctx, "PRAGMA quick_check(3)")
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	var found []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return err
		}
		found = append(found, strings.Join(strings.Fields(line), " "))
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if len(found) != 1 || found[0] != "ok" {
		return fmt.Errorf("%w: %s", ErrDamaged, strings.Join(found, "; "))
	}
	return nil
}

// SetAside renames a database and what belongs to it, so that another one can
// take its place. It returns the new path, <path>.damaged-<UTC time> with a
// number where that exists, or the one for another reason. Nothing is ever
// overwritten. A missing database is no error; the path is "" then.
func SetAside(path, reason string, now time.Time) (string, error) {
	to := path + "." + reason + "-" + now.UTC().Format("20060102T150405Z")
	for n, base := 2, to; ; n++ {
		taken, err := filepath.Glob(to + "*")
		if err != nil {
			return "", err
		}
		if len(taken) == 0 {
			break
		}
		to = fmt.Sprintf("%s.%d", base, n)
	}
	moved := ""
	for _, part := range parts {
		err := os.Rename(path+part, to+part)
		switch {
		case err == nil:
			moved = to
		case !errors.Is(err, fs.ErrNotExist):
			return moved, failed("set the database aside", err)
		}
	}
	return moved, missing(os.Remove(path + suspect))
}

// failed says what could not be done and, where it is known, what helps.
func failed(what string, err error) error {
	if damage(err) {
		return gapless.Errorf(gapless.Unavailable, "%s: %w", what, err).
			WithHint("what runs serves on; the damaged file is set aside when the daemon starts again")
	}
	if hint := diskHint(err); hint != "" {
		return gapless.Errorf(gapless.Unavailable, "%s: %w", what, err).WithHint("%s", hint)
	}
	return fmt.Errorf("%s: %w", what, err)
}
