package snapshot

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gapless"
)

// workspaces is an app whose lockfile needs no registry: its packages are its own.
func workspaces(t *testing.T) string {
	return tree(t, map[string]string{
		".gitignore":             "node_modules\n",
		"package.json":           `{"name":"shop","version":"1.0.0","workspaces":["lib"],"dependencies":{"lib":"*"}}`,
		"lib/package.json":       `{"name":"lib","version":"1.0.0","bin":"cli.js"}`,
		"lib/cli.js":             "+ #!/usr/bin/env node\n",
		"node_modules/lib/of.js": "the user's own, not shipped",
		"package-lock.json": `{"name":"shop","version":"1.0.0","lockfileVersion":3,"requires":true,"packages":{
			"":{"name":"shop","version":"1.0.0","workspaces":["lib"],"dependencies":{"lib":"*"}},
			"lib":{"version":"1.0.0","bin":{"lib":"cli.js"}},
			"node_modules/lib":{"resolved":"lib","link":true}}}`,
	})
}

// install runs Install and tells what it said.
func (h *home) install(t *testing.T, dst string, res *Result, build bool) (string, error) {
	t.Helper()
	var said []string
	err := h.Install(t.Context(), dst, res, Install{Runtime: func() gapless.Runtime { return gapless.Runtime{Version: "1.2.3"} }, Build: build, Private: build,
		Say: func(format string, args ...any) { said = append(said, format) }})
	return strings.Join(said, "; "), err
}

func TestInstallByTheLockfile(t *testing.T) {
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("npm is not here")
	}
	h, src := newHome(t), workspaces(t)
	var first uint64
	for i, want := range []string{"installing", "as before", "installing"} {
		build := i == 2 // development dependencies, too: something else
		dst, res := h.release(t, src, Options{Private: build})
		if !res.Deps {
			t.Fatalf("node_modules was copied: %v", listing(t, dst))
		}
		said, err := h.install(t, dst, &res, build)
		if err != nil || !strings.Contains(said, want) {
			t.Fatalf("install %d said %q: %v (%s)", i, said, err, gapless.HintOf(err))
		}
		lock := filepath.Join(dst, "node_modules/.package-lock.json")
		if _, links := inode(t, lock); build && links != 1 {
			t.Errorf("a build could write to the store")
		}
		check(t, h.Seal(t.Context(), dst, &res, 0))
		got := listing(t, dst)
		if got["node_modules/lib"] != "-> ../lib" || got["node_modules/.bin/lib"] != "-> ../lib/cli.js" {
			t.Errorf("install %d made %v", i, got)
		}
		if _, ok := got["node_modules/lib/of.js"]; ok {
			t.Errorf("the user's own node_modules was shipped")
		}
		if i == 0 {
			first, _ = inode(t, filepath.Join(dst, "lib/cli.js"))
		} else if again, _ := inode(t, filepath.Join(dst, "lib/cli.js")); again == first {
			t.Errorf("a file of the app itself is shared")
		}
	}
	if entries, err := os.ReadDir(h.deps()); err != nil || len(entries) != 2 {
		t.Errorf("the store has %v, %v", entries, err)
	}
	// What the manager says of a lockfile that it cannot use is told.
	add(t, src, map[string]string{"package-lock.json": "{"})
	dst, res := h.release(t, src, Options{})
	if _, err := h.install(t, dst, &res, false); err == nil || !strings.Contains(err.Error(), "npm error") || gapless.HintOf(err) == "" {
		t.Errorf("a broken lockfile: %v", err)
	}
}

func TestInstallNeedsTheManager(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for lock, manager := range map[string]string{"package-lock.json": "npm", "pnpm-lock.yaml": "pnpm", "yarn.lock": "yarn", "bun.lock": "bun"} {
		h := newHome(t)
		src := tree(t, map[string]string{"package.json": `{"dependencies":{"x":"1"}}`, lock: "{}"})
		dst, res := h.release(t, src, Options{})
		_, err := h.install(t, dst, &res, false)
		if err == nil || !strings.Contains(err.Error(), manager+" is needed") || !strings.Contains(gapless.HintOf(err), ".gaplessignore") {
			t.Errorf("%s: %v (hint %q)", lock, err, gapless.HintOf(err))
		}
	}
}

