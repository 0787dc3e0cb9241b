package daemon

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gapless"
	"gapless/internal/rollout"
	"gapless/internal/store"
)

// TestLostWhileNothingRuns loses the database while the machine is off: what
// was up is made again from the files beside it, what was down stays down.
func TestLostWhileNothingRuns(t *testing.T) {
	for name, c := range map[string]struct{ backup, cut bool }{
		"gone, nothing saved":      {},
		"gone, a backup":           {backup: true},
		"cut short, a backup":      {backup: true, cut: true},
		"cut short, nothing saved": {cut: true},
	} {
		t.Run(name, func(t *testing.T) {
			home, st := anInstallation(t)
			log := slog.New(slog.DiscardHandler)
			if c.backup {
				if _, err := backups(home).Add(t.Context(), st, time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			if err := (&recorder{home: home}).save(rollout.State{App: "off", Stable: "", Down: true}); err != nil {
				t.Fatal(err)
			}
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
			if c.cut {
				if err := os.Truncate(home.DB(), 4096); err != nil {
					t.Fatal(err)
				}
			} else if err := os.Remove(home.DB()); err != nil {
				t.Fatal(err)
			}
			st, hurt, err := openStore(t.Context(), home, log)
			if err != nil || hurt == nil {
				t.Fatalf("%v, %v", hurt, err)
			}
			if (hurt.From != "") != c.backup || (hurt.Aside != "") != c.cut {
				t.Errorf("%+v", hurt)
			}
			d := &Daemon{ctx: t.Context(), home: home, store: st, damage: hurt, log: log, router: &router{}, releases: map[string]*gapless.Release{}}
			for _, app := range []string{"shop", "off"} {
				if err := d.mendApp(t.Context(), app, nil); err != nil {
					t.Fatal(err)
				}
			}
			var s rollout.State
			if err := st.App(t.Context(), "shop", &s); err != nil || s.Stable != "v1" || s.Down || s.Busy() || s.Counts["web"] != 2 || len(s.Members) != 0 {
				t.Errorf("shop: %+v, %v", s, err)
			}
			if _, err := st.Release(t.Context(), "shop", "v1"); err != nil {
				t.Error(err)
			}
			if err := st.App(t.Context(), "off", &s); err != nil || !s.Down {
				t.Errorf("off: %+v, %v", s, err)
			}
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
			// The next daemon still knows what happened.
			st, again, err := openStore(t.Context(), home, log)
			if err != nil || again == nil || again.Reason != hurt.Reason {
				t.Fatalf("%+v, %v", again, err)
			}
			_ = st.Close()
		})
	}
}

// TestFirstStart is no loss.
func TestFirstStart(t *testing.T) {
	home := Home(filepath.Join(t.TempDir(), "new"))
	st, hurt, err := openStore(t.Context(), home, slog.New(slog.DiscardHandler))
	if err != nil || hurt != nil || !st.Fresh() {
		t.Fatalf("%v, %v", hurt, err)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
}

// TestFullDiskAfterSetAside finds what the daemon before could not finish.
func TestFullDiskAfterSetAside(t *testing.T) {
	home, st := anInstallation(t)
	if _, err := backups(home).Add(t.Context(), st, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.SetAside(home.DB(), "damaged", time.Now()); err != nil {
		t.Fatal(err)
	}
	st, hurt, err := openStore(t.Context(), home, slog.New(slog.DiscardHandler))
	if err != nil || hurt == nil || hurt.From == "" {
		t.Fatalf("%+v, %v", hurt, err)
	}
	_ = st.Close()
}
