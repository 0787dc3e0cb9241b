package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gapless/internal/load"
)

func TestTable(t *testing.T) {
	lossy := Result{Subject: "PM2", App: "http", Variant: "v", Action: "a", Seconds: 1.26, First: .5, Last: 2,
		Load: load.Report{Errors: map[string]int{"reset": 2, "ws_1006": 1},
			Kinds: map[load.Kind]load.KindReport{
				load.Fresh: {Counts: load.Counts{Requests: 9, OK: 7, Dropped: 1, Bad: 1}},
				load.Slow:  {Counts: load.Counts{Requests: 3, OK: 3}},
			}}}
	down := lossy
	down.Down, down.Exit = true, 3
	clean := Result{Subject: "gapless", First: -1, Last: -1, Hidden: &Hidden{}}
	held := Result{Subject: "gapless", First: -1, Last: -1, Hidden: &Hidden{Retried: 2, Held: 3, HeldMax: .125}}
	got := strings.Split(table([]Result{lossy, down, clean, held}), "\n")
	want := []string{
		"| PM2 | http, v | a | 1.3 s | – | **2/9** | 0/3 | – | – | – | reset 2, ws 1006 1 | 0.5 … 2.0 s | – |",
		"| PM2 | http, v | a | 1.3 s, exit 3 | – | **2/9** | 0/3 | – | – | – | reset 2, ws 1006 1 | 0.5 s … the end | – |",
		"| gapless | ,  |  | 0.0 s | – | – | – | – | – | – | **0** | – | 0, 0 |",
		"| gapless | ,  |  | 0.0 s | – | – | – | – | – | – | **0** | – | 2, 3 (0.12 s) |",
	}
	for i, line := range want {
		if got[i+2] != line {
			t.Errorf("line %d\n got %s\nwant %s", i, got[i+2], line)
		}
	}
}

func TestWriteBetween(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.md")
	for _, text := range []string{"one\n", "two\n"} { // a new file, then an old one
		if err := writeBetween(path, text); err != nil {
			t.Fatal(err)
		}
	}
	if b, _ := os.ReadFile(path); string(b) != "# Comparison\n\n"+beginMark+"\ntwo\n"+endMark+"\n" {
		t.Errorf("got %q", b)
	}
	if err := os.WriteFile(path, []byte("no marks"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writeBetween(path, "x"); err == nil {
		t.Error("a file without marks was overwritten")
	}
}

func TestScenariosAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range scenarios() {
		key := s.App + s.Variant + s.Action
		if seen[key] || s.Act == nil || s.Script == "" || s.Instances == 0 {
			t.Errorf("scenario %q is there twice or not whole", key)
		}
		seen[key] = true
	}
}
