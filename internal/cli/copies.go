package cli

import (
	"fmt"

	"gapless"
)

// copiesLines say what became of copies of requests, and where answers
// differed: "" where none were made.
func copiesLines(r gapless.Rollout, most int) []string {
	c := r.Mirror
	if c == nil || c.Copied == 0 {
		return nil
	}
	text := fmt.Sprintf("  copies to %s: %d · answered %d · failed %d · dropped %d", c.Release, c.Copied, c.Answered, c.Failed, c.Dropped)
	if c.Compared > 0 {
		text += fmt.Sprintf(" · compared %d, different %d (%s differed from itself in %d of %d)", c.Compared, c.Different, r.From, c.Noisy, c.Pairs)
	}
	out := []string{text}
	if n := c.Large + c.Encoded; n > 0 {
		out = append(out, fmt.Sprintf("  bodies not compared: %d too large, %d in an encoding that is not read", c.Large, c.Encoded))
	}
	for i, d := range c.Differences {
		if i == most {
			out = append(out, fmt.Sprintf("    … %d more places", len(c.Differences)-most))
			break
		}
		word := "as often as by chance"
		if d.Proven {
			word = "more than chance"
		}
		out = append(out, plainText(fmt.Sprintf("    %s (%s) in %d, %s: alone %d, %s alone %d · %s", d.Path, d.Kind, d.Seen, word, d.Candidate, r.From, d.Stable, d.Example)))
	}
	return out
}
