package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Backup writes a consistent copy to file, 0600, while others read and write.
// An existing file is replaced when the copy is complete and proven good.
func (s *Store) Backup(ctx context.Context, file string) error {
	draft := file + ".new"
	err := missing(os.Remove(draft))
	if err == nil {
		_, err = s.db.ExecContext(ctx, "VACUUM INTO ?", draft)
	}
	if err == nil {
		err = errors.Join(os.Chmod(draft, 0o600), Check(ctx, draft))
	}
	if err == nil {
		err = install(draft, file)
	}
	if err != nil {
		return errors.Join(failed("back up the database", s.seen(err)), missing(os.Remove(draft)))
	}
	return nil
}

// Check reads all of a database file that nobody has open and changes nothing.
func Check(ctx context.Context, file string) error {
	if _, err := os.Stat(file); err != nil {
		return err
	}
	s, err := dial(file, "&mode=ro&immutable=1")
	if err != nil {
		return err
	}
	version := 0
	if err = s.check(ctx); err == nil {
		err = s.db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version)
	}
	switch {
	case damage(err) && !errors.Is(err, ErrDamaged):
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	case err == nil && version == 0:
		err = fmt.Errorf("%w: there is nothing of gapless in it", ErrDamaged)
	}
	return errors.Join(err, s.db.Close())
}

// Copy opens the database at path only to back it up; it may be in use.
func Copy(ctx context.Context, path, file string) error {
	if there, err := present(path); err != nil || !there {
		return errors.Join(err, os.ErrNotExist)
	}
	s, err := dial(path, "&mode=rw")
	if err != nil {
		return err
	}
	return errors.Join(s.Backup(ctx, file), s.db.Close())
}

// Backups is a directory of backups, numbered: clocks may jump.
type Backups struct {
	Dir  string
	Keep int
}

// Saved is one backup.
type Saved struct {
	Path string
	Made time.Time
	n    int
}

// List returns the backups, newest first.
func (b Backups) List() ([]Saved, error) {
	names, err := filepath.Glob(filepath.Join(b.Dir, "*.db"))
	if err != nil {
		return nil, err
	}
	var out []Saved
	for _, name := range names {
		number, stamp, _ := strings.Cut(strings.TrimSuffix(filepath.Base(name), ".db"), "-")
		n, err := strconv.Atoi(number)
		made, terr := time.Parse(backupTime, stamp)
		if err == nil && terr == nil {
			out = append(out, Saved{Path: name, Made: made, n: n})
		}
	}
	slices.SortFunc(out, func(a, b Saved) int { return b.n - a.n })
	return out, nil
}

const backupTime = "20060102T150405Z"

// Due reports whether the newest backup is not from the last every. One from
// the future tells only that a clock was wrong.
func (b Backups) Due(now time.Time, every time.Duration) (bool, error) {
	list, err := b.List()
	if err != nil || len(list) == 0 {
		return err == nil, err
	}
	age := now.Sub(list[0].Made)
	return age < 0 || age >= every, nil
}

// Add makes a backup of s and then removes what is more than Keep.
func (b Backups) Add(ctx context.Context, s *Store, now time.Time) (string, error) {
	if err := os.MkdirAll(b.Dir, 0o700); err != nil {
		return "", failed("make the directory of backups", err)
	}
	list, err := b.List()
	if err != nil {
		return "", err
	}
	n := 1
	if len(list) > 0 {
		n = list[0].n + 1
	}
	file := filepath.Join(b.Dir, fmt.Sprintf("%06d-%s.db", n, now.UTC().Format(backupTime)))
	if err := s.Backup(ctx, file); err != nil {
		return "", err
	}
	for _, old := range list[min(b.Keep-1, len(list)):] {
		err = errors.Join(err, missing(os.Remove(old.Path)))
	}
	return file, err
}

// Restore puts the newest good backup in the place of a database that is not
// there. It returns which one, "" if there is none.
func (b Backups) Restore(ctx context.Context, path string) (string, error) {
	list, err := b.List()
	if err != nil {
		return "", err
	}
	for _, saved := range list {
		if Check(ctx, saved.Path) != nil {
			continue
		}
		if err := Place(ctx, saved.Path, path); err != nil {
			return "", err
		}
		return saved.Path, nil
	}
	return "", nil
}

// Place copies a good backup to path, where no database may be. The backup stays.
func Place(ctx context.Context, backup, path string) error {
	if there, err := present(path); err != nil || there {
		return errors.Join(err, os.ErrExist)
	}
	draft := path + ".new"
	err := missing(os.Remove(draft))
	if err == nil {
		var data []byte
		if data, err = os.ReadFile(backup); err == nil {
			err = os.WriteFile(draft, data, 0o600)
		}
	}
	if err == nil {
		err = Check(ctx, draft)
	}
	if err == nil {
		err = install(draft, path)
	}
	if err != nil {
		return errors.Join(failed("take the backup "+backup, err), missing(os.Remove(draft)))
	}
	return nil
}
