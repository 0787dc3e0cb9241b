package gapless

import (
	"slices"
	"strings"
)

// Nearest returns the known word that s was most likely meant to be, or "".
func Nearest(s string, known []string) string {
	s = strings.ToLower(s)
	if len(s) > 64 {
		return ""
	}
	best, bestDistance := "", 3
	for _, k := range slices.Sorted(slices.Values(known)) {
		limit := 1 + len(k)/4 // short words must match closely
		if d := distance(s, k); d <= limit && d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance counts the edits (insert, delete, replace, swap of neighbours) between a and b.
func distance(a, b string) int {
	var older []int
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], older[j-2]+1)
			}
		}
		older, last = last, row
	}
	return last[len(b)]
}
