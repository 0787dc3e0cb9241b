package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gapless"
)

// TestDemoTellsWhatIsLeft fails to end the demo's installation: a person is
// told so and what to type, also after Ctrl-C.
func TestDemoTellsWhatIsLeft(t *testing.T) {
	for _, c := range []struct {
		name   string
		failed error
		script string
		want   string // of the error; "": the one before stays
		exit   int
	}{
		{"interrupted, all is cleaned up", context.Canceled, "exit 0", "", gapless.Detached.Exit()},
		{"interrupted", context.Canceled, "echo keeper hangs >&2; exit 1", "keeper hangs", 1},
		{"it had failed before", gapless.Errorf(gapless.Invalid, "no node"), "echo keeper hangs >&2; exit 1", "no node\nend the demo", 2},
		{"it went well", nil, "exit 1", "end the demo", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &demo{dir: filepath.Join(t.TempDir(), "demo"), exe: filepath.Join(t.TempDir(), "gapless")}
			for _, err := range []error{os.MkdirAll(d.app(), 0o755), os.MkdirAll(d.home(), 0o755),
				os.WriteFile(d.exe, []byte("#!/bin/sh\n"+c.script+"\n"), 0o755)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			err := d.end(c.failed)
			var told bytes.Buffer
			if exit := (&command{term: &term{err: &told}}).report(err); exit != c.exit {
				t.Errorf("exit %d, want %d: %v", exit, c.exit, err)
			}
			if c.want == "" {
				if !errors.Is(err, c.failed) {
					t.Errorf("%v", err)
				}
				if _, err := os.Stat(d.dir); err == nil {
					t.Error("files are left")
				}
				return
			}
			if !strings.Contains(told.String(), c.want) || !strings.Contains(told.String(), "GAPLESS_HOME="+d.home()) || !strings.Contains(told.String(), "rm -r "+d.dir) {
				t.Errorf("told: %s", told.String())
			}
		})
	}
}
