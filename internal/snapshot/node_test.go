package snapshot

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"gapless"
)

func TestSatisfies(t *testing.T) {
	for _, c := range []struct {
		expr    string
		yes, no string
	}{
		{"", "0.0.1 20.1.2", ""},
		{"*", "20.1.2", ""},
		{"20", "20.0.0 20.9.9", "19.9.9 21.0.0"},
		{"20.x", "20.0.0 20.9.9", "19.9.9 21.0.0"},
		{"v20.11", "20.11.0 20.11.9", "20.10.0 20.12.0"},
		{"=20.11.1", "20.11.1", "20.11.0 20.11.2"},
		{">=18", "18.0.0 24.1.1", "17.9.9"},
		{">= 18.12", "18.12.0", "18.11.9"},
		{">18", "19.0.0", "18.9.9 18.0.0"},
		{">18.1.1", "18.1.2", "18.1.1"},
		{"<20", "19.9.9", "20.0.0"},
		{"<=20", "20.9.9", "21.0.0"},
		{"<=20.1.1", "20.1.1", "20.1.2"},
		{"^20.11.1", "20.11.1 20.99.0", "20.11.0 21.0.0"},
		{"^0.2.3", "0.2.3 0.2.9", "0.3.0 0.2.2"},
		{"^0.0.3", "0.0.3", "0.0.4"},
		{"^20", "20.0.0 20.5.5", "21.0.0"},
		{"~20.11.1", "20.11.1 20.11.5", "20.12.0 20.11.0"},
		{"~20", "20.0.0 20.12.0", "21.0.0"},
		{">=16 <19 || ^20.1.0", "16.0.0 18.9.9 20.1.0", "15.9.9 19.0.0 20.0.9 21.0.0"},
		{"18 - 20", "18.0.0 20.9.9", "17.9.9 21.0.0"},
		{"18.1.1 - 20.1.1", "18.1.1 20.1.1", "18.1.0 20.1.2"},
		{">=20.0.0-0", "20.0.0", "19.9.9"},
	} {
		for want, list := range map[bool]string{true: c.yes, false: c.no} {
			for _, s := range strings.Fields(list) {
				v, ok := parseVersion(s)
				got, readable := satisfies(v, c.expr)
				if !ok || !readable || got != want {
					t.Errorf("%q in %q: %v, readable %v, want %v", s, c.expr, got, readable, want)
				}
			}
		}
	}
	for _, bad := range []string{"latest", "lts/*", ">=", "1.2.3.4", "=>18", "18 -", "node 18", "99999999999", "^^1"} {
		if _, readable := satisfies(version{18, 0, 0}, bad); readable {
			t.Errorf("%q is read as a range", bad)
		}
	}
}

// fakeNode is a program that answers as node of that version does.
func fakeNode(v string) string {
	return "+ #!/bin/sh\nprintf 'v" + v + "\\n%s\\n' \"$0\"\n"
}

func TestDetectNode(t *testing.T) {
	for name, c := range map[string]struct {
		engines, current string
		files            map[string]string
		want             string // version, or part of the error and hint
	}{
		"no wishes":              {current: "20.1.0", want: "20.1.0"},
		"engines fit":            {engines: ">=18", current: "20.1.0", want: "20.1.0"},
		"engines do not fit":     {engines: "^30", current: "20.1.0", want: "asks for node ^30"},
		"the hint names it":      {engines: "^30", current: "20.1.0", want: "nvm install 30"},
		"another one fits":       {engines: "^24", current: "20.1.0", want: "24.3.0"},
		"the newest that fits":   {engines: ">=22 <26", current: "20.1.0", want: "24.3.0"},
		"not in PATH":            {engines: "24", want: "24.3.0"},
		"nvmrc":                  {current: "20.1.0", files: map[string]string{".nvmrc": "v22\n"}, want: "22.9.1"},
		"nvmrc by name":          {current: "20.1.0", files: map[string]string{".nvmrc": "# c\nlts/jod"}, want: "22.9.1"},
		"nvmrc not installed":    {current: "20.1.0", files: map[string]string{".nvmrc": "16.2.0"}, want: "20.1.0"},
		"nvmrc unreadable":       {current: "20.1.0", files: map[string]string{".nvmrc": "system"}, want: "20.1.0"},
		"node-version":           {current: "20.1.0", files: map[string]string{".node-version": "24.3.0"}, want: "24.3.0"},
		"engines over nvmrc":     {engines: "20", current: "20.1.0", files: map[string]string{".nvmrc": "22"}, want: "20.1.0"},
		"a wrong directory name": {engines: "26", current: "20.1.0", want: "asks for node 26"},
		"bad engines":            {engines: "newest", current: "20.1.0", want: "not a version range"},
	} {
		t.Run(name, func(t *testing.T) {
			home := tree(t, map[string]string{
				".nvm/versions/node/v22.9.1/bin/node":                          fakeNode("22.9.1"),
				".nvm/versions/node/v26.0.0/bin/node":                          fakeNode("19.0.0"),
				".nvm/versions/node/broken/bin/node":                           "",
				".local/share/fnm/node-versions/v24.3.0/installation/bin/node": fakeNode("24.3.0"),
				".volta/tools/image/node/21.0.0/bin/node":                      fakeNode("21.0.0"),
				".asdf/installs/nodejs/18.0.0/bin/node":                        fakeNode("18.0.0"),
			})
			bin := t.TempDir()
			if c.current != "" {
				add(t, bin, map[string]string{"node": fakeNode(c.current)})
			}
			path := "relative/bin::" + bin // entries that are not absolute are not ours
			src := tree(t, map[string]string{"package.json": fmt.Sprintf(`{"engines":{"node":%q}}`, c.engines)})
			add(t, src, c.files)
			got, err := finder{tree: src, home: home, path: path, getenv: func(string) string { return "" }}.find()
			if err != nil {
				if text := err.Error() + " " + gapless.HintOf(err); !strings.Contains(text, c.want) {
					t.Errorf("error %q, want %q", text, c.want)
				}
				return
			}
			if got.Version != c.want || got.Name != "node" || !filepath.IsAbs(got.Path) {
				t.Errorf("found %+v, want %s", got, c.want)
			}
		})
	}
	nothing := finder{tree: t.TempDir(), home: t.TempDir(), path: t.TempDir(), getenv: func(string) string { return "" }}
	if _, err := nothing.find(); err == nil || gapless.HintOf(err) == "" {
		t.Errorf("no node at all: %v", err)
	}
}

func TestDetectTheRealNode(t *testing.T) {
	got, err := DetectNode(t.TempDir())
	if err != nil {
		t.Skipf("no node here: %v", err)
	}
	if v, ok := parseVersion(got.Version); !ok || v.less(version{10, 0, 0}) || !isFile(got.Path) {
		t.Errorf("found %+v", got)
	}
}
