package daemon

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gapless"
	"gapless/internal/rollout"
	"gapless/internal/store"
)

// anInstallation is a home that knows one app, with nothing running.
func anInstallation(t *testing.T) (Home, *store.Store) {
	t.Helper()
	home := Home(t.TempDir())
	if err := home.Make(); err != nil {
		t.Fatal(err)
	}
	if _, err := readKey(home.Key()); err != nil {
		t.Fatal(err)
	}
	if err := home.makeApp("shop"); err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), home.DB())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	rel := &gapless.Release{App: "shop", Name: "v1", Tree: home.Tree("shop", "v1"), EnvFile: home.EnvFile("shop", "v1"),
		Spec: gapless.App{Name: "shop", Processes: []gapless.Process{{Name: "web", Instances: 2}}}}
	r := &gapless.Rollout{ID: "r1", App: "shop", From: "v1", To: "v2", Outcome: gapless.Running, Started: time.Now()}
	s := rollout.State{App: "shop", Seq: 7, Stable: "v1", Counts: map[string]int{"web": 2}, Rollout: r, Members: []rollout.Member{{ID: "x"}}}
	for _, err := range []error{
		os.Mkdir(rel.Tree, 0o755), os.WriteFile(rel.EnvFile, []byte(`{"":{"A":"secret"}}`), 0o600),
		recordRelease(home, rel), (&recorder{home: home}).save(s),
		st.SaveRelease(t.Context(), 1, rel), st.SaveApp(t.Context(), "shop", s, r),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return home, st
}

func TestBackupAndRestore(t *testing.T) {
	home, st := anInstallation(t)
	file := filepath.Join(t.TempDir(), "b.tar")
	if _, err := Backup(t.Context(), home, file, "test", false); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	// Everything changes.
	if err := st.SaveApp(t.Context(), "later", rollout.State{App: "later"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(home.Key())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{home.Key(), home.EnvFile("shop", "v1"), home.Serving("shop")} {
		if err := os.WriteFile(name, []byte("other"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	res, err := Restore(t.Context(), home, file)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(res.Apps, []string{"shop"}) || len(res.Missing) != 0 || res.Aside == "" {
		t.Errorf("%+v", res)
	}
	if now, err := os.ReadFile(home.Key()); err != nil || !bytes.Equal(now, key) {
		t.Errorf("the key: %v", err)
	}
	if data, err := os.ReadFile(home.EnvFile("shop", "v1")); err != nil || !strings.Contains(string(data), "secret") {
		t.Errorf("the environment: %q, %v", data, err)
	}
	if data, err := os.ReadFile(filepath.Join(res.Aside, "apps/shop/serving.json")); err != nil || string(data) != "other" {
		t.Errorf("what was before: %q, %v", data, err)
	}
	if st, err = store.Open(t.Context(), home.DB()); err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	names, err := st.Apps(t.Context())
	if err != nil || !slices.Equal(names, []string{"shop"}) {
		t.Errorf("apps: %v, %v", names, err)
	}
	var s rollout.State
	if err := st.App(t.Context(), "shop", &s); err != nil || s.Stable != "v1" || s.Seq != 7 || s.Busy() || len(s.Members) != 0 || s.Down {
		t.Errorf("state: %+v, %v", s, err)
	}
	if old, err := store.Open(t.Context(), filepath.Join(res.Aside, "gapless.db")); err != nil {
		t.Errorf("the database of before: %v", err)
	} else {
		_ = old.Close()
	}
	if left, _ := filepath.Glob(home.path(".restore-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}

	// Without its tree an app cannot run; elsewhere its paths lead nowhere.
	if err := os.Remove(home.Tree("shop", "v1")); err != nil {
		t.Fatal(err)
	}
	if res, err = Restore(t.Context(), home, file); err != nil || !slices.Equal(res.Missing, []string{"shop"}) {
		t.Errorf("without the tree: %+v, %v", res, err)
	}
	if _, err := Restore(t.Context(), Home(t.TempDir()), file); gapless.CodeOf(err) != gapless.Invalid || gapless.HintOf(err) == "" {
		t.Errorf("into another home: %v", err)
	}
}

// TestRestoreWhileInUse holds the database as a daemon does.
func TestRestoreWhileInUse(t *testing.T) {
	home, _ := anInstallation(t)
	file := filepath.Join(t.TempDir(), "b.tar")
	if _, err := Backup(t.Context(), home, file, "test", false); err != nil {
		t.Fatal(err)
	}
	unlock, err := lockStore(t.Context(), home, false)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := lockStore(t.Context(), home, false); err != nil {
		t.Errorf("daemons share it: %v", err)
	} else {
		second()
	}
	if _, err := Restore(t.Context(), home, file); gapless.CodeOf(err) != gapless.Conflict {
		t.Errorf("restore beside a daemon: %v", err)
	}
	if left, _ := filepath.Glob(home.path("before-restore-*")); len(left) > 0 {
		t.Errorf("something was moved: %v", left)
	}
	unlock()
	if _, err := Restore(t.Context(), home, file); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// TestHostileArchives puts files where an archive must not put any.
func TestHostileArchives(t *testing.T) {
	sum := func(s string) string { return s + strings.Repeat("0", 64-len(s)) }
	for _, name := range []string{"../escape", "apps/../../escape.json", "/etc/passwd", "apps/a/env/../../../x.json", "run/keeper.sock", "apps/shop/releases/v1", ""} {
		file := filepath.Join(t.TempDir(), "b.tar")
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		w := tar.NewWriter(f)
		head, err := json.Marshal(manifest{Format: manifestFormat, Files: []packed{{Name: name, Size: 1, SHA256: sum("")}}})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range []struct {
			name string
			data []byte
		}{{manifestName, head}, {name, []byte("x")}} {
			if err := w.WriteHeader(&tar.Header{Name: e.name, Mode: 0o600, Size: int64(len(e.data))}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(e.data); err != nil {
				t.Fatal(err)
			}
		}
		_, _ = w.Close(), f.Close()
		dir := filepath.Join(t.TempDir(), "in")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := unpack(t.Context(), file, dir); gapless.CodeOf(err) != gapless.Invalid {
			t.Errorf("%q: %v", name, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%q left %v, %v", name, left, err)
		}
	}
}

func TestDailyBackup(t *testing.T) {
	home, st := anInstallation(t)
	d := &Daemon{home: home, store: st, log: slog.New(slog.DiscardHandler)}
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	for hour := range 5 * 24 {
		if err := d.backUpIfDue(t.Context(), now.Add(time.Duration(hour)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	list, err := backups(home).List()
	if err != nil || len(list) != backupsKept || !list[0].Made.Equal(now.Add(4*24*time.Hour)) {
		t.Errorf("%v, %v", list, err)
	}
}
