package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gapless"
)

// filled is the path of a closed database with something in it.
func filled(t *testing.T) string {
	t.Helper()
	s, path := open(t)
	for i := range 200 {
		e := gapless.Event{Time: time.Now(), App: "shop", Rollout: "r1", Message: fmt.Sprint(i, strings.Repeat("x", 300))}
		if _, err := s.AddEvent(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SaveApp(t.Context(), "shop", map[string]string{"stable": "v1"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDamageIsFoundAtOpen(t *testing.T) {
	good, err := os.ReadFile(filled(t))
	if err != nil {
		t.Fatal(err)
	}
	page := func(n int) []byte { // one page overwritten
		out := bytes.Clone(good)
		copy(out[n*4096:], bytes.Repeat([]byte{0xa5}, 4096))
		return out
	}
	for name, data := range map[string][]byte{
		"empty":              {},
		"cut in its header":  good[:50],
		"cut after a page":   good[:4096],
		"cut in the middle":  good[:len(good)/2],
		"its last page gone": good[:len(good)-4096],
		"header overwritten": page(0),
		"page overwritten":   page(len(good)/4096 - 2),
		"something else":     []byte("{}"),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "gapless.db")
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if s, err := Open(t.Context(), path); !errors.Is(err, ErrDamaged) {
				if err == nil {
					_ = s.Close()
				}
				t.Fatalf("open: %v", err)
			} else if gapless.HintOf(err) == "" {
				t.Errorf("no hint: %v", err)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, data) {
				t.Errorf("the damaged file was changed")
			}
			moved, err := SetAside(path, "damaged", time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))
			if err != nil || moved != path+".damaged-20260304T050607Z" {
				t.Fatalf("set aside: %q, %v", moved, err)
			}
			if after, err := os.ReadFile(moved); err != nil || !bytes.Equal(after, data) {
				t.Errorf("the file that was set aside is another one: %v", err)
			}
			s, err := Open(t.Context(), path)
			if err != nil || !s.Fresh() {
				t.Fatalf("open anew: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDamagedFileWithLog damages a file whose log was not played in yet, as
// after a crash: neither is touched.
func TestDamagedFileWithLog(t *testing.T) {
	path := filled(t)
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.SaveApp(t.Context(), "later", "state", nil); err != nil {
		t.Fatal(err)
	}
	crashed := filepath.Join(t.TempDir(), "gapless.db")
	want := map[string][]byte{}
	for _, part := range []string{"", "-wal"} {
		data, err := os.ReadFile(path + part)
		if err != nil || len(data) == 0 {
			t.Fatalf("%s: %d bytes, %v", part, len(data), err)
		}
		if part == "" {
			copy(data[8*4096:], bytes.Repeat([]byte{0xa5}, 4096))
		}
		want[part] = data
		if err := os.WriteFile(crashed+part, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(t.Context(), crashed); !errors.Is(err, ErrDamaged) {
		t.Fatalf("open: %v", err)
	}
	to, err := SetAside(crashed, "damaged", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for part, data := range want {
		if after, err := os.ReadFile(to + part); err != nil || !bytes.Equal(after, data) {
			t.Errorf("%q was changed: %v", part, err)
		}
	}
}

func TestSetAsideOverwritesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gapless.db")
	now := time.Now()
	var moved []string
	for i := range 3 {
		for _, part := range []string{"", "-wal", "-shm"} {
			if err := os.WriteFile(path+part, []byte(fmt.Sprint(i, part)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		to, err := SetAside(path, "damaged", now)
		if err != nil {
			t.Fatal(err)
		}
		moved = append(moved, to)
	}
	for i, to := range moved {
		for _, part := range []string{"", "-wal", "-shm"} {
			if data, err := os.ReadFile(to + part); err != nil || string(data) != fmt.Sprint(i, part) {
				t.Errorf("%s%s: %q, %v", to, part, data, err)
			}
		}
	}
	if to, err := SetAside(path, "damaged", now); to != "" || err != nil {
		t.Errorf("nothing to set aside: %q, %v", to, err)
	}
}

// TestLogOfAnotherDatabase leaves a write-ahead log where its database is gone.
func TestLogOfAnotherDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gapless.db")
	if err := os.WriteFile(path+"-wal", []byte("something"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path); !errors.Is(err, ErrDamaged) {
		t.Errorf("open: %v", err)
	}
}

// TestDamageIsFoundWhileReading overwrites the file under an open database.
func TestDamageIsFoundWhileReading(t *testing.T) {
	path := filled(t)
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.SetNote(t.Context(), "k", "v"); err != nil { // the log has a page or two
		t.Fatal(err)
	}
	select {
	case <-s.Damaged():
		t.Fatal("damaged before anything happened")
	default:
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Repeat([]byte{0xa5}, int(info.Size())), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = s.db.Exec("PRAGMA shrink_memory"); err != nil {
		t.Fatal(err)
	}
	if _, err = s.Events(t.Context(), "r1", 0); !errors.Is(err, ErrDamaged) {
		t.Fatalf("read: %v", err)
	}
	if err := s.Verify(t.Context()); !errors.Is(err, ErrDamaged) {
		t.Errorf("verify: %v", err)
	}
	select {
	case <-s.Damaged():
	default:
		t.Error("nobody was told")
	}
	_ = s.Close()
	if _, err := Open(t.Context(), path); !errors.Is(err, ErrDamaged) {
		t.Errorf("open after damage was found: %v", err)
	}
}

// TestWhatIsNoJSONIsDamage damages a value, which SQLite cannot know.
func TestWhatIsNoJSONIsDamage(t *testing.T) {
	s, path := open(t)
	if err := s.SaveApp(t.Context(), "shop", map[string]string{"stable": "v1"}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.Exec(`UPDATE app SET state = '{"stable:'`); err != nil {
		t.Fatal(err)
	}
	var v map[string]string
	if err := s.App(t.Context(), "shop", &v); !errors.Is(err, ErrDamaged) {
		t.Errorf("read: %v", err)
	}
	_ = s.Close()
	if _, err := Open(t.Context(), path); !errors.Is(err, ErrDamaged) {
		t.Errorf("the check finds nothing, the mark has to: %v", err)
	}
}

func TestBackups(t *testing.T) {
	s, path := open(t)
	ctx := t.Context()
	b := Backups{Dir: filepath.Join(t.TempDir(), "backups"), Keep: 3}
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	if due, err := b.Due(now, 24*time.Hour); !due || err != nil {
		t.Errorf("the first one: due %v, %v", due, err)
	}
	// The clock jumps back by a year after the second one.
	for i, at := range []time.Time{now, now.AddDate(0, 0, 1), now.AddDate(-1, 0, 2), now.AddDate(-1, 0, 3), now.AddDate(-1, 0, 4)} {
		if due, err := b.Due(at, 24*time.Hour); !due || err != nil {
			t.Errorf("number %d: due %v, %v", i+1, due, err)
		}
		if err := s.SaveApp(ctx, "shop", map[string]int{"n": i + 1}, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Add(ctx, s, at); err != nil {
			t.Fatal(err)
		}
		if due, err := b.Due(at.Add(23*time.Hour), 24*time.Hour); due || err != nil {
			t.Errorf("after number %d: due %v, %v", i+1, due, err)
		}
	}
	list, err := b.List()
	if err != nil || len(list) != 3 || list[0].n != 5 || list[2].n != 3 {
		t.Fatalf("kept: %v, %v", list, err)
	}
	for _, saved := range list {
		if info, err := os.Stat(saved.Path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", saved.Path, info.Mode(), err)
		}
	}
	left, err := os.ReadDir(b.Dir)
	if err != nil || len(left) != 3 {
		t.Errorf("left in the directory: %v, %v", left, err)
	}

	// The newest one is damaged too: the one before is taken.
	_ = s.Close()
	if err := os.Truncate(list[0].Path, 5000); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Restore(ctx, path); err == nil {
		t.Error("a database that is there was replaced")
	}
	if _, err := SetAside(path, "damaged", now); err != nil {
		t.Fatal(err)
	}
	from, err := b.Restore(ctx, path)
	if err != nil || from != list[1].Path {
		t.Fatalf("restored %q, %v", from, err)
	}
	s, err = Open(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var v map[string]int
	if err := s.App(ctx, "shop", &v); err != nil || v["n"] != 4 {
		t.Errorf("restored: %v, %v", v, err)
	}
}

// TestBackupWhileWriting copies a database that another process writes to.
func TestBackupWhileWriting(t *testing.T) {
	s, path := open(t)
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := s.SaveApp(t.Context(), fmt.Sprintf("app%d", i%20), i, &gapless.Rollout{ID: fmt.Sprintf("app%d", i%20), Reason: fmt.Sprint(i)}); err != nil {
				done <- err
				return
			}
		}
	}()
	file := filepath.Join(t.TempDir(), "copy.db")
	for range 5 {
		if err := Copy(t.Context(), path, file); err != nil {
			t.Fatal(err)
		}
		c, err := Open(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		names, err := c.Apps(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names { // app and rollout were written together
			var i int
			if err := c.App(t.Context(), name, &i); err != nil {
				t.Fatal(err)
			}
			if r, err := c.Rollout(t.Context(), name); err != nil || r.Reason != fmt.Sprint(i) {
				t.Errorf("%s: %d and %v, %v", name, i, r, err)
			}
		}
		_ = c.Close()
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestNotes(t *testing.T) {
	s, _ := open(t)
	var got []string
	if err := s.Note(t.Context(), "k", &got); gapless.CodeOf(err) != gapless.NotFound {
		t.Errorf("before: %v", err)
	}
	for _, want := range [][]string{{"a"}, {"b", "c"}} {
		if err := s.SetNote(t.Context(), "k", want); err != nil {
			t.Fatal(err)
		}
		if err := s.Note(t.Context(), "k", &got); err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, %v", got, err)
		}
	}
	if err := s.SetNote(t.Context(), "k", nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Note(t.Context(), "k", &got); gapless.CodeOf(err) != gapless.NotFound {
		t.Errorf("after: %v", err)
	}
}
