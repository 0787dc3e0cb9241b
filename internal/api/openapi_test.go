package api

import (
	"bytes"
	"encoding"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gapless"
)

var update = flag.Bool("update", false, "rewrite openapi.json and the reference in docs/api.md")

// TestOpenAPIIsCurrent compares the checked-in description with the table of
// endpoints and the Go types that they read and write.
func TestOpenAPIIsCurrent(t *testing.T) {
	var want bytes.Buffer
	enc := json.NewEncoder(&want)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(describe()); err != nil {
		t.Fatal(err)
	}
	current(t, "openapi.json", want.String())
}

// TestReferenceIsCurrent does the same for the list in the documentation.
func TestReferenceIsCurrent(t *testing.T) {
	const path, begin, end = "../../docs/api.md", "<!-- endpoints -->\n", "<!-- /endpoints -->\n"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no %s", path, begin)
	}
	current(t, path, head+begin+reference()+end+tail)
}

func current(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, string(have)); d != "" {
		t.Errorf("%s (-want +have; go test ./internal/api -update rewrites it):\n%s", path, d)
	}
}

type object = map[string]any

// describe makes the OpenAPI document of the table.
func describe() object {
	s := schemas{}
	paths := object{}
	for _, e := range endpoints() {
		op := object{
			"operationId": operation(e), "summary": e.summary, "x-gapless-scope": string(e.scope),
			"responses": object{
				"200":     object{"description": "done", "content": object{e.media(): object{"schema": s.of(e.out)}}},
				"default": object{"description": "refused, or failed", "content": object{"application/json": object{"schema": ref("ErrorAnswer")}}},
			},
		}
		if e.local {
			op["x-gapless-socket-only"] = true
		}
		var params []object
		for _, name := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(e.path, -1) {
			params = append(params, object{"name": name[1], "in": "path", "required": true, "schema": object{"type": "string"}})
		}
		for _, p := range e.query {
			params = append(params, object{"name": p.name, "in": "query", "description": p.summary, "schema": object{"type": p.kind}})
		}
		if params != nil {
			op["parameters"] = params
		}
		if e.in != nil {
			op["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": s.of(e.in)}}}
		}
		path := "/" + Version + e.path
		if paths[path] == nil {
			paths[path] = object{}
		}
		paths[path].(object)[strings.ToLower(e.method)] = op
	}
	s.of(reflect.TypeFor[gapless.Error]())
	s["ErrorAnswer"] = object{"type": "object", "required": []string{"error"}, "properties": object{"error": ref("Error")}}
	return object{
		"openapi": "3.1.0",
		"info": object{"title": "gapless", "version": Version,
			"description": "Over a unix socket, or TLS with a token. See docs/api.md."},
		"security":   []object{{"token": []string{}}},
		"paths":      paths,
		"components": object{"schemas": s, "securitySchemes": object{"token": object{"type": "http", "scheme": "bearer"}}},
	}
}

func operation(e endpoint) string {
	words := strings.FieldsFunc(strings.ToLower(e.method)+e.path, func(r rune) bool { return strings.ContainsRune("/{}.", r) })
	return strings.Join(words, "_")
}

func (e endpoint) media() string {
	if e.stream != "" {
		return e.stream
	}
	if e.text != "" {
		media, _, _ := strings.Cut(e.text, ";")
		return media
	}
	return "application/json"
}

func ref(name string) object { return object{"$ref": "#/components/schemas/" + name} }

// schemas are those of the named struct types met so far.
type schemas object

func (s schemas) of(t reflect.Type) any {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[json.RawMessage]():
		return object{}
	case t.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return object{"type": "string"}
	case t.Implements(reflect.TypeFor[json.Marshaler]()):
		panic(fmt.Sprintf("%s has a form of its own: describe it here", t))
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.Int, reflect.Int64, reflect.Uint64, reflect.Uint32:
		return object{"type": "integer"}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return object{"type": "string", "format": "byte"}
		}
		return object{"type": []string{"array", "null"}, "items": s.of(t.Elem())}
	case reflect.Array:
		return object{"type": "array", "items": s.of(t.Elem()), "minItems": t.Len(), "maxItems": t.Len()}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Struct:
		if s[t.Name()] == nil {
			s[t.Name()] = object{} // met, for types that hold themselves
			props, required := object{}, []string{}
			s.fields(t, props, &required)
			slices.Sort(required)
			s[t.Name()] = object{"type": "object", "properties": props, "required": required, "additionalProperties": false}
		}
		return ref(t.Name())
	}
	panic(fmt.Sprintf("no schema for %s", t))
}

func (s schemas) fields(t reflect.Type, props object, required *[]string) {
	for f := range t.Fields() {
		if f.Anonymous {
			s.fields(f.Type, props, required)
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			panic(fmt.Sprintf("%s.%s has no name in JSON", t, f.Name))
		}
		props[name] = s.of(f.Type)
		if options == "" {
			*required = append(*required, name)
		}
	}
}

// reference is the table of endpoints for people.
func reference() string {
	var b strings.Builder
	b.WriteString("| endpoint | scope | request | answer | what it does |\n| --- | --- | --- | --- | --- |\n")
	for _, e := range endpoints() {
		in := "none"
		if e.in != nil {
			in = "`" + typeName(e.in) + "`"
		}
		if len(e.query) > 0 {
			var names []string
			for _, p := range e.query {
				names = append(names, "`"+p.name+"`")
			}
			in = "query: " + strings.Join(names, ", ")
		}
		out := "`" + typeName(e.out) + "`"
		switch {
		case e.out == reflect.TypeFor[empty]():
			out = "`{}`"
		case e.text != "":
			out = "text of Prometheus"
		case e.stream == sse:
			out += " as server-sent events"
		case e.stream == ndjson:
			out += " per line"
		}
		scope := string(e.scope)
		if e.local {
			scope += ", socket only"
		}
		fmt.Fprintf(&b, "| `%s /%s%s` | %s | %s | %s | %s |\n", e.method, Version, e.path, scope, in, out, e.summary)
	}
	return b.String()
}

func typeName(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[json.RawMessage]():
		return "OpenAPI"
	case t.Kind() == reflect.Slice:
		return "[]" + typeName(t.Elem())
	}
	return t.Name()
}
