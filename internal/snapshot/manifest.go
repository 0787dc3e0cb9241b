package snapshot

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"gapless"
)

// manifest is the part of package.json that says how things are started.
type manifest struct {
	Name    string            `json:"name"`
	Version string            `json:"version"`
	Main    string            `json:"main"`
	Scripts map[string]string `json:"scripts"`
	Engines struct {
		Node string `json:"node"`
	} `json:"engines"`
	Volta struct {
		Node string `json:"node"`
	} `json:"volta"`
}

// readManifest returns the tree's package.json, empty if there is none.
func readManifest(tree string) (manifest, error) {
	var m manifest
	data, err := os.ReadFile(filepath.Join(tree, "package.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return m, gapless.Errorf(gapless.Invalid, "package.json cannot be read: %w", err)
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(string(data), "\ufeff")), &m); err != nil {
		var typed *json.UnmarshalTypeError
		if errors.As(err, &typed) && (strings.HasPrefix(typed.Field, "engines") || strings.HasPrefix(typed.Field, "volta") || typed.Field == "version") {
			return m, nil // old forms of fields that only advise
		}
		return m, gapless.Errorf(gapless.Invalid, "package.json is not valid: %w", err)
	}
	return m, nil
}

// pnpmShim finds the script in the shell script that pnpm puts in node_modules/.bin.
var pnpmShim = regexp.MustCompile(`(?m)^\s*exec node\s+"\$basedir/([^"]+)"\s+"\$@"`)

// nodeScript returns the node arguments that run the file name of the tree
// (relative), as its first line asks; nil if node does not run it. Links are
// resolved, so that the script finds its own dependencies.
func nodeScript(tree, name string) []string {
	root, err := filepath.EvalSymlinks(tree)
	if err != nil {
		return nil
	}
	for range 3 { // a shim may lead to a shim
		real, err := filepath.EvalSymlinks(filepath.Join(root, name))
		if err != nil || !within(root, real) {
			return nil
		}
		if name, err = filepath.Rel(root, real); err != nil {
			return nil
		}
		head := readHead(real)
		line, _, _ := strings.Cut(head, "\n")
		if !strings.HasPrefix(line, "#!") {
			if isScript(name) {
				return []string{name}
			}
			return nil
		}
		words := strings.Fields(line[2:])
		if len(words) > 0 && filepath.Base(words[0]) == "env" {
			words = slices.DeleteFunc(words[1:], func(w string) bool { return w == "-S" })
		}
		if len(words) > 0 && filepath.Base(words[0]) == "node" {
			return append(words[1:], name)
		}
		m := pnpmShim.FindStringSubmatch(head)
		if m == nil {
			return nil
		}
		name = filepath.Join(filepath.Dir(name), m[1])
	}
	return nil
}

// readHead returns the start of a file: enough for its first line or a shim.
func readHead(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	buf := make([]byte, 8<<10)
	n, _ := f.Read(buf)
	return string(buf[:n])
}

func isScript(name string) bool {
	switch filepath.Ext(name) {
	case ".js", ".cjs", ".mjs", ".ts", ".cts", ".mts":
		return true
	}
	return false
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
