package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gapless"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// write makes files below a new directory named shop and returns it.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "shop")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// loaded is what a person would see of Load: the app as JSON, or the error with its hint.
func loaded(in Input) string {
	app, err := load(in, 8)
	var out string
	if err != nil {
		out = err.Error() + "\n"
	} else {
		b, _ := json.MarshalIndent(app, "", "  ")
		out = string(b) + "\n"
		var again gapless.App // as the daemon reads it, and the store
		if err := json.Unmarshal(b, &again); err != nil {
			out += "the API refuses it: " + err.Error() + "\n"
		} else if c, _ := json.MarshalIndent(again, "", "  "); !bytes.Equal(b, c) {
			out += "the API makes another app of it:\n" + string(c) + "\n"
		}
	}
	return strings.ReplaceAll(out, in.Dir, "$DIR")
}

// Every testdata/*.yaml is a gapless.yaml beside a package.json and an env
// file; its .golden is the app it makes or the error it gives.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden inputs: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := write(t, map[string]string{
				FileName:       string(content),
				"package.json": `{"name": "@acme/Shop_Front", "scripts": {"start": "node server.js", "build": "tsc"}}`,
				"app.env":      "DB_URL=postgres://u:p@h/db # local\nexport EMPTY=\n",
				"bad.env":      "GOOD=1\nno equals\nDB-URL=s3cret\nQ=\"s3cret\n",
			})
			got := loaded(Input{Dir: dir})
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("%s (-want +got; go test -update rewrites it):\n%s", golden, d)
			}
		})
	}
}
