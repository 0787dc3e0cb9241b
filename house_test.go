package gapless_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// may says which packages of this module each package may import, beside the
// root. Packages that do one job never import each other; what is not listed
// may import nothing but the root and its own subpackages.
var may = map[string][]string{
	"cmd/gapless":     {"internal/cli"},
	"internal/cli":    {"internal/api", "internal/config", "internal/daemon", "internal/judge", "internal/load", "internal/pm2"}, // judge: replay; load: the demo's traffic
	"internal/acme":   {"internal/durable"},
	"internal/daemon": {"internal/acme", "internal/alert", "internal/api", "internal/durable", "internal/edge", "internal/judge", "internal/keeper", "internal/measure", "internal/notify", "internal/rollout", "internal/snapshot", "internal/store", "internal/supervise"},
	"internal/edge":   {"internal/durable", "internal/edge/h1", "internal/edge/xconnect", "internal/rotate"},
	"internal/keeper": {"internal/rotate"},
}

// small are the packages that must stay small and start fast: their whole
// dependency tree is the standard library, golang.org/x and the root.
var small = map[string]bool{"internal/keeper": true, "internal/edge": true, "internal/edge/h1": true, "internal/edge/xconnect": true, "internal/rotate": true, "internal/durable": true, "internal/rollout": true}

func TestImportsPointDown(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps=false", "-json=ImportPath,Imports,Deps", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for dec.More() {
		var p struct {
			ImportPath    string
			Imports, Deps []string
		}
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, "gapless"), "/")
		if strings.HasPrefix(name, "test/") { // tests and benchmarks stand outside of the house
			continue
		}
		seen++
		allowed := map[string]bool{"gapless": true}
		for _, a := range may[name] {
			allowed["gapless/"+a] = true
		}
		for _, i := range p.Imports {
			ours := i == "gapless" || strings.HasPrefix(i, "gapless/")
			switch {
			case name == "" && strings.Contains(strings.Split(i, "/")[0], "."):
				t.Errorf("the root imports %s; it may import only the standard library", i)
			case ours && !allowed[i]:
				t.Errorf("%s may not import %s", p.ImportPath, i)
			}
		}
		for _, d := range p.Deps {
			if small[name] && strings.Contains(strings.Split(d, "/")[0], ".") && !strings.HasPrefix(d, "golang.org/x/") {
				t.Errorf("%s depends on %s; it must stay small", p.ImportPath, d)
			}
		}
	}
	if seen < 10 {
		t.Fatalf("only %d packages were looked at", seen)
	}
}

// TestNoPlacesOfThisMachine keeps the paths of whoever builds it out of what
// is published: where this checkout lies, and their home.
func TestNoPlacesOfThisMachine(t *testing.T) {
	top, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("git", "grep", "-nIF", "-e", top, "-e", home+"/", "--", ".").CombinedOutput()
	if err == nil {
		t.Errorf("paths of a development machine:\n%s", out)
	}
}
