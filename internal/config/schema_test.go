package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"gapless"
)

const schemaFile = "../../docs/gapless.schema.json"

func TestSchemaFileIsCurrent(t *testing.T) {
	var want bytes.Buffer
	enc := json.NewEncoder(&want)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(Schema()); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(schemaFile, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want.String(), string(have)); d != "" {
		t.Errorf("%s (-want +have; go test ./internal/config -update rewrites it):\n%s", schemaFile, d)
	}
}

// plainSchema is the schema as a validator sees it.
func plainSchema(t *testing.T) map[string]any {
	t.Helper()
	data, err := json.Marshal(Schema())
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// Every key of the reader has a form, at every level, and there are no others.
func TestSchemaHasEveryKey(t *testing.T) {
	var empty func(at string, v any)
	empty = func(at string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, part := range v {
				if m, ok := part.(map[string]any); ok && len(m) == 0 {
					t.Errorf("%s.%s has no form", at, name)
				}
				empty(at+"."+name, part)
			}
		case []any:
			for i, part := range v {
				empty(fmt.Sprint(at, ".", i), part)
			}
		}
	}
	empty("schema", plainSchema(t))
	r, s := newReader(FileName, nil, &problems{}), defaults("/", 1)
	keys := s.keys(r)
	for name := range s.forms(r) {
		if keys[name] == nil {
			t.Errorf("%s has a form and is no key", name)
		}
	}
	kinds := s.stepKinds(r, &gapless.Step{})
	props := s.stepForm(r)["anyOf"].([]schema)[1]["properties"].(schema)
	if len(props) != len(kinds) {
		t.Errorf("the schema has %d steps, the reader %d", len(props), len(kinds))
	}
}

// What is documented is valid, and so is every file of the golden tests that
// loads; what the schema finds wrong, the reader finds wrong, too.
func TestSchemaAgreesWithTheReader(t *testing.T) {
	form := plainSchema(t)
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		if err := valid(form, parsed(t, e[1])); err != nil {
			t.Errorf("a documented example: %v\n%s", err, e[1])
		}
	}
	accepted := 0
	for _, c := range append(goldenFiles(t),
		"drain: 0", "build: false", "sticky: true", "sticky: 1h", "skew: pin", "match: { cookie: a=b }", "match: [{ header: 'X: y' }, { cookie: a=b, header: 'X: y' }]", "path: /x\nstrip: true", "host: '*.example.com'", "env: { A: 1, B: true, C: x }", "listen: 8080", "cpu: 1", "memory: 300M",
		"steps: [{start: 1}, warm, {weight: 0.05}, judge, {judge: 2m}, {judge: {within: 1m}}, pause, {pause: 10s}, {hook: ./x}, promote, {keep: 1m}]",
		// wrong
		"colour: red", "drain: soon", "drain: 10", "instances: many", "instances: 0", "strategy: fast", "flip: maybe", "health: { url: / }",
		"steps: []", "steps: [{start: 1, warm: 1}]", "steps: [fly]", "steps: [start]", "processes: { worker: { instances: 1 } }", "processes: { A: x }",
		"env: { A: [] }", "env: { 1A: x }", "logs: { keep: -1 }", "shared: []", "app: Shop", "judge: { on_undecided: cry }", "memory: [1]", "steps: [{hook: {on_resume: ask}}]", "sticky: soon", "skew: maybe", "match: []", "match: { cookie: [] }", "match: { path: /x }", "strip: 1",
	) {
		dir := write(t, map[string]string{FileName: c, "package.json": `{"scripts": {"start": "node server.js"}}`, "app.env": "A=1\n", ".env": "A=1\n"})
		_, loads := load(Input{Dir: dir}, 8)
		var doc any
		if yaml.Unmarshal([]byte(c), &doc) != nil || doc == nil {
			continue // no schema is asked about what is no YAML
		}
		err := valid(form, plainYAML(doc))
		if loads == nil && err != nil {
			t.Errorf("the reader takes it, the schema says %v\n%s", err, c)
		}
		if err == nil {
			accepted++
		}
	}
	for _, bad := range []string{"colour: red", "drain: soon", "drain: 10", "instances: many", "instances: 0", "strategy: fast", "flip: maybe", "health: { url: / }",
		"steps: []", "steps: [{start: 1, warm: 1}]", "steps: [fly]", "steps: [start]", "processes: { worker: { instances: 1 } }", "processes: { A: x }",
		"env: { A: [] }", "env: { 1A: x }", "logs: { keep: -1 }", "shared: []", "app: Shop", "judge: { on_undecided: cry }", "memory: [1]", "steps: [{hook: {on_resume: ask}}]", "sticky: soon", "skew: maybe", "match: []", "match: { cookie: [] }", "match: { path: /x }", "strip: 1"} {
		if valid(form, parsed(t, bad)) == nil {
			t.Errorf("the schema takes %s", bad)
		}
	}
	if accepted < 10 {
		t.Errorf("only %d files were accepted", accepted)
	}
}

