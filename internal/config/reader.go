package config

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"gapless"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// reader walks the syntax tree of one YAML file. The library's own decoder
// stops at the first error; walking the tree finds all of them.
type reader struct {
	file     string
	lines    []string
	problems *problems
}

// setter reads one value into where it belongs, or reports why it cannot.
type setter func(n ast.Node)

func newReader(file string, data []byte, p *problems) *reader {
	return &reader{file: file, lines: strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n"), problems: p}
}

// parse returns the top value of the file; nil when the file is empty or was
// reported as unreadable.
func (r *reader) parse(data []byte) (body ast.Node) {
	whole := place{file: r.file}
	if !utf8.Valid(data) {
		r.problems.add(whole, faultf("the file is not UTF-8 text").withHint("save it with UTF-8 encoding"))
		return nil
	}
	if nestsTooDeep(data) {
		r.problems.add(whole, faultf("the file nests too deeply"))
		return nil
	}
	// The parser is not ours and input is anything: a panic in it is one more unreadable file.
	defer func() {
		if recover() != nil {
			body = nil
			r.problems.add(whole, faultf("the file cannot be read as YAML"))
		}
	}()
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) && syntax.Token != nil {
			r.problems.add(r.at(syntax.Token), faultf("%s", syntax.Message).withHint("%s", syntaxHint(syntax.Message)))
		} else {
			r.problems.add(whole, faultf("the file cannot be read as YAML: %s", strings.SplitN(err.Error(), "\n", 2)[0]))
		}
		return nil
	}
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if _, ok := doc.Body.(*ast.CommentGroupNode); ok {
			continue
		}
		if body != nil {
			r.fail(doc.Body, faultf("the file holds more than one document").withHint("one gapless.yaml describes one app; give every app its own directory"))
			continue
		}
		body = doc.Body
	}
	return body
}

func syntaxHint(message string) string {
	switch {
	case strings.Contains(message, "cannot start any token"):
		return "YAML is indented with spaces, not tabs; a value that starts with @, ` or % needs quotes"
	case strings.Contains(message, "mapping value is not allowed"):
		return `a value that contains ": " needs quotes, and keys of one level start in the same column`
	}
	return ""
}

// nestsTooDeep guards the parser, which recurses: no real file nests like this.
func nestsTooDeep(data []byte) bool {
	const limit = 200
	open, run := 0, 0
	for i, c := range data {
		switch c {
		case '[', '{':
			open++
		case ']', '}':
			open = max(0, open-1)
		case '\n':
			run = 0
		case '-', '?', ':':
			if i+1 < len(data) && (data[i+1] == ' ' || data[i+1] == '\t') {
				run++
			}
		}
		if open > limit || run > limit {
			return true
		}
	}
	return false
}

func (r *reader) at(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{file: r.file}
	}
	p := place{file: r.file, line: t.Position.Line, col: max(1, t.Position.Column)}
	written := strings.TrimSpace(t.Origin)
	if first, _, more := strings.Cut(written, "\n"); more {
		written = strings.TrimSpace(first)
	}
	p.width = max(1, utf8.RuneCountInString(written))
	if p.line < 1 || p.line > len(r.lines) {
		return place{file: r.file}
	}
	p.text = r.lines[p.line-1]
	return p
}

// start is the first token of a node; a mapping's own token is its first colon.
func start(n ast.Node) *token.Token {
	switch v := n.(type) {
	case *ast.MappingNode:
		if !v.IsFlowStyle && len(v.Values) > 0 {
			return v.Values[0].Key.GetToken()
		}
		return v.Start
	case *ast.MappingValueNode:
		return v.Key.GetToken()
	}
	return n.GetToken()
}

func (r *reader) fail(n ast.Node, f *fault) {
	if f != nil {
		r.problems.add(r.at(start(n)), f)
	}
}

// kind names what a node is, for messages.
func kind(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a map"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "an anchor or alias"
	case *ast.TagNode:
		return "a tag"
	case *ast.BoolNode:
		return n.GetToken().Value
	}
	return quote(n.GetToken().Value)
}

// unsupported reports YAML features that a configuration does not need.
func (r *reader) unsupported(n ast.Node) bool {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode:
		r.fail(n, faultf("anchors and aliases are not supported").withHint("write the value out"))
	case *ast.TagNode:
		r.fail(n, faultf("tags are not supported").withHint("write the value without it; quotes make a string"))
	default:
		return false
	}
	return true
}

// pairs returns the entries of a mapping; false if n is none (reported).
func (r *reader) pairs(n ast.Node, what string) ([]*ast.MappingValueNode, bool) {
	switch v := n.(type) {
	case *ast.MappingNode:
		return v.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{v}, true
	}
	if !r.unsupported(n) {
		r.fail(n, faultf("%s is %s, but must be a map of keys and values", what, kind(n)))
	}
	return nil, false
}

