package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAccessLog(t *testing.T) {
	for _, c := range []struct{ text, want, refused string }{
		{"", `null`, ""},
		{"access_log: false", `null`, ""},
		{"access_log: true", `{"format":"json","max_size":52428800,"max_age":"24h0m0s","keep":10}`, ""},
		{"access_log: { path: /var/log/shop.log, format: combined, query: true, max_size: 1M, max_age: 1h, keep: 0 }",
			`{"path":"/var/log/shop.log","format":"combined","query":true,"max_size":1048576,"max_age":"1h0m0s","keep":0}`, ""},
		{"access_log: yes please", "", "neither true nor a map"},
		{"access_log: /var/log/shop.log", "", "neither true nor a map"},
		{"access_log: { path: shop.log }", "", "must be an absolute file name"},
		{"access_log: { path: / }", "", "must be an absolute file name"},
		{"access_log: { format: xml }", "", "xml"},
		{"access_log: { colour: red }", "", "colour"},
		{"access_log: [true]", "", "access_log"},
		{"access_log:", "", "access_log"},
		{"run: false\naccess_log: true\nprocesses: { w: node w.js }", "", "access_log"},
	} {
		t.Run(c.text, func(t *testing.T) {
			dir := t.TempDir()
			text := c.text
			if !strings.HasPrefix(text, "run:") {
				text = "run: node s.js\n" + text
			}
			if err := os.WriteFile(filepath.Join(dir, FileName), []byte(text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			app, err := Load(Input{Dir: dir})
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("%v, not %q", err, c.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := json.Marshal(app.AccessLog); string(got) != c.want {
				t.Errorf("%s, not %s", got, c.want)
			}
		})
	}
}