func goldenFiles(t *testing.T) (texts []string) {
	t.Helper()
	names, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasSuffix(n.Name(), ".yaml") {
			data, err := os.ReadFile("testdata/" + n.Name())
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, string(data))
		}
	}
	return texts
}

func parsed(t *testing.T, text string) any {
	t.Helper()
	var doc any
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return plainYAML(doc)
}

// plainYAML makes of a document what JSON would hold.
func plainYAML(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, part := range v {
			out[k] = plainYAML(part)
		}
		return out
	case map[any]any:
		out := map[string]any{}
		for k, part := range v {
			out[fmt.Sprint(k)] = plainYAML(part)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = plainYAML(v[i])
		}
		return out
	case uint64:
		return float64(v)
	case int64:
		return float64(v)
	case int:
		return float64(v)
	}
	return v
}

// valid is as much of JSON Schema as Schema uses. A keyword that it does not
// know is an error.
func valid(form map[string]any, v any) error {
	for word, arg := range form {
		var err error
		switch word {
		case "$schema", "title", "description":
		case "type":
			err = hasType(arg, v)
		case "enum":
			if !slices.ContainsFunc(arg.([]any), func(e any) bool { return reflect.DeepEqual(e, v) }) {
				err = fmt.Errorf("%v is none of %v", v, arg)
			}
		case "pattern":
			if s, ok := v.(string); ok && !regexp.MustCompile(arg.(string)).MatchString(s) {
				err = fmt.Errorf("%q does not match %s", s, arg)
			}
		case "minimum", "maximum", "exclusiveMinimum":
			if n, ok := v.(float64); ok && (word == "minimum" && n < arg.(float64) || word == "maximum" && n > arg.(float64) || word == "exclusiveMinimum" && n <= arg.(float64)) {
				err = fmt.Errorf("%v: %s %v", n, word, arg)
			}
		case "anyOf":
			var all []string
			for _, f := range arg.([]any) {
				if e := valid(f.(map[string]any), v); e != nil {
					all = append(all, e.Error())
				}
			}
			if len(all) == len(arg.([]any)) {
				err = fmt.Errorf("none fits: %s", strings.Join(all, "; "))
			}
		case "items":
			if list, ok := v.([]any); ok {
				for i, e := range list {
					if err = valid(arg.(map[string]any), e); err != nil {
						err = fmt.Errorf("%d: %w", i, err)
						break
					}
				}
			}
		case "minItems":
			if list, ok := v.([]any); ok && float64(len(list)) < arg.(float64) {
				err = fmt.Errorf("%d items", len(list))
			}
		case "minProperties", "maxProperties":
			if m, ok := v.(map[string]any); ok && (word[:3] == "min" && float64(len(m)) < arg.(float64) || word[:3] == "max" && float64(len(m)) > arg.(float64)) {
				err = fmt.Errorf("%d keys", len(m))
			}
		case "required":
			if m, ok := v.(map[string]any); ok {
				for _, k := range arg.([]any) {
					if _, there := m[k.(string)]; !there {
						err = fmt.Errorf("no %v", k)
					}
				}
			}
		case "properties", "additionalProperties", "propertyNames":
			if m, ok := v.(map[string]any); ok && word != "properties" || ok && form["additionalProperties"] == nil {
				err = members(form, m)
			}
		default:
			err = fmt.Errorf("unknown keyword %s", word)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func members(form, m map[string]any) error {
	known, _ := form["properties"].(map[string]any)
	for key, v := range m {
		if names, ok := form["propertyNames"].(map[string]any); ok {
			if err := valid(names, key); err != nil {
				return err
			}
		}
		f, ok := known[key].(map[string]any)
		if !ok {
			switch more := form["additionalProperties"].(type) {
			case bool:
				if !more {
					return fmt.Errorf("unknown key %s", key)
				}
				continue
			case map[string]any:
				f = more
			}
		}
		if err := valid(f, v); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

func hasType(arg, v any) error {
	names, ok := arg.([]any)
	if !ok {
		names = []any{arg}
	}
	for _, name := range names {
		fits := false
		switch x := v.(type) {
		case nil:
			fits = name == "null"
		case string:
			fits = name == "string"
		case bool:
			fits = name == "boolean"
		case float64:
			fits = name == "number" || name == "integer" && x == float64(int64(x))
		case []any:
			fits = name == "array"
		case map[string]any:
			fits = name == "object"
		}
		if fits {
			return nil
		}
	}
	return fmt.Errorf("%v is not %v", v, arg)
}
