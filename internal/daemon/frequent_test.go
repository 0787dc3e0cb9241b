package daemon

import (
	"slices"
	"strings"
	"testing"

	"gapless"
	"gapless/internal/edge"
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

func TestFailingIsSummedOverEdges(t *testing.T) {
	r := plainRouter(t.Context(), "")
	for n, start := range []string{"a", "b"} {
		g := r.newGeneration(n + 1)
		r.edges[n+1] = g
		g.take(gapless.EdgeReport{Generation: n + 1, Start: start, Seq: 1, Made: edge.Clock(), Releases: []gapless.ReleaseTraffic{
			{App: "shop", Release: "v2", Failing: []gapless.Failing{{Method: "GET", Path: "/b", Kind: "500", Count: 3}, {Method: "GET", Path: "/a", Kind: "500", Count: uint64(n)}}},
			{App: "shop", Release: "v1", Failing: []gapless.Failing{{Method: "GET", Path: "/c", Kind: "500", Count: 99}}}}}, nil)
	}
	want := []gapless.Failing{{Method: "GET", Path: "/b", Kind: "500", Count: 6}, {Method: "GET", Path: "/a", Kind: "500", Count: 1}}
	if got := r.failing("shop", "v2"); !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
	var f failed
	f.note("r1", want)
	for _, left := range []int{2, 0} {
		if got := f.take("r1", func() []gapless.Failing { return nil }); len(got) != left {
			t.Errorf("%d are told, want %d", len(got), left)
		}
	}
	f.note("r2", want)
	if f.forget("r2"); len(f.all) != 0 {
		t.Errorf("%v is remembered without end", f.all)
	}
}
