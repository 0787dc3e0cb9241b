package cli

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRelinked(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(top, name) }
	for _, dir := range []string{"releases/1", "releases/2", "elsewhere/other"} {
		if err := os.MkdirAll(at(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"current": "releases/2", "away": "elsewhere/other", "dead": "releases/9"} {
		if err := os.Symlink(at(to), at(name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		what, dir, pwd string
		want           bool
	}{
		{"the link leads to a sibling now", at("releases/1"), at("current"), true},
		{"the directory of before was removed", "", at("current"), true},
		{"it leads to where we stand", at("current"), at("current"), false},
		{"it leads somewhere else: a program changed its directory and not $PWD", at("releases/1"), at("away"), false},
		{"not a link: likewise", at("releases/1"), at("elsewhere/other"), false},
		{"a dead link", at("releases/1"), at("dead"), false},
		{"not absolute", at("releases/1"), "current", false},
		{"not clean", at("releases/1"), top + "/releases/../current", false},
		{"not set", at("releases/1"), "", false},
	} {
		if got := relinked(c.dir, c.pwd); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}
