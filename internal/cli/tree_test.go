package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"gapless"
)

// These tests walk the tree of commands, so that a new command is looked at
// from the day it exists.

func tree() *cobra.Command { return (&command{term: newTerm()}).root() }

// leaves are the commands that a person may run.
func leaves(root *cobra.Command) []*cobra.Command {
	var list []*cobra.Command
	for _, cmd := range commands(root) {
		if documented(cmd) && !cmd.HasSubCommands() {
			list = append(list, cmd)
		}
	}
	return list
}

func TestEveryCommandIsExplained(t *testing.T) {
	for _, cmd := range leaves(tree()) {
		switch {
		case cmd.Short == "" || strings.HasSuffix(cmd.Short, "."):
			t.Errorf("%s: Short is %q; it should be a line without a full stop", cmd.CommandPath(), cmd.Short)
		case cmd.Long == "" && cmd.Example == "":
			t.Errorf("%s has neither Long nor Example", cmd.CommandPath())
		case cmd.RunE == nil:
			t.Errorf("%s has no RunE: its errors cannot have an exit code", cmd.CommandPath())
		case cmd.Args == nil && !strings.Contains(cmd.Use, "…"):
			t.Errorf("%s takes any arguments; say which by Args", cmd.CommandPath())
		}
	}
}

// noJSON are the commands whose answer is not one object, and why.
var noJSON = map[string]string{
	"gapless keeper":        "runs in the foreground and answers nothing",
	"gapless completion":    "its answer is a shell script",
	"gapless exec":          "its answer is the one of the command that it runs",
	"gapless certs renew":   "test/real runs it against an ACME server, and reads its one object",
	"gapless metrics":       "its answer is the text that Prometheus reads",
	"gapless metrics check": "test/real runs it against a real Prometheus, and reads its one array",
	"gapless demo":          "test/real runs it alone, because it counts losses, and reads its one object",
}

// Every command answers with --json: each is run so by a script in
// cmd/gapless, followed by "json", which checks that it is.
func TestEveryCommandAnswersInJSON(t *testing.T) {
	paths, err := filepath.Glob("../../cmd/gapless/testdata/script/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	var scripts strings.Builder
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		scripts.Write(data)
	}
	for _, cmd := range leaves(tree()) {
		path := cmd.CommandPath()
		_, excused := noJSON[path]
		line := regexp.MustCompile(`(?m)^.*exec .*` + regexp.QuoteMeta(path) + `\b[^\n]* --json\b[^\n]*\n(json|stdout)\b`)
		switch proven := line.MatchString(scripts.String()); {
		case proven && excused:
			t.Errorf("%s is excused and answers in JSON all the same", path)
		case !proven && !excused:
			t.Errorf("no script runs %q with --json and looks at the answer with \"json\"; add one to cmd/gapless/testdata/script, or a reason to noJSON", path)
		}
	}
}

func TestManPages(t *testing.T) {
	dir := t.TempDir()
	root := tree()
	if err := writeMan(root, dir, time.Unix(1e9, 0).UTC()); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range append(leaves(root), root) {
		data, err := os.ReadFile(filepath.Join(dir, strings.ReplaceAll(cmd.CommandPath(), " ", "-")+".1"))
		if err != nil {
			t.Error(err)
			continue
		}
		page := strings.ReplaceAll(string(data), `\-`, "-")
		for _, want := range []string{".TH", cmd.Short, "SYNOPSIS"} {
			if !strings.Contains(page, want) {
				t.Errorf("the page of %s has no %q", cmd.CommandPath(), want)
			}
		}
	}
	pages, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, page := range pages {
		if name := filepath.Base(page); name == "gapless-daemon.1" || name == "gapless-edge.1" {
			t.Errorf("%s is a page of a hidden command", name)
		}
	}
}

func TestReferenceIsCurrent(t *testing.T) {
	for name, want := range reference(tree()) {
		got, err := os.ReadFile(filepath.Join("../../docs/reference", name))
		if err != nil || string(got) != want {
			t.Errorf("docs/reference/%s is not what the code says (%v); run: make docs", name, err)
		}
	}
}

func TestEveryExitCodeHasAMeaning(t *testing.T) {
	for _, code := range gapless.Codes() {
		if exits[code.Exit()] == "" {
			t.Errorf("exit code %d of %s has no meaning", code.Exit(), code)
		}
	}
}

func TestEveryTableCanBecomeNarrow(t *testing.T) {
	for _, s := range sheets() {
		seen := map[int]string{}
		for _, c := range s.columns {
			if other := seen[c.drop]; c.drop > 0 && other != "" {
				t.Errorf("%s: %s and %s are dropped in no order", s.command, other, c.head)
			}
			seen[c.drop] = c.head
		}
		if s.columns[0].drop != 0 {
			t.Errorf("%s: its first column can be dropped", s.command)
		}
	}
}
