package pm2

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"gapless"
)

// Ecosystem is what a PM2 file says.
type Ecosystem struct {
	apps   []app
	deploy bool // it has a deploy section
}

// app is one entry of apps: fields by the names of aliases, values as JSON has them.
type app map[string]any

// aliases are other spellings that PM2 takes.
var aliases = map[string]string{
	"cron": "cron_restart", "exec_interpreter": "interpreter", "interpreter_args": "node_args", "nodeArgs": "node_args",
	"out": "out_file", "output": "out_file", "error": "error_file", "err": "error_file", "err_file": "error_file",
	"log": "log_file", "pid": "pid_file", "combine_logs": "merge_logs", "user": "uid", "watch_ignore": "ignore_watch",
	"max_memory": "max_memory_restart", "exec": "script",
}

// Parse reads the JSON of an ecosystem: { apps: […] }, a list of apps, or one app.
func Parse(data []byte) (*Ecosystem, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, gapless.Errorf(gapless.Invalid, "read the ecosystem: %w", err)
	}
	e := &Ecosystem{}
	list, ok := v.([]any)
	if m, object := v.(map[string]any); object {
		_, e.deploy = m["deploy"]
		switch apps := m["apps"].(type) {
		case []any:
			list, ok = apps, true
		case map[string]any:
			list, ok = []any{apps}, true
		case nil:
			if _, alone := m["script"]; alone {
				list, ok = []any{m}, true
			}
		}
	}
	if !ok || len(list) == 0 {
		return nil, gapless.Errorf(gapless.Invalid, "the file names no apps").WithHint("it has to export { apps: [ { script: … } ] }")
	}
	for i, entry := range list {
		m, ok := entry.(map[string]any)
		if !ok {
			return nil, gapless.Errorf(gapless.Invalid, "entry %d of apps is not an object", i+1)
		}
		a := app{}
		for name, value := range m {
			if value == nil {
				continue
			}
			if alias, is := aliases[name]; is {
				name = alias
			}
			a[name] = value
		}
		if a.text("script") == "" {
			return nil, gapless.Errorf(gapless.Invalid, "entry %d of apps has no script", i+1)
		}
		e.apps = append(e.apps, a)
	}
	return e, nil
}

// Environments are the names of the env_* blocks, without that prefix.
func (e *Ecosystem) Environments() []string {
	seen := map[string]bool{}
	for _, a := range e.apps {
		for field := range a {
			if name, is := strings.CutPrefix(field, "env_"); is {
				seen[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// text is a field that holds text or a number; "" if it is neither.
func (a app) text(field string) string {
	s, _ := scalar(a[field])
	return s
}

func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

// words is a field that is a list, or text with quotes like a shell's.
func (a app) words(field string) ([]string, bool) {
	switch v := a[field].(type) {
	case nil:
		return nil, true
	case []any:
		var out []string
		for _, e := range v {
			s, ok := scalar(e)
			if !ok {
				return nil, false
			}
			out = append(out, s)
		}
		return out, true
	}
	s, ok := scalar(a[field])
	if !ok {
		return nil, false
	}
	return split(s), true
}

// split cuts text into words at spaces outside of quotes.
func split(s string) []string {
	var out []string
	var word strings.Builder
	in, quote := false, rune(0)
	for _, r := range s {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			in, quote = true, r
		case quote == 0 && (r == ' ' || r == '\t' || r == '\n'):
			if in {
				out = append(out, word.String())
				word.Reset()
			}
			in = false
		default:
			in = true
			word.WriteRune(r)
		}
	}
	if in {
		out = append(out, word.String())
	}
	return out
}
