package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// report writes all results as Markdown, a table per group.
func report(results []result) string {
	var b strings.Builder
	for _, group := range []string{groupGood, groupBad, groupSlow, groupRollout} {
		header := false
		for _, r := range results {
			if r.group != group {
				continue
			}
			if !header {
				header = true
				fmt.Fprintf(&b, "\n**%s**\n\n| | runs |", group)
				for _, t := range r.rules {
					fmt.Fprintf(&b, " %s |", t.name)
				}
				fmt.Fprintf(&b, "\n| --- | ---: |%s\n", strings.Repeat(" --- |", len(r.rules)))
			}
			b.WriteString(r.row())
		}
		if header {
			fmt.Fprintf(&b, "\n%s\n", legends[group])
		}
	}
	return b.String()
}

var legends = map[string]string{
	groupGood:    "Share of runs in which the candidate was taken back; for gapless with its upper 99 % confidence limit (Clopper–Pearson). The tests are looked at after every bad answer that could decide and otherwise at least every 10 s.",
	groupBad:     "Share of runs in which it was taken back · bad answers that the candidate had given by then (mean, 95th percentile), or in all ten minutes · median of seconds.",
	groupSlow:    "Share of runs in which it was taken back · the candidate's requests by then (mean, 95th percentile; those that latency was judged by) · median of seconds.",
	groupRollout: "Share promoted and taken back · the candidate's bad answers until the end (mean, 95th percentile) · median of seconds to the end.",
}

func (r result) row() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s | %d |", r.about, r.rules[0].runs)
	for i, t := range r.rules {
		n := float64(t.runs)
		back := float64(t.takenBack) / n
		switch r.group {
		case groupGood:
			fmt.Fprintf(&b, " %.3g", back)
			if i == 0 {
				fmt.Fprintf(&b, " (≤ %.2g)", upperShare(t.takenBack, t.runs, confidence))
			}
		case groupBad:
			fmt.Fprintf(&b, " %.3g · %s (%.0f)%s", back, short(t.bad.mean()), t.bad.quantile(0.95), t.time())
		case groupSlow:
			fmt.Fprintf(&b, " %.3g", back)
			if t.takenBack > 0 {
				fmt.Fprintf(&b, " · %.0f (%.0f)%s", t.requests.mean(), t.requests.quantile(0.95), t.time())
			}
		case groupRollout:
			fmt.Fprintf(&b, " %.3g / %.3g · %s (%.0f)%s", float64(t.promoted)/n, back, short(t.bad.mean()), t.bad.quantile(0.95), t.time())
		}
		b.WriteString(" |")
	}
	return b.String() + "\n"
}

// short has three digits, or all before the point.
func short(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

func (t tallyOf) time() string {
	if len(t.at) == 0 {
		return ""
	}
	if at := t.at.quantile(0.5); at < 10 {
		return fmt.Sprintf(" · %.1f s", at)
	} else {
		return fmt.Sprintf(" · %.0f s", at)
	}
}

const begin, end = "<!-- bench-judge: begin -->\n", "<!-- bench-judge: end -->"

// writeBetween puts text between the two marks of a file.
func writeBetween(path, text string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, ok := bytes.Cut(b, []byte(begin))
	_, tail, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		return fmt.Errorf("%s has no %q and %q", path, strings.TrimSpace(begin), end)
	}
	return os.WriteFile(path, []byte(string(head)+begin+text+end+string(tail)), 0o644)
}
