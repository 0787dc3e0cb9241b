package cli

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// pages are the README and everything in docs, by path from the top.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	read := func(path string) {
		data, err := os.ReadFile(filepath.Join("../..", path))
		if err != nil {
			t.Fatal(err)
		}
		all[path] = string(data)
	}
	read("README.md")
	err := filepath.WalkDir("../../docs", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			rel, _ := filepath.Rel("../..", path)
			read(rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var typed = regexp.MustCompile(`(?m)^(?:    |\$ |    \$ )(?:sudo )?gapless ([a-z].*)$`)

// inFence is what is typed inside of a fenced block, without a mark before it.
var inFence = regexp.MustCompile(`(?m)^(?:sudo )?gapless ([a-z].*)$`)

// commandsIn are the commands that a page shows.
func commandsIn(text string) [][]string {
	found := typed.FindAllStringSubmatch(text, -1)
	for i, part := range strings.Split(text, "```") {
		if i%2 == 1 {
			found = append(found, inFence.FindAllStringSubmatch(part, -1)...)
		}
	}
	return found
}

// What the documentation tells people to type is a command that exists, with
// flags that exist.
func TestDocumentedCommandsExist(t *testing.T) {
	seen := 0
	for path, text := range pages(t) {
		for _, m := range commandsIn(text) {
			line, _, _ := strings.Cut(m[1], " #")
			line, _, _ = strings.Cut(line, " > ")
			line, _, _ = strings.Cut(line, "  ")
			words := strings.Fields(line)
			if strings.ContainsAny(line, "|[…") || words[0] == "COMMAND" {
				continue // a synopsis
			}
			seen++
			cmd, rest, err := tree().Find(words)
			if err != nil || !cmd.HasParent() {
				t.Errorf("%s: there is no command for %q", path, m[0])
				continue
			}
			checkFlags(t, path, m[0], cmd, rest)
		}
	}
	if seen < 40 {
		t.Errorf("only %d commands were found in the documentation", seen)
	}
}

func checkFlags(t *testing.T, path, line string, cmd *cobra.Command, words []string) {
	t.Helper()
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.AddFlagSet(cmd.Flags())
	flags.AddFlagSet(cmd.InheritedFlags())
	for _, w := range words {
		name, long := strings.CutPrefix(w, "--")
		name, _, _ = strings.Cut(name, "=")
		switch {
		case w == "--":
			return
		case name == "help" && long:
		case long && flags.Lookup(name) == nil:
			t.Errorf("%s: %q: there is no --%s", path, strings.TrimSpace(line), name)
		case !long && len(w) == 2 && w[0] == '-' && flags.ShorthandLookup(w[1:]) == nil:
			t.Errorf("%s: %q: there is no %s", path, strings.TrimSpace(line), w)
		}
	}
}

var (
	links   = regexp.MustCompile(`\]\(([^)#:]*)(?:#([^)]*))?\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notWord = regexp.MustCompile("[^a-z0-9 -]")
)

// Every link leads to a file, and to a heading of it.
func TestDocumentationLinks(t *testing.T) {
	all := pages(t)
	for path, text := range all {
		for _, m := range links.FindAllStringSubmatch(text, -1) {
			target := path
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(path), m[1])
			}
			if _, err := os.Stat(filepath.Join("../..", target)); err != nil {
				t.Errorf("%s: %s leads nowhere", path, m[0])
				continue
			}
			if m[2] == "" || all[target] == "" {
				continue
			}
			found := false
			for _, h := range heading.FindAllStringSubmatch(all[target], -1) {
				found = found || strings.ReplaceAll(notWord.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-") == m[2]
			}
			if !found {
				t.Errorf("%s: %s: no such heading", path, m[0])
			}
		}
	}
}

// The tests that the table of failures names exist.
func TestFailuresAreTested(t *testing.T) {
	names := regexp.MustCompile("`(Test[A-Za-z]+)`").FindAllStringSubmatch(pages(t)["docs/failures.md"], -1)
	if len(names) < 20 {
		t.Fatalf("only %d tests are named", len(names))
	}
	for _, m := range names {
		if out, err := exec.Command("grep", "-rlE", "--include=*_test.go", "^func "+m[1]+`\(`, "../..").Output(); err != nil || len(out) == 0 {
			t.Errorf("docs/failures.md names %s, which is no test: %v", m[1], err)
		}
	}
}
