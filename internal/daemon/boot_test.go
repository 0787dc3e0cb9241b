package daemon

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"gapless/internal/store"
)

func TestReboot(t *testing.T) {
	home := Home(t.TempDir())
	st, err := store.Open(t.Context(), home.DB())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	d := &Daemon{home: home, store: st, log: slog.New(slog.DiscardHandler)}
	file := filepath.Join(t.TempDir(), "boot_id")
	for i, c := range []struct {
		id   string
		want bool
	}{{"", false}, {"one\n", false}, {"one\n", false}, {"two\n", true}, {"two\n", false}, {"one\n", true}} {
		if err := os.WriteFile(file, []byte(c.id), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := d.rebooted(t.Context(), file); got != c.want {
			t.Errorf("look %d at %q: %v", i+1, c.id, got)
		}
	}
	if d.rebooted(t.Context(), file+".none") {
		t.Error("a system that does not say was rebooted")
	}
	if id, err := bootID(bootFile); err != nil || id == "" {
		t.Logf("this system does not say which boot it is: %q, %v", id, err)
	}
}
