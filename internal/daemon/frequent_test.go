package daemon

import (
	"slices"
	"strings"
	"testing"

	"gapless"
)

func TestMostFrequentGroupsWhatSaysTheSame(t *testing.T) {
	lines := []string{
		"GET /cart/17 failed after 12.5 ms",
		"TypeError: cannot read properties of undefined (reading 'price')",
		"    at Cart.total (/srv/cart.js:12:3)",
		"GET /cart/18 failed after 3 ms",
		"request 6f1c2a9e-0b1d-4c3e-8f00-1234567890ab: connect ECONNREFUSED 10.0.0.7:5432",
		"",
		"GET /cart/4242 failed after 900 ms",
		"request 11111111-2222-3333-4444-555555555555: connect ECONNREFUSED 10.0.0.9:5432",
	}
	got := mostFrequent(lines, 2)
	want := []gapless.LogCount{
		{Text: lines[0], Count: 3},
		{Text: lines[4], Count: 2},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
	if all := mostFrequent(lines, 10); len(all) != 3 || all[2].Text != lines[1] {
		t.Errorf("all: %+v", all)
	}
	if long := mostFrequent([]string{strings.Repeat("ä", 500)}, 5)[0].Text; len(long) > frequentLength || !strings.HasSuffix(long, "ä") {
		t.Errorf("%d bytes: %q", len(long), long)
	}
}
