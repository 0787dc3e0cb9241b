package edge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"gapless"
)

// difference is one way in which an answer differs from stable's.
type difference struct {
	place
	example string
}

type differences []difference

func (d differences) has(p place) bool {
	return slices.ContainsFunc(d, func(x difference) bool { return x.place == p })
}

// mostInOne is how many places are told of one answer.
const mostInOne = 64

// original is the answer of stable that a client got, read once.
type original struct {
	*shadow
	value any
	valid bool // value is what the body says
}

func newOriginal(s *shadow) *original {
	o := &original{shadow: s}
	if body, ok := s.plain(); ok && !s.skip && !s.large {
		o.value, o.valid = parseJSON(body)
	}
	return o
}

// differences compares another answer to the same request with it. large and
// encoded say why the bodies could not be compared.
func (o *original) differences(a *answer) (out differences, large, encoded bool) {
	if x, y := unconditional(o.status), unconditional(a.status); x != y {
		return differences{{place{"status", fmt.Sprintf("%d → %d", x, y)}, ""}}, false, false
	}
	if o.status != a.status { // 304 and 200: only their validators differ
		return nil, false, false
	}
	if o.media != a.media {
		return differences{{place{"type", shown(mediaName(o.media)+" → "+mediaName(a.media), 80)}, ""}}, false, false
	}
	if o.shadow.answer.skip || o.head || o.spec.Compare != gapless.CompareBody {
		return nil, false, false
	}
	if o.large || a.large {
		return nil, true, false
	}
	body, ok := a.plain()
	if _, readable := o.plain(); !ok || !readable {
		return nil, false, true
	}
	value, valid := parseJSON(body)
	switch {
	case !o.valid && !valid:
		return nil, false, false
	case !o.valid:
		return differences{{place{"/", "not JSON → JSON"}, ""}}, false, false
	case !valid:
		return differences{{place{"/", "JSON → not JSON"}, ""}}, false, false
	}
	c := comparison{ignore: o.ignore}
	c.compare(o.value, value)
	return c.found, false, false
}

// unconditional is a status without what the client has cached.
func unconditional(status int) int {
	if status == 304 {
		return 200
	}
	return status
}

func mediaName(m string) string {
	if m == "" {
		return "none"
	}
	return m
}

// parseJSON reads one JSON value, numbers as they are written.
func parseJSON(body []byte) (v any, ok bool) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return nil, false
	}
	_, err := d.Token()
	return v, err == io.EOF
}

// ignored are the paths that may differ, by their segments.
type ignored [][]string

// matches reports whether a path is one of them.
func (g ignored) matches(path []string) bool {
	for _, p := range g {
		same := len(p) == len(path)
		for i := 0; same && i < len(p); i++ {
			same = p[i] == "*" || p[i] == path[i]
		}
		if same {
			return true
		}
	}
	return false
}

// comparison walks two JSON values side by side.
type comparison struct {
	ignore ignored
	path   []string // as it is
	shown  []string // with * for each index
	found  differences
}

func (c *comparison) compare(a, b any) {
	if len(c.found) >= mostInOne || len(c.ignore) > 0 && c.ignore.matches(c.path) {
		return
	}
	if x, y := typeOf(a), typeOf(b); x != y {
		c.add(x+" → "+y, "")
		return
	}
	switch x := a.(type) {
	case map[string]any:
		c.objects(x, b.(map[string]any))
	case []any:
		y := b.([]any)
		for i := range min(len(x), len(y)) {
			c.at(strconv.Itoa(i), "*", func() { c.compare(x[i], y[i]) })
		}
		if len(x) != len(y) {
			c.add("length", fmt.Sprintf("%d → %d", len(x), len(y)))
		}
	case json.Number:
		if y := b.(json.Number); !sameNumber(x, y) {
			c.add("value", shown(string(x), 24)+" → "+shown(string(y), 24))
		}
	case string:
		if y := b.(string); x != y { // what it says may be nobody's business
			c.add("value", fmt.Sprintf("a string of %d → another one of %d", utf8.RuneCountInString(x), utf8.RuneCountInString(y)))
		}
	case bool:
		if y := b.(bool); x != y {
			c.add("value", fmt.Sprintf("%v → %v", x, y))
		}
	}
}

func (c *comparison) objects(a, b map[string]any) {
	keys := make([]string, 0, len(a)+len(b))
	for k := range a {
		keys = append(keys, k)
	}
	for k := range b {
		if _, both := a[k]; !both {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		x, was := a[k]
		y, is := b[k]
		c.at(k, escape(k), func() {
			switch {
			case was && is:
				c.compare(x, y)
			case c.ignore.matches(c.path):
			case was:
				c.add("missing", "")
			default:
				c.add("added", "")
			}
		})
	}
}

// at goes one step into the values.
func (c *comparison) at(segment, shown string, f func()) {
	c.path, c.shown = append(c.path, segment), append(c.shown, shown)
	f()
	c.path, c.shown = c.path[:len(c.path)-1], c.shown[:len(c.shown)-1]
}

// add notes a difference here, once per place.
func (c *comparison) add(kind, example string) {
	p := place{shown("/"+strings.Join(c.shown, "/"), 200), kind}
	if len(c.found) >= mostInOne || c.found.has(p) {
		return
	}
	if example != "" {
		example = ": " + example
	}
	c.found = append(c.found, difference{p, example})
}

// escape writes a key as a part of a path.
func escape(key string) string {
	return strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
}

func typeOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case json.Number:
		return "number"
	case string:
		return "string"
	case []any:
		return "array"
	}
	return "object"
}

// sameNumber compares two numbers as they are written: 1 and 1.0 are the same.
func sameNumber(a, b json.Number) bool {
	if a == b {
		return true
	}
	if !strings.ContainsAny(string(a)+string(b), ".eE") {
		return false // integers, of any size
	}
	x, err := a.Float64()
	y, err2 := b.Float64()
	return err == nil && err2 == nil && x == y
}

// shown is text for people: printable and short.
func shown(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
	if len(text) <= most {
		return text
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
