package edge

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"gapless"
)

func TestCompareJSON(t *testing.T) {
	for _, c := range []struct{ a, b, ignore, want string }{
		{`{"a":1}`, `{"a":1}`, "", ""},
		{`{"a":1,"b":[1,2]}`, `{"b":[1,2],"a":1}`, "", ""},
		{`{"a":1}`, `{"a":1.0}`, "", ""},
		{`{"a":9007199254740993}`, `{"a":9007199254740992}`, "", "/a value"},
		{`{"a":1}`, `{"a":"1"}`, "", "/a number → string"},
		{`{"a":1}`, `{"a":null}`, "", "/a number → null"},
		{`{"a":1}`, `{}`, "", "/a missing"},
		{`{}`, `{"a":null}`, "", "/a added"},
		{`{"a":true}`, `{"a":false}`, "", "/a value"},
		{`[1,2,3]`, `[1,5,6]`, "", "/* value"},
		{`[1,2]`, `[1,2,3]`, "", "/ length"},
		{`[1]`, `{}`, "", "/ array → object"},
		{`{"items":[{"id":1,"at":1},{"id":2,"at":2}]}`, `{"items":[{"id":1,"at":3},{"id":3,"at":4}]}`, "", "/items/*/at value, /items/*/id value"},
		{`{"items":[{"id":1,"at":1},{"id":2,"at":2}]}`, `{"items":[{"id":1,"at":3},{"id":3,"at":4}]}`, "/items/*/at", "/items/*/id value"},
		{`{"items":[{"id":1,"at":1}]}`, `{"items":[{"id":2,"at":2}]}`, "/items", ""},
		{`{"items":[1,2]}`, `{"items":[3,4]}`, "/items/0", "/items/* value"},
		{`{"a":{"b":1},"c":1}`, `{"a":{"b":2},"c":2}`, "/a/b /c", ""},
		{`{"a":1}`, `{"b":1}`, "/a /b", ""},
		{`{"a/b":1,"c~d":1}`, `{"a/b":2,"c~d":2}`, "", "/a~1b value, /c~0d value"},
		{`{"a/b":1,"c~d":1}`, `{"a/b":2,"c~d":2}`, "/a~1b /c~0d", ""},
		{`1`, `2`, "/", ""},
		{`{"a":{"b":1}}`, `{"a":{"b":2}}`, "/*/b", ""},
		{`{"a\u001b[31m":1}`, `{"a\u001b[31m":2}`, "", "/a?[31m value"},
	} {
		a, okA := parseJSON([]byte(c.a))
		b, okB := parseJSON([]byte(c.b))
		if !okA || !okB {
			t.Fatalf("%s or %s is not JSON", c.a, c.b)
		}
		var x comparison
		for _, path := range strings.Fields(c.ignore) {
			segments, err := gapless.MirrorPath(path)
			if err != nil {
				t.Fatal(err)
			}
			x.ignore = append(x.ignore, segments)
		}
		x.compare(a, b)
		var got []string
		for _, d := range x.found {
			got = append(got, d.path+" "+d.kind)
		}
		slices.Sort(got)
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%s and %s without %q: %q, want %q", c.a, c.b, c.ignore, s, c.want)
		}
	}
}

// What is told of differences is bounded, and strings are not in it.
func TestDifferencesAreBounded(t *testing.T) {
	a, b := map[string]any{}, map[string]any{}
	for i := range 10_000 {
		key := fmt.Sprintf("%d%s", i, strings.Repeat("k", 1000))
		a[key], b[key] = "secret", "hidden"
	}
	var c comparison
	c.compare(a, b)
	if len(c.found) != mostInOne {
		t.Errorf("%d differences", len(c.found))
	}
	for _, d := range c.found {
		if len(d.path) > 210 || len(d.example) > 200 || strings.Contains(d.example, "secret") || strings.Contains(d.example, "hidden") {
			t.Fatalf("%+v", d)
		}
	}
	deep := strings.Repeat("[", 9000) + strings.Repeat("]", 9000)
	x, ok := parseJSON([]byte(deep))
	if !ok {
		t.Fatal("not JSON")
	}
	c = comparison{}
	if c.compare(x, x); len(c.found) != 0 {
		t.Errorf("%+v", c.found)
	}
	if _, ok := parseJSON([]byte(`{} {}`)); ok {
		t.Error("two values are one")
	}
}

// Places that are too many are counted together, and reported are few.
func TestPlacesAreBounded(t *testing.T) {
	m := &mirror{found: map[place]*gapless.MirrorDifference{}}
	s := &shadow{what: "GET /"}
	for i := range 2 * mirrorPlaces {
		if f := m.place(difference{place: place{fmt.Sprint("/", i), "value"}}, s); f != nil {
			f.Seen++
		}
	}
	if len(m.found) != mirrorPlaces {
		t.Errorf("%d places", len(m.found))
	}
	if c := m.report(); len(c.Differences) != gapless.MostDifferences || c.More != mirrorPlaces-gapless.MostDifferences {
		t.Errorf("%d are reported, %d more", len(c.Differences), c.More)
	}
}
