package cli

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"gapless"
)

// explained are the lines that show what a verdict rests on: how the candidate
// compares with stable, and how far the evidence is.
func explained(r gapless.Rollout) []string {
	v := r.Verdict
	if v == nil || v.NoData {
		return nil
	}
	var lines []string
	if v.Evidence.Threshold > 1 {
		lines = append(lines, fmt.Sprintf("evidence %s %s", gauge(v.Evidence.LnE, math.Log(v.Evidence.Threshold), bad.Render), against(v)))
	}
	if line := errorsLine(r); line != "" {
		lines = append(lines, line)
	}
	if line := latencyLine(r); line != "" {
		lines = append(lines, line)
	}
	if line := proofsLine(v); line != "" && v.Kind != gapless.Worse { // what is missing for a proof is no question any more
		lines = append(lines, line)
	}
	for i := range lines {
		lines[i] = "  " + lines[i]
	}
	return lines
}

// gauge draws how far the logarithm of a bet has come on its way from 1 to
// what decides.
func gauge(ln, decides float64, paint func(...string) string) string {
	const width = 10
	full := 0
	if decides > 0 {
		full = int(math.Round(width * min(1, max(0, ln/decides))))
	}
	return paint(strings.Repeat("█", full)) + faint.Render(strings.Repeat("░", width-full))
}

// against says how much speaks against the candidate, and what of.
func against(v *gapless.Verdict) string {
	text := fmt.Sprintf("%s of %.0f : 1", gapless.Odds(v.Evidence.LnE), v.Evidence.Threshold)
	top, most := "", 0.0
	for _, t := range v.Terms {
		if t.LnE > most {
			top, most = string(t.Test), t.LnE
		}
	}
	if top != "" {
		text += ", most of it " + top
	}
	return text
}

// errorsLine compares the bad answers: by ratio, and by how many more of all
// answers are bad at most.
func errorsLine(r gapless.Rollout) string {
	v := r.Verdict
	var parts []string
	if v.Bands != nil {
		if band := bandText(v.Bands.Rate); band != "" {
			parts = append(parts, band+" of "+r.From)
		}
	}
	if v.Bound > 0 && v.Bound < 1 {
		text := fmt.Sprintf("at most %s points more", points(v.Bound))
		for _, p := range v.Proofs {
			if p.Test == gapless.TestErrors && p.Margin > 0 {
				text += fmt.Sprintf(" (allowed %s)", points(p.Margin))
			}
		}
		parts = append(parts, text)
	}
	if len(parts) == 0 {
		return ""
	}
	return "errors   " + strings.Join(parts, " · ")
}

func latencyLine(r gapless.Rollout) string {
	v := r.Verdict
	if v.Warming {
		return "latency  not judged yet, instances warm up"
	}
	if v.Bands == nil {
		return ""
	}
	var parts []string
	for i, name := range gapless.QuantileTests() {
		if band := bandText(v.Bands.Latency[i]); band != "" {
			parts = append(parts, string(name)+" "+band)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "latency  " + strings.Join(parts, " · ") + " of " + r.From
}

// proofsLine says what is proven already, and what is not.
func proofsLine(v *gapless.Verdict) string {
	var parts []string
	for _, p := range v.Proofs {
		switch {
		case p.Proven:
			parts = append(parts, good.Render("✓ ")+string(p.Test))
		case p.Needed > 0:
			parts = append(parts, fmt.Sprintf("%s needs about %d more", p.Test, p.Needed))
		default:
			parts = append(parts, string(p.Test)+" open")
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "proven   " + strings.Join(parts, " · ")
}

// bandText writes a band of ratios: "0.97–1.04 ×"; "" where nothing is known.
func bandText(b gapless.Band) string {
	switch {
	case b.Low <= 0 && b.High <= 0, b.Low < 0.01 && (b.High <= 0 || b.High > 100):
		return ""
	case b.High <= 0 || b.High > 1000:
		return fmt.Sprintf("over %s ×", ratio(b.Low))
	case b.Low < 0.01:
		return fmt.Sprintf("under %s ×", ratio(b.High))
	}
	return fmt.Sprintf("%s–%s ×", ratio(b.Low), ratio(b.High))
}

func ratio(x float64) string {
	if x >= 10 {
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

// points writes a share as points of percent: 0.005 is "0.5".
func points(share float64) string {
	return strings.TrimSuffix(strings.TrimSuffix(gapless.Percent(share), "%"), " ")
}

// courseLines are how the evidence came about: a few moments between the first
// and the last, so that it fits on a screen.
func courseLines(r gapless.Rollout, most int) []string {
	n := len(r.Course)
	if n < 2 {
		return nil
	}
	heads := []string{"after", "share", r.To, r.From, "evidence", "errors", "p50", "p90", "p99"}
	var rows [][]string
	for i := range min(n, most) {
		k := i
		if n > most {
			k = i * (n - 1) / (most - 1)
		}
		m := r.Course[k]
		bands := gapless.Bands{}
		if m.Bands != nil {
			bands = *m.Bands
		}
		row := []string{m.At.Sub(r.Started).Round(100 * 1e6).String(), gapless.Percent(m.Weight),
			fmt.Sprintf("%d of %d bad", m.Candidate.Bad, m.Candidate.Requests), fmt.Sprintf("%d of %d bad", m.Stable.Bad, m.Stable.Requests),
			gapless.Odds(m.LnE) + " : 1", bandText(bands.Rate)}
		for _, b := range bands.Latency {
			row = append(row, bandText(b))
		}
		rows = append(rows, row)
	}
	return columns(heads, rows)
}

// columns lays out rows under their heads, without columns that have nothing.
func columns(heads []string, rows [][]string) []string {
	var cols []column
	cells := make([][]string, len(rows))
	for c, head := range heads {
		if !slices.ContainsFunc(rows, func(row []string) bool { return row[c] != "" }) {
			continue
		}
		cols = append(cols, column{head: head})
		for r, row := range rows {
			cells[r] = append(cells[r], row[c])
		}
	}
	lines := lay(cols, cells, 0)
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	lines[0] = faint.Render(lines[0])
	return lines
}

// complaintLines are which requests failed most often at the candidate, and
// what it wrote most often about trouble.
func complaintLines(r gapless.Rollout, most int) []string {
	var lines []string
	for _, f := range r.Failing[:min(most, len(r.Failing))] {
		lines = append(lines, fmt.Sprintf("  %s %s %s: %s", faint.Render(fmt.Sprintf("bad %5d ×", f.Count)), plainText(f.Method), plainText(f.Path), plainText(f.Kind)))
	}
	for _, c := range r.Complaints[:min(most, len(r.Complaints))] {
		lines = append(lines, fmt.Sprintf("  %s %s", faint.Render(fmt.Sprintf("log %5d ×", c.Count)), plainText(c.Text)))
	}
	return lines
}
