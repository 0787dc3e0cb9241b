package daemon

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"time"

	"gapless"
	"gapless/internal/store"
)

// The database is backed up once a day, and the last three backups are kept.
const (
	backupEvery = 24 * time.Hour
	backupsKept = 3
)

// Backups is the directory of the automatic backups.
func (h Home) Backups() string { return h.path("backups") }

func backups(h Home) store.Backups { return store.Backups{Dir: h.Backups(), Keep: backupsKept} }

// backUp makes a backup whenever one is due, and reads all of the database
// once an hour, so that damage does not lie unseen; until ctx ends.
func (d *Daemon) backUp(ctx context.Context) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if err := d.backUpIfDue(ctx, time.Now()); err != nil && ctx.Err() == nil {
			d.log.Warn("the daily backup", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := d.store.Verify(ctx); err != nil && ctx.Err() == nil {
				d.log.Error("verify the database", "err", err)
			}
		case <-d.backup:
		}
	}
}

// backUpIfDue makes a backup if the newest one is a day old and there is
// anything to save.
func (d *Daemon) backUpIfDue(ctx context.Context, now time.Time) error {
	due, err := backups(d.home).Due(now, backupEvery)
	if err != nil || !due {
		return err
	}
	if apps, err := d.store.Apps(ctx); err != nil || len(apps) == 0 {
		return err
	}
	_, err = backups(d.home).Add(ctx, d.store, now)
	return err
}

// manifest is the first file of an archive.
type manifest struct {
	Format  int       `json:"format"` // 1
	Version string    `json:"version"`
	Created time.Time `json:"created"`
	Home    string    `json:"home"`
	Files   []packed  `json:"files"`
}

type packed struct {
	Name   string `json:"name"` // relative to the home, with slashes
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

const (
	manifestName   = "manifest.json"
	manifestFormat = 1
)

// kept are the patterns of files beside the database that an archive holds.
// Release trees are not in it.
var kept = []string{"release.key", "apps/*/env/*.json", "apps/*/serving.json", "apps/*/secrets.age"}

// vaultKey opens the secrets and environments among them. It is in an archive
// only if that was asked for, and a restore without it leaves the one that is there.
const vaultKey = "secrets.key"

// Backup writes an archive, 0600, of the database, the encrypted secrets and
// environments, and withKey of the key to these; nothing has to be stopped for
// it. The file must not exist.
func Backup(ctx context.Context, home Home, file, version string, withKey bool) (size int64, err error) {
	if !home.Exists() {
		return 0, gapless.Errorf(gapless.NotFound, "there is nothing to back up in %s", home).WithHint("set GAPLESS_HOME to the one that you mean")
	}
	if _, err := os.Lstat(file); err == nil {
		return 0, gapless.Errorf(gapless.Invalid, "%s exists already", file).WithHint("give another name; a backup never replaces another one")
	}
	dir, err := os.MkdirTemp(filepath.Dir(file), ".gapless-backup-") // 0700
	if err != nil {
		return 0, gapless.Errorf(gapless.Unavailable, "write %s: %w", file, err).WithHint("give a file in a directory that you may write to")
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	copied := filepath.Join(dir, "gapless.db")
	if err := store.Copy(ctx, home.DB(), copied); err != nil {
		return 0, err
	}
	// After the database: what it names has been written before it.
	sources := map[string]string{"gapless.db": copied}
	for _, pattern := range kept {
		names, err := filepath.Glob(home.path(filepath.FromSlash(pattern)))
		if err != nil {
			return 0, err
		}
		for _, name := range names {
			rel, err := filepath.Rel(string(home), name)
			if err != nil {
				return 0, err
			}
			sources[filepath.ToSlash(rel)] = name
		}
	}
	if withKey {
		sources[vaultKey] = home.VaultKey()
	}
	draft := filepath.Join(dir, "archive")
	if err := pack(draft, manifest{Format: manifestFormat, Version: version, Created: time.Now().UTC(), Home: string(home)}, sources); err != nil {
		return 0, gapless.Errorf(gapless.Unavailable, "write %s: %w", file, err).WithHint("is there room on that disk?")
	}
	info, err := os.Stat(draft)
	if err != nil {
		return 0, err
	}
	if err := os.Link(draft, file); err != nil { // unlike rename it replaces nothing
		return 0, fmt.Errorf("write %s: %w", file, err)
	}
	return info.Size(), nil
}

// pack writes the archive: first the manifest, then the files by name.
func pack(file string, m manifest, sources map[string]string) error {
	names := make([]string, 0, len(sources))
	for name := range sources {
		names = append(names, name)
	}
	sort.Strings(names)
	data := map[string][]byte{}
	for _, name := range names {
		content, err := os.ReadFile(sources[name])
		if errors.Is(err, fs.ErrNotExist) {
			continue // a release that was collected meanwhile
		}
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		data[name] = content
		m.Files = append(m.Files, packed{Name: name, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])})
	}
	head, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	w := tar.NewWriter(f)
	add := func(name string, content []byte) error {
		err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(content)), ModTime: m.Created, Format: tar.FormatPAX})
		if err == nil {
			_, err = w.Write(content)
		}
		return err
	}
	err = add(manifestName, head)
	for _, p := range m.Files {
		err = errors.Join(err, add(p.Name, data[p.Name]))
	}
	return errors.Join(err, w.Close(), f.Sync(), f.Close())
}

