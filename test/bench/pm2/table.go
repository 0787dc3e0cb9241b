package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"gapless/internal/load"
)

const (
	beginMark = "<!-- bench-pm2: begin -->"
	endMark   = "<!-- bench-pm2: end -->"
)

// columns are the kinds of traffic in the table.
var columns = []load.Kind{load.KeepAlive, load.Fresh, load.Slow, load.Upload, load.WebSocket, load.SSE}

// table is the results in markdown: lost (dropped or wrong) of all, per kind.
func table(results []Result) string {
	var b strings.Builder
	b.WriteString("| | app | what was done | took | keep-alive | new connection | slow 2.5 s | upload 1 MiB | WebSocket | SSE | losses | from … to | repeated, held |\n")
	b.WriteString("|---|---|---|--:|--:|--:|--:|--:|--:|--:|---|---|---|\n")
	for _, r := range results {
		took := fmt.Sprintf("%.1f s", r.Seconds)
		if r.Exit != 0 {
			took += fmt.Sprintf(", exit %d", r.Exit)
		}
		fmt.Fprintf(&b, "| %s | %s, %s | %s | %s |", r.Subject, r.App, r.Variant, r.Action, took)
		for _, k := range columns {
			kind, ok := r.Load.Kinds[k]
			if !ok {
				b.WriteString(" – |")
				continue
			}
			lost := fmt.Sprintf("%d/%d", kind.Dropped+kind.Bad, kind.Requests)
			if kind.Dropped+kind.Bad > 0 {
				lost = "**" + lost + "**"
			}
			b.WriteString(" " + lost + " |")
		}
		fmt.Fprintf(&b, " %s | %s | %s |\n", classes(r.Load.Errors), span(r), hidden(r.Hidden))
	}
	return b.String()
}

func classes(errors map[string]int) string {
	if len(errors) == 0 {
		return "**0**"
	}
	var parts []string
	for _, class := range slices.Sorted(maps.Keys(errors)) {
		parts = append(parts, fmt.Sprintf("%s %d", strings.ReplaceAll(class, "_", " "), errors[class]))
	}
	return strings.Join(parts, ", ")
}

// span says when losses happened, counted from the command.
func span(r Result) string {
	switch {
	case r.First < 0:
		return "–"
	case r.Down:
		return fmt.Sprintf("%.1f s … the end", r.First)
	}
	return fmt.Sprintf("%.1f … %.1f s", r.First, r.Last)
}

// hidden is what clients do not see: requests given to a second instance, and
// requests that waited for one, with the longest wait.
func hidden(h *Hidden) string {
	switch {
	case h == nil:
		return "–"
	case h.Held == 0:
		return fmt.Sprintf("%d, 0", h.Retried)
	}
	return fmt.Sprintf("%d, %d (%.2g s)", h.Retried, h.Held, h.HeldMax)
}

// writeBetween puts text between the marks in a file; a new file gets them too.
func writeBetween(path, text string) error {
	old, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		old, err = []byte("# Comparison\n\n"+beginMark+"\n"+endMark+"\n"), nil
	}
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(old), beginMark)
	_, after, closed := strings.Cut(rest, endMark)
	if !found || !closed {
		return fmt.Errorf("%s has no lines %s and %s", path, beginMark, endMark)
	}
	return os.WriteFile(path, []byte(before+beginMark+"\n"+text+endMark+after), 0o644)
}
