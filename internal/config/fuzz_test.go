package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gapless"
)

// FuzzFile reads anything as gapless.yaml: it is an app that is valid, or an
// error of which every problem says where it is or what to do.
func FuzzFile(f *testing.F) {
	names, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(names) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	for _, seed := range []string{"", "\x00", "a", "- a", "app: &a x\nrun: *a", "<<: {a: b}", "? [a]\n: b", "app: !!binary aGk=", "run: |\n  a\n  b", "a: b: c", "{", "run: \"", "env: {A: }",
		"processes: {w: }", "processes: {w: {run: x, cron: '@every 0s'}}", "steps: [,]", "steps:\n- {}\n- [a]\n- judge: {}", "memory: 1e400", "instances: 99999999999999999999", "\ufeffapp: x", "---\na: 1\n---\nb: 2", "%YAML 9.9\n---\n"} {
		f.Add(seed)
	}
	dir := filepath.Join(f.TempDir(), "shop")
	if err := os.Mkdir(dir, 0o755); err != nil {
		f.Fatal(err)
	}
	for name, content := range map[string]string{"package.json": `{"name": "shop", "scripts": {"start": "node server.js"}}`, "app.env": "A=1\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			f.Fatal(err)
		}
	}
	line := regexp.MustCompile(`(?m)^[^ \n][^\n]*:\d+:\d+: .`)
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 16<<10 {
			t.Skip("the YAML parser takes its time")
		}
		if err := os.WriteFile(filepath.Join(dir, FileName), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		app, err := load(Input{Dir: dir}, 4)
		if err == nil {
			if err := app.Validate(); err != nil {
				t.Fatalf("%v\n%q", err, text)
			}
			return
		}
		if gapless.CodeOf(err) != gapless.Invalid {
			t.Fatalf("%v\n%q", err, text)
		}
		if msg := err.Error(); !line.MatchString(msg) && !strings.Contains(msg, "hint: ") && gapless.HintOf(err) == "" {
			t.Fatalf("neither a line nor a hint: %q\n%q", msg, text)
		}
	})
}
