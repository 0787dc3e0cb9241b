package snapshot

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gapless"
)

// manager resolves npm start, npm run x, yarn x, pnpm x, npx x and their
// like. False: this is another command, or a use of a manager that is not
// understood, which then runs as it is.
func (r resolver) manager(words []word, depth int) (Command, bool, error) {
	name := words[0].text
	args := words[1:]
	for len(args) > 0 && quiet[args[0].text] {
		args = args[1:]
	}
	if len(args) == 0 {
		return Command{}, false, nil
	}
	verb := args[0].text
	switch name {
	case "npx":
		if verb == "--" && len(args) > 1 {
			args = args[1:]
		}
		return r.binary(name, args, depth)
	case "npm", "yarn", "pnpm", "bun":
	default:
		return Command{}, false, nil
	}
	if strings.HasPrefix(verb, "-") {
		return Command{}, false, nil
	}
	_, isScript := r.pkg.Scripts[verb]
	switch {
	case verb == "run" || verb == "run-script" && name != "yarn":
		args = args[1:]
		for len(args) > 0 && quiet[args[0].text] {
			args = args[1:]
		}
		if len(args) == 0 || strings.HasPrefix(args[0].text, "-") {
			return Command{}, false, nil
		}
		if _, ok := r.pkg.Scripts[args[0].text]; !ok && name != "npm" {
			if cmd, ok, err := r.binary(name+" run", args, depth); ok && err == nil {
				return cmd, true, nil
			}
			if name == "bun" {
				return Command{}, false, nil
			}
		}
		return r.managed(name, args, depth)
	case verb == "start" || verb == "test" || verb == "stop" || verb == "restart":
		if name == "bun" && !isScript {
			return Command{}, false, nil
		}
		return r.managed(name, args, depth)
	case verb == "exec" && name != "bun":
		args = args[1:]
		if len(args) > 0 && args[0].text == "--" {
			args = args[1:]
		}
		if len(args) == 0 || strings.HasPrefix(args[0].text, "-") {
			return Command{}, false, nil
		}
		return r.binary(name+" exec", args, depth)
	case verb == "node" && name != "npm" && name != "bun":
		cmd, err := r.simple(raw(args), args, depth+1)
		return cmd, true, err
	case name == "yarn" || name == "pnpm":
		if isScript {
			return r.managed(name, args, depth)
		}
		if isFile(filepath.Join(r.tree, binDir, verb)) {
			return r.binary(name, args, depth)
		}
	}
	return Command{}, false, nil
}

// quiet flags change what is printed, not what is run.
var quiet = wordSet("--silent -s --quiet -q --if-present --loglevel=silent --loglevel=error --yes -y --no-install")

// managed resolves the script args[0] with the arguments behind it, which npm
// takes only behind --.
func (r resolver) managed(manager string, args []word, depth int) (Command, bool, error) {
	script, args := args[0].text, args[1:]
	for i, a := range args {
		if a.text == "--" && a.raw == "--" {
			args = slices.Concat(args[:i], args[i+1:])
			break
		}
		if manager == "npm" && strings.HasPrefix(a.text, "-") && !quiet[a.text] {
			return Command{}, false, nil // a flag of npm itself: --prefix, --workspace
		}
	}
	cmd, err := r.script(script, args, depth)
	return cmd, true, err
}

// script resolves a script of package.json with further arguments.
func (r resolver) script(name string, args []word, depth int) (Command, error) {
	if depth >= maxDepth {
		return Command{}, gapless.Errorf(gapless.Invalid, "the scripts of package.json call each other without end, at %q", name)
	}
	text, ok := r.pkg.Scripts[name]
	if !ok && name == "start" && isFile(filepath.Join(r.tree, "server.js")) { // as npm does
		text, ok = "node server.js", true
	}
	if !ok {
		err := gapless.Errorf(gapless.Invalid, "package.json has no script %q", name)
		if known := slices.Sorted(maps.Keys(r.pkg.Scripts)); len(known) > 0 {
			return Command{}, err.WithHint("its scripts: %s", strings.Join(known, ", "))
		}
		return Command{}, err.WithHint("it has no scripts; write run: node <file> in gapless.yaml")
	}
	if strings.TrimSpace(text) == "" {
		return Command{}, gapless.Errorf(gapless.Invalid, "the script %q of package.json is empty", name).
			WithHint(`write "%s": "node <file>"`, name)
	}
	full := text
	if len(args) > 0 {
		full += " " + raw(args)
	}
	cmd, err := r.line(full, depth+1)
	if err != nil {
		return Command{}, err
	}
	why := "script " + name + " of package.json: " + text
	if pre := r.pkg.Scripts["pre"+name]; strings.TrimSpace(pre) != "" {
		cmd = r.shell("( " + pre + "\n) && " + asTail(cmd))
		why += ", after its pre" + name + ": " + pre
	}
	if cmd.Env == nil {
		cmd.Env = map[string]string{}
	}
	for k, v := range map[string]string{ // what programs expect of a manager
		"npm_lifecycle_event": name, "npm_package_name": r.pkg.Name, "npm_package_version": r.pkg.Version,
	} {
		if _, inner := cmd.Env[k]; !inner && v != "" {
			cmd.Env[k] = strings.ReplaceAll(v, "$", "$$")
		}
	}
	cmd.Why = why
	return cmd, nil
}

// binary resolves a program of the app's dependencies.
func (r resolver) binary(how string, args []word, depth int) (Command, bool, error) {
	name := args[0].text
	if strings.HasPrefix(name, "-") {
		return Command{}, false, nil
	}
	if name != "node" && !isFile(filepath.Join(r.tree, binDir, name)) {
		return Command{}, true, gapless.Errorf(gapless.Invalid, "%s %s: %s is not among the app's dependencies, and a start that downloads it can fail at any time", how, name, name).
			WithHint("npm install --save %s", name)
	}
	cmd, err := r.simple(raw(args), args, depth+1)
	return cmd, true, err
}

// raw writes words as they were written.
func raw(words []word) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = w.raw
	}
	return strings.Join(out, " ")
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
