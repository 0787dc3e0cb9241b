package snapshot

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gapless"

	"github.com/google/go-cmp/cmp"
)

const npmEnv = "npm_lifecycle_event=start npm_package_name=shop npm_package_version=1.2.3"

// app is a tree with dependencies as npm and pnpm lay them out.
func app(t *testing.T, scripts string) string {
	return tree(t, map[string]string{
		"package.json":                            `{"name":"shop","version":"1.2.3","main":"lib/main","scripts":` + scripts + `}`,
		"server.js":                               "",
		"lib/main.js":                             "",
		"deno.js":                                 "+ #!/usr/bin/env deno\n",
		"start.sh":                                "+ #!/bin/sh\n",
		"bin/www":                                 "+ #!/usr/bin/env node\n",
		"node_modules/next/dist/bin/next":         "+ #!/usr/bin/env node\n",
		"node_modules/.bin/next":                  "-> ../next/dist/bin/next",
		"node_modules/tsx/cli.mjs":                "+ #!/usr/bin/env -S node --enable-source-maps\n",
		"node_modules/.bin/tsx":                   "-> ../tsx/cli.mjs",
		"node_modules/esbuild/bin":                "+ \x7fELF",
		"node_modules/.bin/esbuild":               "-> ../esbuild/bin",
		"node_modules/.pnpm/f@1/node_modules/f/f": "+ #!/usr/bin/env node\n",
		"node_modules/f":                          "-> .pnpm/f@1/node_modules/f",
		"node_modules/.bin/f": "+ #!/bin/sh\nbasedir=$(dirname \"$0\")\n" +
			"if [ -x \"$basedir/node\" ]; then\n  exec \"$basedir/node\"  \"$basedir/../f/f\" \"$@\"\nelse\n  exec node  \"$basedir/../f/f\" \"$@\"\nfi\n",
		"node_modules/.bin/escape": "-> ../../../../../../../bin/sh",
	})
}

// show writes a command on one line: NAME=value …, then its arguments between bars.
func show(c Command) string {
	out := ""
	for _, k := range []string{"A", "B", "NODE_ENV", "NODE_OPTIONS", "npm_lifecycle_event", "npm_package_name", "npm_package_version"} {
		if v, ok := c.Env[k]; ok {
			out += k + "=" + v + " "
		}
	}
	return out + strings.Join(c.Argv, "|")
}

