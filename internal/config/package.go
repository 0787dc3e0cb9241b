package config

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// manifest is the part of package.json that says how an app is named, built and started.
type manifest struct {
	Name    string            `json:"name"`
	Main    string            `json:"main"`
	Scripts map[string]string `json:"scripts"`
}

// readManifest reads dir/package.json; nil without a fault when there is none.
func readManifest(dir string, p *problems) *manifest {
	const name = "package.json"
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	data, f := readFile(path, maxFile)
	if f != nil {
		p.add(place{file: name}, f)
		return nil
	}
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		at, f := jsonFault(name, data, err)
		p.add(at, f)
		return nil
	}
	return &m
}

// jsonFault finds the line and column of what encoding/json complains about.
func jsonFault(name string, data []byte, err error) (place, *fault) {
	offset, f := len(data), faultf("%s", strings.TrimPrefix(err.Error(), "json: "))
	var syntax *json.SyntaxError
	var typed *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = int(syntax.Offset) - 1
		f = faultf("not valid JSON: %s", syntax.Error())
	case errors.As(err, &typed):
		offset = int(typed.Offset) - 1
		f = faultf("%s is a JSON %s, but must be %s", typed.Field, typed.Value, jsonKind(typed))
		if typed.Field == "" {
			f = faultf("the file is a JSON %s, but must be an object", typed.Value)
		}
	}
	offset = min(max(offset, 0), len(data))
	before := string(data[:offset])
	line := strings.Count(before, "\n") + 1
	col := len([]rune(before[strings.LastIndexByte(before, '\n')+1:])) + 1
	text := strings.TrimSuffix(strings.Split(string(data), "\n")[line-1], "\r")
	return place{file: name, line: line, col: col, width: 1, text: text}, f
}

func jsonKind(e *json.UnmarshalTypeError) string {
	if e.Type.Kind().String() == "map" {
		return "an object"
	}
	return "a string"
}

// starts reports whether a web process can be started from dir without being told how.
func (m *manifest) starts(dir string) bool {
	if m != nil && (m.Scripts["start"] != "" || m.Main != "") {
		return true
	}
	return isFile(filepath.Join(dir, "server.js")) || m != nil && isFile(filepath.Join(dir, "index.js"))
}

// build is the command of the build script, "" if there is none. The
// lockfile tells which package manager the app uses.
func (m *manifest) build(dir string) string {
	if m == nil || strings.TrimSpace(m.Scripts["build"]) == "" {
		return ""
	}
	for _, l := range []struct{ lockfile, manager string }{
		{"pnpm-lock.yaml", "pnpm"}, {"yarn.lock", "yarn"}, {"bun.lock", "bun"}, {"bun.lockb", "bun"},
	} {
		if isFile(filepath.Join(dir, l.lockfile)) {
			return l.manager + " run build"
		}
	}
	return "npm run build"
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
