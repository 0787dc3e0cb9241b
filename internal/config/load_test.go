package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"gapless"

	"github.com/google/go-cmp/cmp"
)

const pkg = `{"name":"shop","scripts":{"start":"node server.js"}}`

func TestLoadFromTheCommandLine(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		in    Input
		want  func(*gapless.App) (got, want any)
	}{
		"package.json is enough": {map[string]string{"package.json": pkg}, Input{},
			func(a *gapless.App) (any, any) {
				return a.Processes, []gapless.Process{{Name: "web", Instances: 4}}
			}},
		"a file": {map[string]string{"server.js": ""}, Input{Args: []string{"server.js", "--name", "a b"}},
			func(a *gapless.App) (any, any) { return a.Processes[0].Run, `server.js --name "a b"` }},
		"a file by its absolute path": {map[string]string{"src/server.js": ""}, Input{Args: []string{"DIR/src/server.js"}},
			func(a *gapless.App) (any, any) { return a.Processes[0].Run, "src/server.js" }},
		"a directory": {map[string]string{"api/package.json": `{"scripts":{"start":"x"}}`}, Input{Args: []string{"api"}},
			func(a *gapless.App) (any, any) { return a.Name + " " + filepath.Base(a.Source), "api api" }},
		"any command": {nil, Input{Exact: true, Args: []string{"./any thing", "--port", "$PORT", "it's", `a"b\`, "`x`", "$(y)", "*", ""}},
			func(a *gapless.App) (any, any) {
				return a.Processes[0].Run, `"./any thing" --port "$PORT" "it's" "a\"b\\" "\` + "`" + `x\` + "`" + `" "\$(y)" "*" ""`
			}},
		"variables before a command": {nil, Input{Exact: true, Args: []string{"A=x y", "B=", "./app", "C=1"}},
			func(a *gapless.App) (any, any) { return a.Processes[0].Run, `A="x y" B="" ./app "C=1"` }},
		"a command is not built": {map[string]string{"package.json": `{"scripts":{"build":"tsc"}}`}, Input{Exact: true, Args: []string{"./app"}},
			func(a *gapless.App) (any, any) { return a.Build, "" }},
		"build by the lockfile": {map[string]string{"package.json": `{"main":"x","scripts":{"build":"tsc"}}`, "pnpm-lock.yaml": ""}, Input{},
			func(a *gapless.App) (any, any) { return a.Build, "pnpm run build" }},
		"flags over the file": {
			map[string]string{"server.js": "", "gapless.yaml": "app: a\nlisten: :1\ninstances: 2\nenv: {A: 1, B: 1}\nenv_file: x", "x": "C=1", "y": "C=2"},
			Input{Name: "b", Listen: []string{"9000"}, Instances: 7, Env: map[string]string{"B": "2"}, EnvFiles: []string{"y"}},
			func(a *gapless.App) (any, any) {
				return []any{a.Name, a.Listen[0], len(a.Listen), a.Processes[0].Instances, a.Env["A"], a.Env["B"], len(a.EnvFiles)},
					[]any{"b", ":9000", 1, 7, "1", "2", 2}
			}},
		"another file": {map[string]string{"server.js": "", "gapless.yaml": "x: y", "ops/prod.yaml": "app: prod"}, Input{File: "ops/prod.yaml"},
			func(a *gapless.App) (any, any) { return a.Name + " " + filepath.Base(a.Source), "prod shop" }},
		"only workers": {map[string]string{"gapless.yaml": "processes: {w: node w.js}"}, Input{},
			func(a *gapless.App) (any, any) {
				return []any{len(a.Processes), a.Processes[0].Name, len(a.Listen), a.Name}, []any{1, "w", 0, "shop"}
			}},
		"a name is made of anything": {map[string]string{"package.json": `{"name":"@Acme/--Größe_of  Everything.That/is-far-too-long-for-a-name-in-the-table","main":"x"}`}, Input{},
			func(a *gapless.App) (any, any) { return a.Name, "is-far-too-long-for-a-name-in-the-table" }},
		"a byte order mark": {map[string]string{"package.json": "\ufeff" + pkg, "gapless.yaml": "\ufeffapp: bom"}, Input{},
			func(a *gapless.App) (any, any) { return a.Name, "bom" }},
	} {
		t.Run(name, func(t *testing.T) {
			c.in.Dir = write(t, c.files)
			for i := range c.in.Args {
				c.in.Args[i] = strings.Replace(c.in.Args[i], "DIR", c.in.Dir, 1)
			}
			app, err := load(c.in, 8)
			if err != nil {
				t.Fatal(err)
			}
			got, want := c.want(app)
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestLoadErrors(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		in    Input
		want  []string
	}{
		"no app": {map[string]string{"README": ""}, Input{},
			[]string{"no app here", "gapless.yaml", "package.json", "server.js", "gapless up server.js", "gapless up -- ./anything"}},
		"a package without a start": {map[string]string{"package.json": `{"name":"x"}`}, Input{}, []string{"no app here"}},
		"no such file":              {nil, Input{Args: []string{"sever.js"}}, []string{`"sever.js" is not a file`, "gapless up -- sever.js"}},
		"a file elsewhere":          {nil, Input{Args: []string{"/etc/hostname"}}, []string{"/etc/hostname"}},
		"no command":                {nil, Input{Exact: true}, []string{"no command follows"}},
		"an empty command":          {nil, Input{Exact: true, Args: []string{""}}, []string{"command is empty"}},
		"flags and file and package at once": {
			map[string]string{"gapless.yaml": "drain: 5\n", "package.json": "{\n  \"name\": 3,\n}"},
			Input{Name: "No Name", Listen: []string{":0", ":1", ":1"}, Instances: -1, Env: map[string]string{"a b": "", "PORT": "1"}, EnvFiles: []string{"gone"}},
			[]string{"gapless.yaml:1:8: 5 has no unit", "package.json:3:1: not valid JSON", "--name: ", "--listen: port 0", ":1 is given twice",
				"--instances: -1", `--env: "a b"`, "--env: PORT is chosen", `--env-file: "gone" cannot be read: no such file`, "9 problems"},
		},
		"wrong types in package.json": {map[string]string{"package.json": "{\n  \"name\": \"x\",\n  \"scripts\": {\"start\": 1}}"}, Input{},
			[]string{"package.json:3:", "is a JSON number, but must be a string"}},
		"the file's other names": {map[string]string{"server.js": "", "gapless.yml": ""}, Input{}, []string{"mv gapless.yml gapless.yaml"}},
		"a missing file":         {map[string]string{"server.js": ""}, Input{File: "no.yaml"}, []string{"no.yaml: cannot be read: no such file"}},
		"keys without a web process": {map[string]string{"gapless.yaml": "health: /x\ninstances: 2\nprocesses: {w: node w.js}"}, Input{Listen: []string{":1"}},
			[]string{"gapless.yaml:1:9: this belongs to a web process", "gapless.yaml:2:12: ", "--listen and --instances"}},
		"too large":         {map[string]string{"server.js": "", "gapless.yaml": "# " + strings.Repeat("x", maxYAML)}, Input{}, []string{"larger than 128 KiB"}},
		"too large package": {map[string]string{"server.js": "", "package.json": strings.Repeat(" ", maxFile+1)}, Input{}, []string{"larger than 1024 KiB"}},
		"too many problems": {map[string]string{"server.js": "", "gapless.yaml": "env:\n" + strings.Repeat("  A: 1\n", 1000)}, Input{}, []string{"999 problems", "and 899 more"}},
		"not text":          {map[string]string{"server.js": "", "gapless.yaml": "app: \xff\xfe"}, Input{}, []string{"not UTF-8"}},
		"nests deeply":      {map[string]string{"server.js": "", "gapless.yaml": strings.Repeat("[", 100000)}, Input{}, []string{"nests too deeply"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.in.Dir = write(t, c.files)
			_, err := load(c.in, 8)
			var e *gapless.Error
			if !errors.As(err, &e) || e.Code != gapless.Invalid {
				t.Fatalf("error %v, want one of code invalid", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q:\n%v", want, err)
				}
			}
		})
	}
	if _, err := Load(Input{Dir: filepath.Join(t.TempDir(), "no")}); gapless.CodeOf(err) != gapless.Invalid {
		t.Errorf("a missing directory: %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	dir := write(t, map[string]string{
		"a.env": "A=1\nB=1\nC=1\nPORT=3000\n",
		"b.env": strings.Join([]string{
			"# comment", "", "  export B = two words  # comment", "HASH=a#b", "EMPTY=", "NONE=# c",
			`SINGLE='a $B \n # "x"' # c`, `DOUBLE="a\tb\n\"q\" \$B \x # c"`, "MULTI=\"one", "  two=2", "three\"", "CRLF=x\r", "URL=postgres://u:p@h/d?a=b",
		}, "\n"),
	})
	app := &gapless.App{
		EnvFiles: []string{filepath.Join(dir, "a.env"), filepath.Join(dir, "b.env")},
		Env:      map[string]string{"C": "3"},
	}
	got, err := Environment(app)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"A": "1", "B": "two words", "C": "3", "HASH": "a#b", "EMPTY": "", "NONE": "",
		"SINGLE": `a $B \n # "x"`, "DOUBLE": "a\tb\n\"q\" $B \\x # c", "MULTI": "one\n  two=2\nthree", "CRLF": "x", "URL": "postgres://u:p@h/d?a=b",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for _, bad := range []string{"A=\"x", "A='x\nB=secret", "A=\"x\" secret", "A B=secret", "secret", "1A=secret", "A=1\nA=secret", "GAPLESS_X=secret", "=secret", "a+/secret=="} {
		path := filepath.Join(dir, "bad.env")
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Environment(&gapless.App{EnvFiles: []string{path}})
		if gapless.CodeOf(err) != gapless.Invalid || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: error %v; it must be refused and its value not shown", bad, err)
		}
	}
	if _, err := Environment(&gapless.App{EnvFiles: []string{filepath.Join(dir, "gone.env")}}); err == nil {
		t.Error("a missing file is no error")
	}
}

// Whatever the files hold, Load answers: an app that is whole, or an error of code invalid.
func FuzzLoad(f *testing.F) {
	seeds, _ := filepath.Glob("testdata/*.yaml")
	for _, s := range seeds {
		data, err := os.ReadFile(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, []byte(pkg), []byte("A=1\nB=\"x\"\n"))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, file, manifest, env []byte) {
		for name, data := range map[string][]byte{FileName: file, "package.json": manifest, "app.env": env} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		app, err := load(Input{Dir: dir, EnvFiles: []string{"app.env"}}, 4)
		if err != nil {
			if gapless.CodeOf(err) != gapless.Invalid || !utf8.ValidString(err.Error()) {
				t.Errorf("error %q", err)
			}
			return
		}
		if checkName(app.Name) != nil || app.Source != dir || len(app.Processes) == 0 {
			t.Errorf("app is not whole: %+v", app)
		}
		for _, p := range app.Processes {
			if p.Instances < 1 || p.Run == "" && !p.Web() {
				t.Errorf("process is not whole: %+v", p)
			}
		}
		if _, err := Environment(app); err != nil {
			t.Errorf("Load accepted an environment that cannot be made: %v", err)
		}
	})
}
