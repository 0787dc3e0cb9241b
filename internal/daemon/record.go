package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"gapless"
	"gapless/internal/durable"
	"gapless/internal/rollout"
)

// Beside the database every release and what serves of every app are written
// down once more, in small files, so that a lost database can be made again.

const recordEnd = ".release.json"

// Record is the file that says what a release is.
func (h Home) Record(app, release string) string {
	return h.path("apps", app, "env", release+recordEnd)
}

// Serving is the file that says which release of an app serves.
func (h Home) Serving(app string) string { return h.path("apps", app, "serving.json") }

// serving is what has to be known of an app to start it again.
type serving struct {
	Stable string         `json:"stable"`
	Counts map[string]int `json:"counts"`
	Down   bool           `json:"down,omitempty"`
}

func (s serving) equal(o serving) bool {
	return s.Stable == o.Stable && s.Down == o.Down && maps.Equal(s.Counts, o.Counts)
}

// recorder writes down what serves when that has changed.
type recorder struct {
	home Home
	mu   sync.Mutex
	last map[string]serving
}

func (r *recorder) save(s rollout.State) error {
	now := serving{Stable: s.Stable, Counts: maps.Clone(s.Counts), Down: s.Down}
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, known := r.last[s.App]; known && last.equal(now) {
		return nil
	}
	if err := writeJSON(r.home.Serving(s.App), now); err != nil {
		return fmt.Errorf("write down what serves of %s: %w", s.App, err)
	}
	if r.last == nil {
		r.last = map[string]serving{}
	}
	r.last[s.App] = now
	return nil
}

// recordRelease writes down a release; its environment is in a file of its own.
func recordRelease(h Home, rel *gapless.Release) error {
	if err := writeJSON(h.Record(rel.App, rel.Name), rel); err != nil {
		return fmt.Errorf("write down what %s is: %w", rel.Name, err)
	}
	return nil
}

// recorded reads every release of an app that was written down and whose tree
// is still there. What cannot be read is left out.
func recorded(h Home, app string) []*gapless.Release {
	names, err := filepath.Glob(h.Record(app, "*"))
	if err != nil {
		return nil
	}
	var out []*gapless.Release
	for _, name := range names {
		var rel gapless.Release
		if readJSON(name, &rel) != nil || rel.App != app || rel.Name+recordEnd != filepath.Base(name) {
			continue
		}
		if _, err := os.Stat(rel.Tree); err == nil {
			out = append(out, &rel)
		}
	}
	return out
}

// writeJSON replaces a 0600 file in one step.
func writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return err
	}
	return durable.Write(path, data)
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// recordedApps are the apps that left a directory here.
func recordedApps(h Home) ([]string, error) {
	entries, err := os.ReadDir(h.path("apps"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out, err
}
