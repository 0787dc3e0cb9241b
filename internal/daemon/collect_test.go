package daemon

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/rollout"
	"gapless/internal/snapshot"
)

func TestCollectable(t *testing.T) {
	now := time.Date(2026, 1, 10, 0, 0, 0, 0, time.UTC)
	// v1 … v8 served for a day each, v8 serves; f1 … f4 were taken back.
	var history []gapless.Rollout
	var list []gapless.Release
	for i := 8; i >= 1; i-- {
		list = append(list, gapless.Release{Name: fmt.Sprintf("v%d", i), Created: now.AddDate(0, -1, i)})
		history = append(history, gapless.Rollout{From: fmt.Sprintf("v%d", i-1), To: fmt.Sprintf("v%d", i), Outcome: gapless.Promoted, Finished: now.AddDate(0, 0, i-8)})
	}
	for i := 4; i >= 1; i-- {
		list = append(list, gapless.Release{Name: fmt.Sprintf("f%d", i), Created: now.AddDate(0, 0, -i)})
	}
	for name, c := range map[string]struct {
		keep keeping
		used string
		gone string
	}{
		"the default":                         {keeping{}, "v8", "v2 v1 f2 f1"},
		"two":                                 {keeping{policy: gapless.ReleasePolicy{Keep: 2}}, "v8", "v5 v4 v3 v2 v1 f2 f1"},
		"one, and two in use":                 {keeping{policy: gapless.ReleasePolicy{Keep: 1}}, "v8 v3", "v6 v5 v4 v2 v1 f2 f1"},
		"what a rollout names":                {keeping{policy: gapless.ReleasePolicy{Keep: 1}}, "v8 f1", "v6 v5 v4 v3 v2 v1 f2"},
		"the window wins over the count":      {keeping{policy: gapless.ReleasePolicy{Keep: 1}, window: 60 * time.Hour}, "v8", "v4 v3 v2 v1 f2 f1"},
		"age counts from when it last served": {keeping{policy: gapless.ReleasePolicy{MaxAge: gapless.Duration(36 * time.Hour)}}, "v8", "v5 v4 v3 v2 v1 f4 f3 f2 f1"},
		"the window wins over the age":        {keeping{policy: gapless.ReleasePolicy{MaxAge: gapless.Duration(time.Hour)}, window: 36 * time.Hour}, "v8", "v5 v4 v3 v2 v1 f4 f3 f2 f1"},
		"what is in use has no age":           {keeping{policy: gapless.ReleasePolicy{MaxAge: gapless.Duration(time.Minute)}}, "v8 v1", "v6 v5 v4 v3 v2 f4 f3 f2 f1"},
	} {
		c.keep.now = now.Add(time.Second)
		used := map[string]bool{}
		for _, u := range strings.Fields(c.used) {
			used[u] = true
		}
		var gone []string
		for _, i := range c.keep.collectable(list, used, history) {
			gone = append(gone, list[i].Name)
		}
		if got := strings.Join(gone, " "); got != c.gone {
			t.Errorf("%s: deletes %q, want %q", name, got, c.gone)
		}
	}
}

// TestManyDeploys makes and collects 200 releases in a row: disk and
// descriptors stay bounded.
func TestManyDeploys(t *testing.T) {
	home, st := anInstallation(t)
	trees, err := snapshot.Open(home.Content())
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{ctx: t.Context(), home: home, vault: &vault{home: home}, store: st, trees: trees, key: []byte("0123456789abcdef"), log: slog.New(slog.DiscardHandler),
		apps: map[string]*app{}, releases: map[string]*gapless.Release{}, router: &router{}}
	a := &app{name: "many", runner: &rollout.Runner{App: "many"}}
	d.apps["many"] = a
	src := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(src, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("server.sh", "exit 0")
	write("node_modules/big/index.js", strings.Repeat("x", 1<<20))
	spec := gapless.App{Name: "many", Source: src, Listen: []string{":1"}, Path: "/", Assets: []string{"public"}, Shared: []string{"uploads"},
		Releases: gapless.ReleasePolicy{Keep: 3}, Processes: []gapless.Process{{Name: gapless.WebProcess, Run: "./server.sh", Instances: 1}}}
	var files, fds, size int
	for i := range 200 {
		write(fmt.Sprintf("public/app.%d.js", i), strings.Repeat("y", 1000))
		write("node_modules/changes/index.js", fmt.Sprint(i))
		if err := ignoreMissing(os.Remove(filepath.Join(src, fmt.Sprintf("public/app.%d.js", i-1)))); err != nil {
			t.Fatal(err)
		}
		rel, err := d.prepare(t.Context(), api.DeployRequest{Kind: "deploy", App: spec}, nil, func(string, ...any) {})
		if err != nil {
			t.Fatal(err)
		}
		r := &gapless.Rollout{ID: fmt.Sprintf("r%03d", i), App: "many", From: fmt.Sprintf("v%d", i), To: rel.Name, Outcome: gapless.Promoted, Finished: time.Now()}
		s := rollout.State{App: "many", Stable: rel.Name}
		a.runner.Init(s)
		if err := st.SaveApp(t.Context(), "many", s, r); err != nil {
			t.Fatal(err)
		}
		d.collectReleases(a)
		if i == 20 {
			files, fds, size = usage(t, home)
		}
	}
	if f, n, b := usage(t, home); f > files+5 || n > fds+5 || b > size+1<<20 {
		t.Errorf("after 20 deploys %d files, %d descriptors, %d bytes; after 200 %d, %d, %d", files, fds, size, f, n, b)
	}
	list, err := st.Releases(t.Context(), "many")
	if err != nil || len(list) != 4 || list[0].Name != "v200" {
		t.Errorf("%d releases are left, %v", len(list), err)
	}
	assets, err := os.ReadDir(filepath.Join(list[0].Tree, "public"))
	if err != nil || len(assets) < 2 || len(assets) > 6 {
		t.Errorf("the newest release answers for %v, %v", assets, err)
	}
}

// usage counts files below a home, open descriptors and bytes on disk, each inode once.
func usage(t *testing.T, home Home) (files, fds, size int) {
	t.Helper()
	var seen []os.FileInfo
	err := filepath.WalkDir(string(home), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasPrefix(d.Name(), "gapless.db") {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files++
		if !slices.ContainsFunc(seen, func(o os.FileInfo) bool { return os.SameFile(o, info) }) {
			seen, size = append(seen, info), size+int(info.Size())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("descriptors cannot be counted here")
	}
	return files, len(open), size
}