// maxUnpacked bounds what is read from an archive, in bytes.
const maxUnpacked = 4 << 30

// unpack reads an archive into a directory and proves that it is whole. It
// writes nothing but what an archive may hold.
func unpack(ctx context.Context, file, dir string) (m manifest, err error) {
	bad := func(format string, args ...any) error {
		return gapless.Errorf(gapless.Invalid, "%s is no whole backup: %w", file, fmt.Errorf(format, args...)).
			WithHint("make one with: gapless backup; nothing was changed")
	}
	f, err := os.Open(file)
	if err != nil {
		return m, gapless.Errorf(gapless.NotFound, "read the backup: %w", err)
	}
	defer func() { _ = f.Close() }()
	r := tar.NewReader(io.LimitReader(f, maxUnpacked))
	head, err := r.Next()
	if err != nil || head.Name != manifestName {
		return m, bad("it does not begin with %s", manifestName)
	}
	if err := json.NewDecoder(r).Decode(&m); err != nil {
		return m, bad("%s: %w", manifestName, err)
	}
	if m.Format != manifestFormat {
		return m, gapless.Errorf(gapless.Unsupported, "%s has format %d, this gapless reads %d", file, m.Format, manifestFormat).
			WithHint("use gapless %s or newer", m.Version)
	}
	for _, p := range m.Files {
		if head, err = r.Next(); err != nil {
			return m, bad("%s is missing: %w", p.Name, err)
		}
		if head.Name != p.Name || head.Size != p.Size || head.Typeflag != tar.TypeReg || !belongs(p.Name) {
			return m, bad("%q is not what it should hold", head.Name)
		}
		to := filepath.Join(dir, filepath.FromSlash(p.Name))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return m, err
		}
		out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return m, err
		}
		sum := sha256.New()
		_, err = io.Copy(io.MultiWriter(out, sum), r)
		if err != nil {
			_ = out.Close()
			return m, bad("%s: %w", p.Name, err)
		}
		if err := errors.Join(out.Sync(), out.Close()); err != nil {
			return m, err
		}
		if hex.EncodeToString(sum.Sum(nil)) != p.SHA256 {
			return m, bad("%s was changed", p.Name)
		}
	}
	if err := store.Check(ctx, filepath.Join(dir, "gapless.db")); err != nil {
		return m, bad("its database: %w", err)
	}
	return m, nil
}

// belongs reports whether an archive may hold a file of that name.
func belongs(name string) bool {
	if name == "gapless.db" || name == vaultKey {
		return true
	}
	for _, pattern := range kept {
		if ok, _ := path.Match(pattern, name); ok && filepath.IsLocal(name) {
			return true
		}
	}
	return false
}
