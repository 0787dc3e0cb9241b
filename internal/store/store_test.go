package store

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gapless"
)

func open(t *testing.T) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state", "gapless.db")
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, path
}

func TestFileIsPrivateAndDurable(t *testing.T) {
	s, path := open(t)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, err %v; want 0600", info.Mode(), err)
	}
	var mode string
	var sync int
	if err := s.db.QueryRow("PRAGMA journal_mode").Scan(&mode); err != nil || mode != "wal" {
		t.Errorf("journal_mode %q, %v", mode, err)
	}
	if err := s.db.QueryRow("PRAGMA synchronous").Scan(&sync); err != nil || sync != 2 {
		t.Errorf("synchronous %d, %v; want 2 (FULL)", sync, err)
	}
}

func TestReleasesRoundTrip(t *testing.T) {
	s, path := open(t)
	ctx := context.Background()
	for want := 1; want <= 3; want++ {
		n, err := s.NextRelease(ctx, "shop")
		if err != nil || n != want {
			t.Fatalf("next release %d, %v; want %d", n, err, want)
		}
		rel := &gapless.Release{App: "shop", Name: "v" + string(rune('0'+n)), Created: time.Now().UTC(), Spec: gapless.App{Name: "shop", Drain: gapless.Duration(30 * time.Second)}}
		if err := s.SaveRelease(ctx, n, rel); err != nil {
			t.Fatal(err)
		}
		if err := s.SaveRelease(ctx, n, rel); err == nil {
			t.Fatal("the same release was saved twice")
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(ctx, path) // everything is there after a restart
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	all, err := s.Releases(ctx, "shop")
	if err != nil || len(all) != 3 || all[0].Name != "v3" {
		t.Fatalf("releases %v, %v", all, err)
	}
	got, err := s.Release(ctx, "shop", "v2")
	if err != nil || got.Spec.Drain != gapless.Duration(30*time.Second) {
		t.Fatalf("release %+v, %v", got, err)
	}
	if _, err := s.Release(ctx, "shop", "v9"); gapless.CodeOf(err) != gapless.NotFound {
		t.Fatalf("unknown release: %v", err)
	}
}

func TestAppAndRolloutAreSavedTogether(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	type state struct{ A int }
	r := &gapless.Rollout{ID: "r1", App: "shop", To: "v1", Outcome: gapless.Running, Started: time.Now().UTC()}
	if err := s.SaveApp(ctx, "shop", state{1}, r); err != nil {
		t.Fatal(err)
	}
	r.Outcome = gapless.Promoted
	if err := s.SaveApp(ctx, "shop", state{2}, r); err != nil {
		t.Fatal(err)
	}
	var st state
	if err := s.App(ctx, "shop", &st); err != nil || st.A != 2 {
		t.Fatalf("%+v, %v", st, err)
	}
	got, err := s.Rollout(ctx, "r1")
	if err != nil || !cmp.Equal(got, r) {
		t.Fatalf("rollout: %v\n%s", err, cmp.Diff(got, r))
	}
	apps, err := s.Apps(ctx)
	if err != nil || len(apps) != 1 || apps[0] != "shop" {
		t.Fatalf("%v %v", apps, err)
	}
	if all, err := s.Rollouts(ctx, "shop", 10); err != nil || len(all) != 1 {
		t.Fatalf("%v %v", all, err)
	}
}

func TestEventsAreNumbered(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	for i := range 5 {
		e, err := s.AddEvent(ctx, gapless.Event{Time: time.Now(), App: "shop", Rollout: "r1", Message: "m"})
		if err != nil || e.Seq != int64(i+1) {
			t.Fatalf("%+v, %v", e, err)
		}
	}
	got, err := s.Events(ctx, "r1", 3)
	if err != nil || len(got) != 2 || got[0].Seq != 4 {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestDamagedFileIsRefusedAndKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gapless.db")
	junk := []byte("this is not a database, it must not be overwritten")
	if err := os.WriteFile(path, junk, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), path)
	if gapless.CodeOf(err) != gapless.Unavailable || gapless.HintOf(err) == "" {
		t.Fatalf("got %v", err)
	}
	if after, _ := os.ReadFile(path); string(after) != string(junk) {
		t.Fatalf("the damaged file was changed: %q", after)
	}
}

// TestFullDiskIsNamed limits the file instead of the disk: SQLite says the same of both.
func TestFullDiskIsNamed(t *testing.T) {
	s, _ := open(t)
	if _, err := s.db.Exec("PRAGMA max_page_count = 1"); err != nil {
		t.Fatal(err)
	}
	big := struct{ Text string }{strings.Repeat("x", 1<<20)}
	err := s.SaveApp(t.Context(), "shop", big, nil)
	if gapless.CodeOf(err) != gapless.Unavailable || !strings.Contains(err.Error(), "disk is full") || gapless.HintOf(err) == "" || strings.Contains(err.Error(), "\n") {
		t.Errorf("save on a full disk: %v (%s, hint %q)", err, gapless.CodeOf(err), gapless.HintOf(err))
	}
	if _, err := s.db.Exec("PRAGMA max_page_count = 1000000"); err != nil {
		t.Fatal(err)
	}
	if err := s.SaveApp(t.Context(), "shop", big, nil); err != nil {
		t.Errorf("with room again: %v", err)
	}
}