// each calls fn for every entry of a mapping with a plain, unrepeated key.
func (r *reader) each(n ast.Node, what string, fn func(key string, at ast.MapKeyNode, value ast.Node)) {
	pairs, ok := r.pairs(n, what)
	if !ok {
		return
	}
	seen := map[string]int{}
	for _, pair := range pairs {
		switch pair.Key.(type) {
		case *ast.MergeKeyNode:
			r.fail(pair.Key, faultf("merge keys are not supported").withHint("write the values out"))
			continue
		case *ast.MappingKeyNode, *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
			r.fail(pair.Key, faultf("a key must be a plain word"))
			continue
		}
		key := pair.Key.GetToken().Value
		if first, twice := seen[key]; twice {
			r.fail(pair.Key, faultf("%s is given twice, first in line %d", key, first))
			continue
		}
		seen[key] = r.at(pair.Key.GetToken()).line
		fn(key, pair.Key, pair.Value)
	}
}

// object reads a mapping whose keys are known; what is its name in messages, "" at the top.
func (r *reader) object(n ast.Node, what string, keys map[string]setter) {
	name := what
	if name == "" {
		name = "the file"
	}
	known := slices.Sorted(maps.Keys(keys))
	r.each(n, name, func(key string, at ast.MapKeyNode, value ast.Node) {
		if set, ok := keys[key]; ok {
			if _, empty := value.(*ast.NullNode); empty {
				r.fail(at, faultf("%s has no value", key).withHint("remove the line to get the default"))
				return
			}
			set(value)
			return
		}
		if what == "" && slices.Contains(laterKeys, key) {
			r.fail(at, faultf("%s is not supported by this version yet", key).withHint("remove it"))
			return
		}
		f := faultf("unknown key %s", quote(key))
		if what != "" {
			f = faultf("unknown key %s in %s", quote(key), what)
		}
		if near := gapless.Nearest(key, known); near != "" {
			f = f.withHint("did you mean %s?", near)
		} else {
			f = f.withHint("known keys: %s", strings.Join(known, ", "))
		}
		r.fail(at, f)
	})
}

// scalar returns the text of a single value as it was written; false if it is
// a map, a list or nothing (reported).
func (r *reader) scalar(n ast.Node, what string) (string, bool) {
	switch v := n.(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.LiteralNode:
		return v.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	if !r.unsupported(n) {
		r.fail(n, faultf("%s is %s, but must be a single value", what, kind(n)))
	}
	return "", false
}

// item is one value of a list and where it stands.
type item struct {
	text string
	node ast.Node
}

// items returns the single values of a string or a list of strings.
func (r *reader) items(n ast.Node, what string) []item {
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		if s, ok := r.scalar(n, what); ok {
			return []item{{s, n}}
		}
		return nil
	}
	if len(list.Values) == 0 {
		r.fail(n, faultf("%s is an empty list", what).withHint("remove the line to get the default"))
	}
	var all []item
	for _, v := range list.Values {
		if s, ok := r.scalar(v, "an entry of "+what); ok {
			all = append(all, item{s, v})
		}
	}
	return all
}

// str reads a single value that check accepts.
func (r *reader) str(dst *string, what string, check func(string) *fault) setter {
	return func(n ast.Node) {
		s, ok := r.scalar(n, what)
		if !ok {
			return
		}
		if f := check(s); f != nil {
			r.fail(n, f)
			return
		}
		*dst = s
	}
}

// list reads a single value or a list; convert normalises one entry.
func (r *reader) list(dst *[]string, what string, convert func(string) (string, *fault)) setter {
	return func(n ast.Node) {
		var all []string
		for _, it := range r.items(n, what) {
			v, f := convert(it.text)
			if f == nil && slices.Contains(all, v) {
				f = faultf("%s is listed twice", v)
			}
			if f != nil {
				r.fail(it.node, f)
				continue
			}
			all = append(all, v)
		}
		*dst = all
	}
}

// duration reads a time between lo and hi, both allowed.
func (r *reader) duration(dst *gapless.Duration, what string, lo, hi time.Duration) setter {
	return func(n ast.Node) {
		s, ok := r.scalar(n, what)
		if !ok {
			return
		}
		d, f := parseDuration(s)
		if f == nil && (d < lo || d > hi) {
			f = faultf("%s is %s, but must be between %s and %s", what, s, gapless.Duration(lo), gapless.Duration(hi))
		}
		if f != nil {
			r.fail(n, f)
			return
		}
		*dst = gapless.Duration(d)
	}
}

// whole reads a whole number between lo and hi, both allowed.
func (r *reader) whole(dst *int, what string, lo, hi int) setter {
	return func(n ast.Node) {
		s, ok := r.scalar(n, what)
		if !ok {
			return
		}
		v, err := strconv.Atoi(s)
		if err != nil {
			r.fail(n, faultf("%s is %s, but must be a whole number", what, quote(s)))
			return
		}
		if v < lo || v > hi {
			r.fail(n, faultf("%s is %d, but must be between %d and %d", what, v, lo, hi))
			return
		}
		*dst = v
	}
}

// boolean reads true or false.
func (r *reader) boolean(dst *bool, what string) setter {
	return func(n ast.Node) {
		if b, ok := n.(*ast.BoolNode); ok {
			*dst = b.Value
			return
		}
		if s, ok := r.scalar(n, what); ok {
			r.fail(n, faultf("%s is %s, but must be true or false", what, quote(s)))
		}
	}
}