func TestResolve(t *testing.T) {
	scripts := `{
		"start": "NODE_ENV=production node server.js",
		"serve": "next start -p $PORT",
		"deep": "npm run serve",
		"loop": "npm run loop",
		"blank": " ",
		"ping": "yarn pong", "pong": "pnpm run ping",
		"cross": "cross-env NODE_ENV=production A=1 node .",
		"prepared": "A=1 node server.js",
		"preprepared": "next build # slow",
		"chain": "next build && npm start",
		"many": "next build && npm run prepared",
		"quoted": "node \"my server.js\" --title 'a b' --cost '$5' \"\" x\\ y"
	}`
	const sh = "/bin/sh|-c|" + binPath
	for _, c := range []struct{ run, want string }{
		{"", "NODE_ENV=production " + npmEnv + " node|server.js"},
		{"node server.js", "node|server.js"},
		{"server.js --verbose", "node|server.js|--verbose"},
		{"./bin/www", "node|bin/www"},
		{"./start.sh x", "./start.sh|x"},
		{"deno.js", "./deno.js"},
		{"missing.mjs", "node|missing.mjs"},
		{"/opt/anything --port $PORT", "/opt/anything|--port|$PORT"},
		{"python3 -m http.server ${PORT}", "python3|-m|http.server|${PORT}"},
		{"next start -H 127.0.0.1", "node|node_modules/next/dist/bin/next|start|-H|127.0.0.1"},
		{"tsx src/app.ts", "node|--enable-source-maps|node_modules/tsx/cli.mjs|src/app.ts"},
		{"f run", "node|node_modules/.pnpm/f@1/node_modules/f/f|run"},
		{"esbuild --serve", "node_modules/.bin/esbuild|--serve"},
		{"escape", "node_modules/.bin/escape"},
		{"A=1 B='x y' node server.js", "A=1 B=x y node|server.js"},
		{"NODE_OPTIONS=--max-old-space-size=512 node server.js --p=$PORT", "NODE_OPTIONS=--max-old-space-size=512 node|server.js|--p=$PORT"},
		{"exec node server.js", "node|server.js"},
		{"node server.js # the server", "node|server.js"},
		{"node \\\n  server.js;", "node|server.js"},
		{`node server.js --re 'a*' "b?" \$HOME '$PORT' "$NAME" $$x`, "node|server.js|--re|a*|b?|$$HOME|$$PORT|$NAME|$$x"},

		{"npm start", "NODE_ENV=production " + npmEnv + " node|server.js"},
		{"A=1 npm start", "A=1 NODE_ENV=production " + npmEnv + " node|server.js"},
		{"npm run --silent deep -- -- --extra 'a b'", strings.Replace(npmEnv, "start", "serve", 1) + " node|node_modules/next/dist/bin/next|start|-p|$PORT|--extra|a b"},
		{"yarn serve --x", strings.Replace(npmEnv, "start", "serve", 1) + " node|node_modules/next/dist/bin/next|start|-p|$PORT|--x"},
		{"pnpm run cross", "A=1 NODE_ENV=production " + strings.Replace(npmEnv, "start", "cross", 1) + " node|."},
		{"npx next start", "node|node_modules/next/dist/bin/next|start"},
		{"pnpm exec tsx a.ts", "node|--enable-source-maps|node_modules/tsx/cli.mjs|a.ts"},
		{"yarn next start", "node|node_modules/next/dist/bin/next|start"},
		{"yarn node server.js", "node|server.js"},
		{"bun server.ts", "bun|server.ts"},
		{"npm --prefix api start", "npm|--prefix|api|start"},
		{"npm run serve --workspace=x", "npm|run|serve|--workspace=x"},
		{"npm run quoted", strings.Replace(npmEnv, "start", "quoted", 1) + " node|my server.js|--title|a b|--cost|$$5||x y"},

		{"node server.js > out.log 2>&1", sh + "exec node server.js > out.log 2>&1"},
		{"node $NODE_ARGS server.js", sh + "exec node $NODE_ARGS server.js"},
		{"A=1 node *.js", sh + "{ A=1; export A; exec node *.js\n}"},
		{"node server.js | tee log", sh + "node server.js | tee log"},
		{"cd lib && node main.js", sh + "cd lib && exec node main.js"},
		{"cd lib && npm start", sh + "cd lib && exec npm start"},
		{"node a.js & node b.js", sh + "node a.js & node b.js"},
		{"if true; then node a.js; fi", sh + "if true; then node a.js; fi"},
		{"(node a.js)", sh + "(node a.js)"},
		{"cat <<X\nnode\nX", sh + "cat <<X\nnode\nX"},
		{"npm run chain", strings.Replace(npmEnv, "start", "chain", 1) + " " + sh +
			`next build && exec env NODE_ENV=production npm_lifecycle_event=start npm_package_name=shop npm_package_version=1.2.3 node server.js`},
		{"npm run prepared", strings.Replace(npmEnv, "start", "prepared", 1) + " " + sh + "( next build # slow\n) && exec env A=1 node server.js"},
	} {
		t.Run(c.run, func(t *testing.T) {
			cmd, err := Resolve(app(t, scripts), c.run)
			if err != nil {
				t.Fatal(err, gapless.HintOf(err))
			}
			if d := cmp.Diff(c.want, show(cmd)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if cmd.Why == "" {
				t.Errorf("no Why")
			}
			if cmd.Shell != strings.Contains(c.want, "/bin/sh|-c") {
				t.Errorf("Shell is %v", cmd.Shell)
			}
		})
	}
	for run, want := range map[string]string{
		"npm run nope":         `no script "nope"`,
		"npm run loop":         "without end",
		"npm run ping":         "without end",
		"npm run blank":        "is empty",
		"npx create-something": "not among the app's dependencies",
		"node 'server.js":      "not closed",
		`node "server.js`:      "not closed",
		`node server.js \`:     "backslash",
		"A=1":                  "only sets variables",
		"# nothing":            "is empty",
	} {
		_, err := Resolve(app(t, scripts), run)
		if err == nil || !strings.Contains(err.Error(), want) || gapless.CodeOf(err) != gapless.Invalid {
			t.Errorf("%q: error %v, want %q", run, err, want)
		}
	}
}

func TestResolveWithoutStartScript(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"server.js":     {map[string]string{"server.js": "", "package.json": `{"main":"index.js"}`, "index.js": ""}, "node|server.js"},
		"main":          {map[string]string{"package.json": `{"main":"./lib"}`, "lib/index.js": "", "index.js": ""}, "node|lib/index.js"},
		"main no ext":   {map[string]string{"package.json": `{"main":"lib/app"}`, "lib/app.js": ""}, "node|lib/app.js"},
		"index.js":      {map[string]string{"package.json": `{}`, "index.js": ""}, "node|index.js"},
		"no package":    {map[string]string{"server.js": ""}, "node|server.js"},
		"missing main":  {map[string]string{"package.json": `{"main":"dist/x.js"}`}, "has no such file"},
		"nothing":       {map[string]string{"README": ""}, "nothing says how"},
		"broken":        {map[string]string{"package.json": `{`}, "not valid"},
		"old engines":   {map[string]string{"package.json": `{"engines":["node"],"main":"a.js"}`, "a.js": ""}, "node|a.js"},
		"wrong scripts": {map[string]string{"package.json": `{"scripts":[]}`}, "not valid"},
	} {
		cmd, err := Resolve(tree(t, c.files), "")
		got := strings.Join(cmd.Argv, "|")
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// What Resolve and Expand make of a command prints what sh makes of it.
func TestResolvedCommandsRunAsInAShell(t *testing.T) {
	dir := tree(t, map[string]string{
		"package.json":           `{"name":"x","scripts":{"start":"A='in ner' show \"$A\" x","prestart":"echo pre $A","two":"echo one; npm start -- end","three":"true && B=2 show *.txt $LIST"}}`,
		"one.txt":                "",
		"two.txt":                "",
		"node_modules/.bin/show": "+ #!/bin/sh\nprintf '<%s>' \"A=$A\" \"B=$B\" \"$@\"; echo\n",
	})
	env := map[string]string{"PATH": os.Getenv("PATH"), "PORT": "8080", "LIST": "a b", "EMPTY": "", "S": "s p"}
	for _, c := range []struct{ run, want string }{
		{`show $PORT "${PORT}x" '$PORT' \$PORT "\$PORT" "$S" "" a\ b`, "<A=><B=><8080><8080x><$PORT><$PORT><$PORT><s p><><a b>"},
		{`show $LIST $EMPTY --x=$S`, "<A=><B=><a><b><--x=s><p>"}, // one bare variable: all of it is sh's
		{`show "it's" 'say "hi"' "a\\b" "c\d" 'e\f'`, `<A=><B=><it's><say "hi"><a\b><c\d><e\f>`},
		{`A=1 B="$S" show`, "<A=1><B=s p>"},
		{"npm start", "pre\n<A=in ner><B=><><x>"},
		{"npm run two", "one\npre\n<A=in ner><B=><><x><end>"},
		{"npm run three", "<A=><B=2><one.txt><two.txt><a><b>"},
		{"A=$(echo q r) show && A=1 show '$' \"a$\"", "<A=q r><B=>\n<A=1><B=><$><a$>"},
		{"show one; show two;", "<A=><B=><one>\n<A=><B=><two>"},
		{"show x >&2 2>/dev/null; echo done # end", "done"},
	} {
		cmd, err := Resolve(dir, c.run)
		if err != nil {
			t.Errorf("%s: %v", c.run, err)
			continue
		}
		all := []string{}
		for k, v := range env {
			all = append(all, k+"="+v)
		}
		for k, v := range cmd.Env {
			all = append(all, k+"="+Expand([]string{v}, env)[0])
		}
		argv := cmd.Argv
		if !cmd.Shell {
			argv = Expand(argv, env)
		}
		e := exec.Command(argv[0], argv[1:]...)
		e.Dir, e.Env = dir, all
		if strings.Contains(argv[0], "/") && !filepath.IsAbs(argv[0]) {
			e.Path = filepath.Join(dir, argv[0])
		}
		out, err := e.Output()
		if got := strings.TrimSpace(string(out)); err != nil || got != c.want {
			t.Errorf("%s\n  argv %q\n  got  %q %v\n  want %q", c.run, cmd.Argv, got, err, c.want)
		}
	}
}

func TestExpand(t *testing.T) {
	got := Expand([]string{"$PORT", "${PORT}", "a$PORT.b", "$NO", "$$PORT", "$$$PORT", "5$", "$1", "${a-b}", "$PORTX", ""},
		map[string]string{"PORT": "80", "NO2": "$PORT"})
	want := []string{"80", "80", "a80.b", "", "$PORT", "$80", "5$", "$1", "${a-b}", "", ""}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestNeedsNode(t *testing.T) {
	for line, want := range map[string]bool{
		"node|x.js": true, "/usr/bin/node|x": true, "npm|start": true, "node_modules/.bin/esbuild": true,
		"./server": false, "python3|node.py": false, "nodejs-thing": false,
	} {
		if got := NeedsNode(Command{Argv: strings.Split(line, "|")}); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
	for text, want := range map[string]bool{"a && exec node x.js": true, "exec ./server > log": false, binPath + "exec next": true} {
		if got := NeedsNode(Command{Argv: []string{"/bin/sh", "-c", text}, Shell: true}); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	if NeedsNode(Command{}) {
		t.Error("an empty command needs no node")
	}
}

func FuzzSplit(f *testing.F) {
	for _, s := range []string{"node server.js", `A=1 "b $C" 'd' > x 2>&1 && e | f; (g)`, "$", "${", "a\\", "<<>>&|"} {
		f.Add(s)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, line string) {
		segments, err := split(line)
		if err != nil {
			return
		}
		for _, s := range segments {
			for _, w := range s.words {
				Expand([]string{w.text}, nil)
			}
		}
		if strings.TrimSpace(line) != "" {
			cmd, err := Resolve(dir, line)
			if err == nil && len(cmd.Argv) == 0 {
				t.Errorf("%q: no command and no error", line)
			}
		}
	})
}
