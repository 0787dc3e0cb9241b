package snapshot

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// kept lists the files below dir that the rules leave.
func kept(t *testing.T, dir string) (out []string) {
	t.Helper()
	ig, err := NewIgnore(dir)
	check(t, err)
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		skip, _, err := ig.Match(rel, d.IsDir())
		if err != nil {
			return err
		}
		if (skip || d.Name() == ".git") && d.IsDir() {
			return fs.SkipDir
		}
		if !skip && !d.IsDir() {
			out = append(out, rel)
		}
		return nil
	}))
	slices.Sort(out)
	return out
}

// gitKeeps asks git itself.
func gitKeeps(t *testing.T, dir string) (out []string) {
	t.Helper()
	cmd := exec.Command("git", "-C", dir, "-c", "core.excludesFile=/dev/null", "ls-files", "-z", "--others", "--exclude-per-directory=.gitignore")
	data, err := cmd.Output()
	check(t, err)
	for _, name := range bytes.Split(data, []byte{0}) {
		if len(name) > 0 {
			out = append(out, string(name))
		}
	}
	slices.Sort(out)
	return out
}

func repository(t *testing.T, files map[string]string) string {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git says what its rules are, and is not here")
	}
	dir := tree(t, files)
	out, err := exec.Command("git", "init", "-q", "--template=", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("git init: %v %s", err, out)
	}
	return dir
}

func TestIgnoreByGitsRules(t *testing.T) {
	names := []string{"a", "b.log", "dist/x.js", "dist/keep.js", "src/dist/y", "src/a", "src/deep/a", "src/deep/b.log", "doc/a.txt", "doc/in/a.txt",
		"#x", "!y", "sp ", "sp", "[z]", "x-1", "x-9", "x-]", "foo/bar/baz", "foo/q/bar/baz", "back\\slash", "Abc", ".env", ".hidden/x", "new\nline"}
	files := map[string]string{}
	for _, n := range names {
		files[n] = "x"
	}
	dir := repository(t, files)
	for _, rules := range []string{
		"*.log", "dist", "dist/", "/dist", "/dist/", "dist/*\n!dist/keep.js", "dist/\n!dist/keep.js", "src/dist", "**/a", "a/**", "src/**", "src/**/a",
		"foo/**/baz", "foo/*/baz", "doc/*.txt", "/*\n!/src", "/*\n!/src\n/src/*\n!/src/deep", "\\#x", "#x", "\\!y", "!y", "sp\\ ", "sp ", "x-[0-8]", "x-[!0-8]", "x-[]]", "[[]z]",
		"x-[[:digit:]]", "back\\\\slash", "ab?", "?bc", "**", "*", "/**", "**/", "/", "!a", "*\n!*/\n!a", ".*", "src/", "deep/a", "src//a", "d[i", "a\\", "dist/**/", "***/a", "s*c", "src/d**p/a", "\r\na\r\n", "\ufeffa", "foo/**/**/baz", "**/deep/**",
	} {
		check(t, os.WriteFile(filepath.Join(dir, ".gitignore"), []byte(rules+"\n"), 0o644))
		if d := cmp.Diff(gitKeeps(t, dir), kept(t, dir)); d != "" {
			t.Errorf("%q (-git +gapless):\n%s", rules, d)
		}
	}
}

// TestIgnoreLikeGit compares with git on rules that chance has written.
func TestIgnoreLikeGit(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	pick := func(list ...string) string { return list[rnd.IntN(len(list))] }
	name := func() string { return pick("a", "b", "ab", "ba", "a.b", "abc") }
	dir := repository(t, nil)
	for round := range 40 {
		check(t, os.RemoveAll(filepath.Join(dir, "da")))
		files := map[string]string{}
		for range 25 {
			parts := make([]string, 1+rnd.IntN(4))
			for i := range parts {
				parts[i] = "d" + name()
			}
			parts[len(parts)-1] = name()
			files[strings.Join(parts, "/")] = "x"
		}
		for _, at := range []string{"", "da/", "da/db/"} {
			var lines []string
			for range rnd.IntN(5) {
				line := pick("", "", "!", "/", "!/", "**/")
				for i := range 1 + rnd.IntN(3) {
					if i > 0 {
						line += pick("/", "/", "/**/")
					}
					// No name with ** in it: git takes those for its own ** by chance of what stands before.
					line += pick("**", pick("d", "")+name(), pick("d", "")+pick("*", "a*", "*b", "?", "[ab]", "[!a]*"))
				}
				lines = append(lines, line+pick("", "", "/"))
			}
			files[at+".gitignore"] = strings.Join(lines, "\n")
		}
		add(t, dir, files)
		if d := cmp.Diff(gitKeeps(t, dir), kept(t, dir)); d != "" {
			rules := ""
			for _, at := range []string{"", "da/", "da/db/"} {
				rules += fmt.Sprintf("%s.gitignore: %q\n", at, files[at+".gitignore"])
			}
			t.Fatalf("seed %d, round %d\n%s(-git +gapless):\n%s", seed, round, rules, d)
		}
	}
}

func TestOwnIgnoreWins(t *testing.T) {
	dir := tree(t, map[string]string{
		".gitignore": "dist/\n*.secret\n", ".gaplessignore": "!dist/\ntests\n", "src/.gitignore": "!x.secret\n", "src/.gaplessignore": "*.md",
		"dist/app.js": "x", "tests/t.js": "x", "a.secret": "x", "src/x.secret": "x", "src/a.md": "x", "b.md": "x",
	})
	want := []string{".gaplessignore", ".gitignore", "b.md", "dist/app.js", "src/.gaplessignore", "src/.gitignore", "src/x.secret"}
	if d := cmp.Diff(want, kept(t, dir)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// An app in a part of a work tree obeys the files above it; outside of a work
// tree nothing above has a say, and a link is no ignore file.
func TestIgnoreAboveTheApp(t *testing.T) {
	repo := tree(t, map[string]string{".git/HEAD": "x", ".gitignore": "*.log\n/apps/shop/tmp\napps\n", "apps/shop/a.log": "x", "apps/shop/tmp/x": "x", "apps/shop/apps/x": "x", "apps/shop/ok": "x"})
	if d := cmp.Diff([]string{"ok"}, kept(t, filepath.Join(repo, "apps/shop"))); d != "" {
		t.Errorf("in a work tree (-want +got):\n%s", d)
	}
	check(t, os.RemoveAll(filepath.Join(repo, ".git")))
	check(t, os.Symlink("../../.gitignore", filepath.Join(repo, "apps/shop/.gitignore")))
	if got := kept(t, filepath.Join(repo, "apps/shop")); len(got) != 5 {
		t.Errorf("outside of one: %q", got)
	}
}

// Rules made to be slow are not.
func TestIgnoreTakesNoForever(t *testing.T) {
	for _, rules := range []string{strings.Repeat("*a", 60) + "b", strings.Repeat("**/a/", 60) + "b", strings.Repeat("[a-z]*", 60) + "!"} {
		p, ok := parsePattern(rules)
		if !ok || p.match(strings.Repeat("a/", 100)+strings.Repeat("a", 200), strings.Repeat("a", 200), false) {
			t.Errorf("%.20q… matches", rules)
		}
	}
}
