package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gapless"
	"gapless/internal/api"
)

func TestPlainLinesBeatWhileNothingHappens(t *testing.T) {
	s := newFake()
	var out, story bytes.Buffer
	c := &command{term: &term{out: &out, err: &story, width: 80}}
	w := &watcher{c: c, client: api.NewClient(s.serve(t)), r: *s.app.Rollout, began: time.Now(), heartbeat: 20 * time.Millisecond}
	go func() {
		time.Sleep(300 * time.Millisecond)
		s.finish(gapless.Promoted)
	}()
	if err := w.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := "shop heartbeat: step 4 of 6, judge for at most 1m, then pause if undecided, at 5 %"; !strings.Contains(story.String(), want) {
		t.Errorf("no %q in\n%s", want, &story)
	}
	if strings.Contains(story.String(), "\x1b[") {
		t.Errorf("codes of a terminal in %q", &story)
	}
}

func TestOldEventsAreNotTold(t *testing.T) {
	s := newFake()
	s.say("note", "long ago")
	var out, story bytes.Buffer
	c := &command{term: &term{out: &out, err: &story, width: 80}}
	from, r := time.Now(), *s.app.Rollout
	go func() {
		s.say("note", "just now")
		s.finish(gapless.Promoted)
	}()
	if err := c.watchFrom(t.Context(), api.NewClient(s.serve(t)), r, watchFlags{}, from); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(story.String(), "long ago") || !strings.Contains(story.String(), "just now") {
		t.Errorf("told:\n%s", &story)
	}
}

func TestBlockKnowsWhatBecameOfItInANarrowerTerminal(t *testing.T) {
	b := block{shown: []string{strings.Repeat("x", 99), "", "\x1b[1mshort\x1b[0m"}}
	for width, want := range map[int]int{100: 3, 99: 3, 98: 4, 40: 5} {
		if got := b.rows(width); got != want {
			t.Errorf("%d columns: %d rows, want %d", width, got, want)
		}
	}
}

func TestReleaseAmongTheArguments(t *testing.T) {
	for _, c := range []struct {
		in, rest []string
		release  string
		fails    bool
	}{
		{nil, nil, "", false},
		{[]string{"v3"}, []string{}, "v3", false},
		{[]string{"shop"}, []string{"shop"}, "", false},
		{[]string{"shop", "v12"}, []string{"shop"}, "v12", false},
		{[]string{"v1", "v2"}, []string{"v1"}, "v2", false},
		{[]string{"shop", "latest"}, nil, "", true},
	} {
		rest, release, err := splitRelease(c.in)
		if release != c.release || (err != nil) != c.fails || !c.fails && strings.Join(rest, " ") != strings.Join(c.rest, " ") {
			t.Errorf("%v: %v, %q, %v", c.in, rest, release, err)
		}
	}
}

func TestCompareFindsWhatDiffers(t *testing.T) {
	dir, tree := t.TempDir(), t.TempDir()
	long := time.Now().Add(-time.Hour)
	write := func(root, name, text string, at time.Time) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"same.js", "touched.js", "edited.js", "longer.js", "lib/deep.js"} {
		write(dir, name, "one", long)
		write(tree, name, "one", long)
	}
	write(dir, "touched.js", "one", time.Now())
	write(dir, "edited.js", "two", time.Now())
	write(dir, "longer.js", "three", long)
	write(dir, "new.js", "x", long)
	write(dir, ".git/HEAD", "x", long)
	write(dir, "uploads/a", "x", long)
	write(dir, ".gitignore", "*.log\nnode_modules/\n", long)
	write(tree, ".gitignore", "*.log\nnode_modules/\n", long)
	write(dir, "debug.log", "x", long)
	write(tree, "node_modules/installed/index.js", "x", long)
	write(tree, "public/of-a-former-release.js", "x", long)
	write(dir, "shared.js", "x", long)
	write(tree, "shared.js", "x", long)
	if err := os.Chmod(filepath.Join(tree, "shared.js"), 0o444); err != nil {
		t.Fatal(err)
	}
	write(tree, "dist/built.js", "x", long)
	want := &fileChanges{Changed: []string{"edited.js", "longer.js"}, Added: []string{"new.js"}, Removed: []string{}}
	if d := cmp.Diff(want, compare(dir, tree, true, []string{"uploads"}, []string{"public"})); d != "" {
		t.Errorf("with a build (-want +got):\n%s", d)
	}
	want.Removed = []string{"dist/built.js"}
	if d := cmp.Diff(want, compare(dir, tree, false, []string{"uploads"}, []string{"public"})); d != "" {
		t.Errorf("without a build (-want +got):\n%s", d)
	}
	if got := compare(dir, filepath.Join(tree, "absent"), false, nil, nil); got != nil {
		t.Errorf("a tree that is not there: %v", got)
	}
}
