package gapless

import (
	"slices"
	"strings"
	"testing"
)

func TestMirrorPath(t *testing.T) {
	for path, want := range map[string][]string{
		"/": nil, "/a": {"a"}, "/items/*/updatedAt": {"items", "*", "updatedAt"}, "/a~1b/~0": {"a/b", "~"}, "/0": {"0"},
	} {
		if got, err := MirrorPath(path); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	for _, path := range []string{"", "a", "/a/", "//a", "/a*", "/**", "/a~2", "/~", "/" + strings.Repeat("a", maxMirrorPath)} {
		if got, err := MirrorPath(path); CodeOf(err) != Invalid || HintOf(err) == "" {
			t.Errorf("%q: %q, %v", path, got, err)
		}
	}
}

func TestMirrorCountsPlus(t *testing.T) {
	a := MirrorCounts{Release: "v2", Copied: 5, Pairs: 2, Differences: []MirrorDifference{{Path: "/a", Kind: "value", Seen: 1, Candidate: 1}}}
	b := MirrorCounts{Release: "v2", Copied: 7, Pairs: 3, Differences: []MirrorDifference{{Path: "/b", Kind: "value", Seen: 9, Candidate: 9}, {Path: "/a", Kind: "value", Seen: 2, Stable: 1}}}
	sum := a.Plus(b)
	want := MirrorCounts{Release: "v2", Copied: 12, Pairs: 5, Differences: []MirrorDifference{
		{Path: "/b", Kind: "value", Seen: 9, Candidate: 9}, {Path: "/a", Kind: "value", Seen: 3, Candidate: 1, Stable: 1}}}
	if !sum.Equal(want) || a.Differences[0].Seen != 1 {
		t.Errorf("%+v", sum)
	}
	if want.Copied++; sum.Equal(want) {
		t.Error("a difference is not seen")
	}
}