// Without a lockfile, or with one and a node_modules that is shipped, the
// directory is copied; without dependencies there is nothing to install.
func TestInstallIsNotNeeded(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"no lockfile": {".gitignore": "node_modules", "package.json": `{"dependencies":{"x":"1"}}`, "node_modules/x/dist/i.js": "x"},
		"shipped":     {".gitignore": "dist", "package.json": `{"dependencies":{"x":"1"}}`, "package-lock.json": "{}", "node_modules/x/dist/i.js": "x"},
		"brought back": {".gitignore": "node_modules", ".gaplessignore": "!node_modules", "package.json": `{"dependencies":{"x":"1"}}`, "package-lock.json": "{}",
			"node_modules/x/dist/i.js": "x"},
		"no dependencies": {"package.json": `{}`, "package-lock.json": "{}"},
	} {
		h := newHome(t)
		dst, res := h.release(t, tree(t, files), Options{})
		if said, err := h.install(t, dst, &res, false); err != nil || said != "" {
			t.Errorf("%s: said %q, %v", name, said, err)
		}
		if _, err := os.Stat(filepath.Join(dst, "node_modules/x/dist/i.js")); err != nil && name != "no dependencies" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInstallScriptsSeeNoSecrets(t *testing.T) {
	n := &needs{manager: "npm", variables: []string{"NPM_TOKEN", "PATH"}}
	got := strings.Join(n.environment("/bin", map[string]string{"NPM_TOKEN": "t", "DB_PASSWORD": "p", "PATH": "/evil"}), " ")
	if !strings.Contains(got, "NPM_TOKEN=t") || strings.Contains(got, "DB_PASSWORD") || strings.Contains(got, "/evil") {
		t.Errorf("environment %q", got)
	}
}

// Other managers install what their own lockfile says, and again from the store.
func TestInstallByOtherManagers(t *testing.T) {
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("npm is not here")
	}
	run := func(dir, name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	bin := t.TempDir()
	run(bin, "npm", "install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", bin, "pnpm@9", "yarn@1", "bun@1")
	t.Setenv("PATH", filepath.Join(bin, "node_modules/.bin")+":"+os.Getenv("PATH"))
	for manager, lock := range map[string]string{"pnpm": "pnpm-lock.yaml", "yarn": "yarn.lock", "bun": "bun.lock"} {
		t.Run(manager, func(t *testing.T) {
			src := tree(t, map[string]string{
				".gitignore":   "node_modules\n",
				"package.json": `{"name":"shop","version":"1.0.0","private":true,"dependencies":{"is-number":"7.0.0"},"devDependencies":{"is-odd":"3.0.1"}}`,
			})
			run(src, manager, "install")
			check(t, os.RemoveAll(filepath.Join(src, "node_modules")))
			if _, err := os.Stat(filepath.Join(src, lock)); err != nil {
				t.Fatalf("void: %v", err)
			}
			h := newHome(t)
			for i, want := range []string{"installing", "as before"} {
				dst, res := h.release(t, src, Options{})
				said, err := h.install(t, dst, &res, false)
				if err != nil || !strings.Contains(said, want) {
					t.Fatalf("install %d said %q: %v (%s)", i, said, err, gapless.HintOf(err))
				}
				check(t, h.Seal(t.Context(), dst, &res, 0))
				out, err := exec.Command("node", "-p", "require('"+dst+"/node_modules/is-number')(7)").CombinedOutput()
				if err != nil || strings.TrimSpace(string(out)) != "true" {
					t.Errorf("install %d: %v\n%s", i, err, out)
				}
				if _, err := os.Stat(filepath.Join(dst, "node_modules/is-odd")); err == nil {
					t.Errorf("install %d: a development dependency is there without a build", i)
				}
			}
		})
	}
}
