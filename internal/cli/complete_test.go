package cli

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gapless/internal/daemon"
)

// completed runs what a shell runs after a tab and returns the words offered.
func completed(t *testing.T, args ...string) []string {
	t.Helper()
	root := tree()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&bytes.Buffer{})
	root.SetArgs(append([]string{"__complete"}, args...))
	if err := root.ExecuteContext(context.Background()); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var words []string
	for _, line := range lines[:len(lines)-1] { // the last one is the directive
		word, _, _ := strings.Cut(line, "\t")
		_, typed, _ := strings.Cut(args[len(args)-1], "=")
		if typed == "" && !strings.Contains(args[len(args)-1], "=") {
			typed = args[len(args)-1]
		}
		if strings.HasPrefix(word, typed) { // as shells do
			words = append(words, word)
		}
	}
	return words
}

func TestCompletionKnowsWhatRuns(t *testing.T) {
	t.Setenv("GAPLESS_HOME", newFakeApp().home(t))
	for line, want := range map[string]string{
		"status ":                      "shop",
		"logs ":                        "shop",
		"logs shop ":                   "",
		"logs --instance ":             "v41/1 v42/1 v42/2 v42/mailer.1 v41 v42 mailer",
		"logs -i v42/":                 "v42/1 v42/2 v42/mailer.1",
		"logs --stream ":               "out err",
		"rollback ":                    "shop v42 v41",
		"rollback v4":                  "v42 v41",
		"rollback shop ":               "v42 v41",
		"rollback shop v41 ":           "",
		"show ":                        "r1",
		"scale ":                       "shop mailer= web=",
		"scale shop ma":                "mailer=",
		"promote ":                     "shop",
		"deploy --on-interrupt ":       "detach abort",
		"status --json=":               "object stream",
		"status --columns in":          "instance in-flight",
		"rollba":                       "rollback",
		"completion ":                  "bash fish zsh",
		"keeper ":                      "",
		"top sh":                       "shop",
		"deploy --instances ":          "",
		"install --user --name ":       "",
		"history shop --columns rollo": "rollout",
	} {
		args := strings.Split(line, " ")
		var got []string
		for tab := 0; tab == 0 || tab < 20 && strings.Join(got, " ") != want; tab++ { // on a busy machine one may not be enough
			got = completed(t, args...)
			if args[0] == "completion" {
				slices.Sort(got)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q offers %q, want %q", line, got, want)
		}
	}
}

// Without a daemon there are no names, quickly, and nothing is started.
func TestCompletionIsSilentWithoutADaemon(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	t.Setenv("GAPLESS_HOME", home)
	for _, line := range []string{"status ", "rollback ", "show ", "scale ", "logs --instance ", "top "} {
		began := time.Now()
		if got := completed(t, strings.Split(line, " ")...); len(got) != 0 {
			t.Errorf("%q offers %q", line, got)
		}
		if took := time.Since(began); took > completeWithin+3*time.Second {
			t.Errorf("%q took %s", line, took)
		}
	}
	if _, err := os.Stat(home); err == nil {
		t.Error("completion made the home")
	}
}

// A daemon that does not answer is not waited for.
func TestCompletionIsBounded(t *testing.T) {
	dir, err := os.MkdirTemp("", "gl-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	t.Setenv("GAPLESS_HOME", dir)
	socket := daemon.Home(dir).APISocket()
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", socket) // the kernel takes connections, nobody reads them
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	began := time.Now()
	if got := completed(t, "show", ""); len(got) != 0 {
		t.Errorf("it offers %q", got)
	}
	if took := time.Since(began); took < completeWithin || took > completeWithin+3*time.Second {
		t.Errorf("it took %s, %s was the limit", took, completeWithin)
	}
}
