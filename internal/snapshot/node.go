package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gapless"
)

// DetectNode finds the node that a release of tree is pinned to: the one in
// PATH if it satisfies engines.node of package.json, else the newest of the
// usual version managers that does. A version that .nvmrc, .node-version or
// volta name is preferred among them, but not required: such files are often
// older than the machine. An unsatisfied or unreadable engines.node is an
// error, because the app's author said so.
func DetectNode(tree string) (gapless.Runtime, error) {
	home, _ := os.UserHomeDir()
	return finder{tree: tree, home: home, path: os.Getenv("PATH"), getenv: os.Getenv}.find()
}

// finder holds what the search depends on.
type finder struct {
	tree, home, path string
	getenv           func(string) string
}

type node struct {
	path string
	version
}

func (f finder) find() (gapless.Runtime, error) {
	m, err := readManifest(f.tree)
	if err != nil {
		return gapless.Runtime{}, err
	}
	engines := strings.TrimSpace(m.Engines.Node)
	if _, ok := satisfies(zero, engines); !ok {
		return gapless.Runtime{}, gapless.Errorf(gapless.NotStarted, "engines.node of package.json is %q, which is not a version range", engines).
			WithHint(`write it like ">=20" or "^20.11 || ^22"`)
	}
	wanted := f.wanted(m)
	fits := func(n node) bool { ok, _ := satisfies(n.version, engines); return ok }
	prefers := func(n node) bool {
		ok, readable := satisfies(n.version, wanted)
		return ok || !readable
	}

	current, currentErr := f.inPath()
	if currentErr == nil && fits(current) && prefers(current) {
		return current.runtime(), nil
	}
	installed := f.managed()
	for _, ok := range []func(node) bool{
		func(n node) bool { return fits(n) && prefers(n) }, fits,
	} {
		if currentErr == nil && ok(current) {
			return current.runtime(), nil
		}
		for _, i := range installed {
			if !ok(i) {
				continue
			}
			if n, err := ask(f.tree, i.path, f.path); err == nil && ok(n) { // a directory's name proves nothing
				return n.runtime(), nil
			}
		}
	}
	if currentErr != nil && len(installed) == 0 {
		return gapless.Runtime{}, gapless.Errorf(gapless.NotStarted, "node was not found: %w", currentErr).
			WithHint("install Node.js, or start gapless where node is in PATH (it looked there and below ~/.nvm, fnm, volta and asdf)")
	}
	have := []string{}
	if currentErr == nil {
		have = append(have, current.String()+" ("+current.path+")")
	}
	for _, n := range installed {
		if len(have) < 6 && n.path != current.path {
			have = append(have, n.String()+" ("+n.path+")")
		}
	}
	return gapless.Runtime{}, gapless.Errorf(gapless.NotStarted, "package.json asks for node %s, but found only %s", engines, strings.Join(have, ", ")).
		WithHint("install a node that fits, as in: nvm install %s; or change engines.node in package.json", suggest(engines))
}

func (n node) runtime() gapless.Runtime {
	return gapless.Runtime{Name: "node", Path: n.path, Version: n.String()}
}

// suggest is a version to install for a range: its first number.
func suggest(engines string) string {
	major := strings.TrimLeft(engines, "<>=^~v ")
	if i := strings.IndexFunc(major, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		major = major[:i]
	}
	if major == "" {
		return "--lts"
	}
	return major
}

// wanted is the range that version files name, "" for any.
func (f finder) wanted(m manifest) string {
	for _, name := range []string{".nvmrc", ".node-version"} {
		data, err := os.ReadFile(filepath.Join(f.tree, name))
		if err != nil || len(data) > 4096 {
			continue
		}
		for _, line := range strings.Split(string(data), "\n") {
			line, _, _ = strings.Cut(line, "#")
			if line = strings.TrimSpace(line); line != "" {
				return ltsNames(line)
			}
		}
	}
	return m.Volta.Node
}

// ltsNames turns nvm's names of release lines into ranges.
func ltsNames(s string) string {
	lines := map[string]string{"argon": "4", "boron": "6", "carbon": "8", "dubnium": "10", "erbium": "12",
		"fermium": "14", "gallium": "16", "hydrogen": "18", "iron": "20", "jod": "22", "krypton": "24"}
	if name, ok := strings.CutPrefix(strings.ToLower(s), "lts/"); ok {
		return lines[name] // "" (any) for lts/* and names of the future
	}
	return s
}

// inPath returns the node that a shell would start.
func (f finder) inPath() (node, error) {
	for _, dir := range filepath.SplitList(f.path) {
		if !filepath.IsAbs(dir) {
			continue
		}
		path := filepath.Join(dir, "node")
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			continue
		}
		return ask(f.tree, path, f.path)
	}
	return node{}, errors.New("there is no node in PATH")
}

// ask runs node for its version and for where it really is: what PATH names
// may be the shim of a version manager, or a link that changes with the shell.
func ask(tree, path, searchPath string) (node, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "-p", "process.version + '\\n' + process.execPath")
	cmd.Dir = tree
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "NODE_OPTIONS=") || strings.HasPrefix(kv, "PATH=")
	})
	cmd.Env = append(cmd.Env, "PATH="+searchPath)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return node{}, fmt.Errorf("%s does not run: %w", path, err)
	}
	first, exe, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	base, _, _ := strings.Cut(strings.TrimSpace(first), "-") // v23.0.0-nightly…
	v, ok := parseVersion(base)
	if !ok || !filepath.IsAbs(exe) {
		return node{}, fmt.Errorf("%s does not answer as node does", path)
	}
	return node{exe, v}, nil
}

// managed lists what version managers have installed, newest first.
func (f finder) managed() []node {
	dir := func(variable, otherwise string) string {
		if d := f.getenv(variable); d != "" {
			return d
		}
		return filepath.Join(f.home, otherwise)
	}
	patterns := []string{
		filepath.Join(dir("NVM_DIR", ".nvm"), "versions/node/*/bin/node"),
		filepath.Join(dir("FNM_DIR", ".local/share/fnm"), "node-versions/*/installation/bin/node"),
		filepath.Join(f.home, ".fnm/node-versions/*/installation/bin/node"),
		filepath.Join(dir("VOLTA_HOME", ".volta"), "tools/image/node/*/bin/node"),
		filepath.Join(dir("ASDF_DATA_DIR", ".asdf"), "installs/nodejs/*/bin/node"),
		filepath.Join(dir("MISE_DATA_DIR", ".local/share/mise"), "installs/node/*/bin/node"),
		filepath.Join(dir("N_PREFIX", "n"), "n/versions/node/*/bin/node"),
	}
	var all []node
	for _, p := range patterns {
		paths, _ := filepath.Glob(p) // its only error is a bad pattern: a home with [ in its name
		for _, path := range paths {
			named := strings.TrimSuffix(strings.TrimSuffix(path, "/bin/node"), "/installation")
			if v, ok := parseVersion(filepath.Base(named)); ok {
				all = append(all, node{path, v})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b node) int {
		switch {
		case a.less(b.version):
			return 1
		case b.less(a.version):
			return -1
		}
		return 0
	})
	return all
}
