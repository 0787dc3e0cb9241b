package snapshot

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"gapless"
)

// Command is how a process of a release is really started, with the tree as
// its working directory.
type Command struct {
	Argv  []string          // $NAME and ${NAME} wait for Expand; $$ is a dollar
	Env   map[string]string // set by the command itself (NAME=value before it); waits for Expand too
	Shell bool              // Argv is /bin/sh -c …: the shell expands, so Argv must not go through Expand
	Why   string            // where it comes from, for people
}

// Resolve finds out what run starts in tree. Package managers are taken out:
// npm start and the like become the command they would run, because a manager
// in between swallows signals and descriptors. An empty run is the start
// script of package.json, else server.js, else main, else index.js.
//
// A command that needs a shell is given to /bin/sh, which is replaced by the
// last command where that is possible. A pre-script (prestart) runs before
// every start of an instance; post-scripts do not run. The error is a
// *gapless.Error with a hint.
func Resolve(tree, run string) (Command, error) {
	m, err := readManifest(tree)
	if err != nil {
		return Command{}, err
	}
	r := resolver{tree: tree, pkg: m}
	if strings.TrimSpace(run) != "" {
		cmd, err := r.line(run, 0)
		if err == nil && cmd.Why == "" {
			cmd.Why = "run: " + run
		}
		return cmd, err
	}
	if _, ok := m.Scripts["start"]; ok {
		return r.script("start", nil, 0)
	}
	for _, c := range []struct{ file, why string }{
		{"server.js", "server.js"}, {m.Main, "main of package.json"}, {m.Main + ".js", "main of package.json"},
		{filepath.Join(m.Main, "index.js"), "main of package.json"}, {"index.js", "index.js"},
	} {
		if c.file != "" && isFile(filepath.Join(tree, c.file)) {
			return Command{Argv: []string{"node", filepath.Clean(c.file)}, Why: c.why}, nil
		}
	}
	f := gapless.Errorf(gapless.Invalid, "nothing says how the app is started: no start script in package.json, no server.js, no main, no index.js")
	if m.Main != "" {
		f = gapless.Errorf(gapless.Invalid, "package.json names %q as main, but the release has no such file", m.Main).
			WithHint("if it is built, set build; or write run: node <file> in gapless.yaml")
		return Command{}, f
	}
	return Command{}, f.WithHint(`add "start": "node <file>" to the scripts of package.json, or write run: node <file> in gapless.yaml`)
}

// NeedsNode reports whether cmd starts node or one of its package managers.
func NeedsNode(cmd Command) bool {
	if len(cmd.Argv) == 0 {
		return false
	}
	if cmd.Shell {
		return nodeWords.MatchString(cmd.Argv[len(cmd.Argv)-1])
	}
	return nodeWords.MatchString(filepath.Base(cmd.Argv[0])) || strings.HasPrefix(cmd.Argv[0], binDir)
}

var nodeWords = regexp.MustCompile(`(^|[^A-Za-z0-9_])(node|npm|npx|yarn|pnpm|node_modules)($|[^A-Za-z0-9_])`)

const (
	binDir   = "node_modules/.bin/"
	maxDepth = 10 // of scripts that call scripts
)

type resolver struct {
	tree string
	pkg  manifest
}

// line resolves one command line.
func (r resolver) line(text string, depth int) (Command, error) {
	segments, err := split(text)
	if err != nil {
		return Command{}, gapless.Errorf(gapless.Invalid, "the command %q cannot be read: %w", text, err)
	}
	if len(segments) == 0 {
		return Command{}, gapless.Errorf(gapless.Invalid, "the command %q is empty", text)
	}
	if len(segments) == 1 && (segments[0].op == "" || segments[0].op == ";") {
		return r.simple(strings.TrimSuffix(strings.TrimSpace(text), ";"), segments[0].words, depth)
	}
	return r.list(text, segments, depth)
}

// list resolves several commands joined by operators: a shell runs them, and
// becomes the last one if that is what it would wait for anyway.
func (r resolver) list(text string, segments []segment, depth int) (Command, error) {
	last := segments[len(segments)-1]
	moved := false
	for _, s := range segments[:len(segments)-1] {
		if s.op != "&&" && s.op != ";" || len(s.words) == 0 {
			return r.shell(text), nil
		}
		first := s.words[0].text
		if keywords[first] || slices.ContainsFunc(s.words, heredoc) {
			return r.shell(text), nil
		}
		moved = moved || first == "cd" || first == "pushd"
	}
	if last.op != "" && last.op != ";" || len(last.words) == 0 {
		return r.shell(text), nil
	}
	tail := strings.TrimSuffix(strings.TrimSpace(text[last.start:]), ";")
	if !moved { // elsewhere, names and scripts mean other things
		cmd, err := r.simple(tail, last.words, depth)
		if err != nil {
			return Command{}, err
		}
		return r.shell(text[:last.start] + asTail(cmd)), nil
	}
	return r.shell(text[:last.start] + execTail(tail, last.words)), nil
}

func heredoc(w word) bool { return w.redirect && strings.Contains(w.text, "<<") }

// simple resolves one command without operators.
func (r resolver) simple(text string, words []word, depth int) (Command, error) {
	env := map[string]string{}
	rest := words
	for len(rest) > 0 && (rest[0].assign > 0 || rest[0].text == "cross-env") && !rest[0].shell {
		if i := rest[0].assign; i > 0 {
			env[rest[0].text[:i]] = rest[0].text[i+1:]
		}
		rest = rest[1:]
	}
	if len(rest) > 1 && rest[0].raw == "exec" {
		rest = rest[1:]
	}
	if len(rest) == 0 {
		return Command{}, gapless.Errorf(gapless.Invalid, "the command %q only sets variables", text).WithHint("write what to start behind them")
	}
	cmd, ok, err := r.manager(rest, depth)
	if err != nil {
		return Command{}, err
	}
	if ok {
		merged := maps.Clone(env)
		maps.Copy(merged, cmd.Env) // the script's own setting is the inner one
		if cmd.Env = merged; len(merged) == 0 {
			cmd.Env = nil
		}
		return cmd, nil
	}
	if slices.ContainsFunc(words, func(w word) bool { return w.shell }) || keywords[rest[0].text] || builtins[rest[0].text] {
		return r.shell(execTail(text, words)), nil
	}
	argv := make([]string, len(rest))
	for i, w := range rest {
		argv[i] = w.text
	}
	if len(env) == 0 {
		env = nil
	}
	return Command{Argv: r.program(argv), Env: env}, nil
}

// program puts node in front of what node runs.
func (r resolver) program(argv []string) []string {
	name, args := argv[0], argv[1:]
	switch {
	case name == "node":
		return argv
	case strings.ContainsAny(name, "$"), filepath.IsAbs(name):
		return argv
	case !strings.Contains(name, "/") && isFile(filepath.Join(r.tree, binDir, name)):
		name = binDir + name
	case isScript(name) && !hasShebang(filepath.Join(r.tree, name)):
		return append([]string{"node", name}, args...)
	case !strings.Contains(name, "/") && !isScript(name):
		return argv
	}
	if script := nodeScript(r.tree, name); script != nil {
		return slices.Concat([]string{"node"}, script, args)
	}
	if !strings.Contains(name, "/") {
		name = "./" + name
	}
	return append([]string{name}, args...)
}

func hasShebang(path string) bool { return strings.HasPrefix(readHead(path), "#!") }

// shell is a command that /bin/sh runs, with the tree's own programs in PATH.
func (r resolver) shell(text string) Command {
	if isDir(filepath.Join(r.tree, binDir)) && !strings.HasPrefix(text, binPath) {
		text = binPath + text
	}
	return Command{Argv: []string{"/bin/sh", "-c", text}, Shell: true}
}

const binPath = `PATH="$PWD/node_modules/.bin:$PATH"; `

// asTail writes a resolved command as the last one of a shell line.
func asTail(c Command) string {
	env := ""
	for _, k := range slices.Sorted(maps.Keys(c.Env)) {
		env += fmt.Sprintf(" %s=%s", k, shellQuote(c.Env[k]))
	}
	switch {
	case c.Shell && env != "":
		return "{ export" + env + "; " + strings.TrimPrefix(c.Argv[2], binPath) + "\n}"
	case c.Shell:
		return "{ " + strings.TrimPrefix(c.Argv[2], binPath) + "\n}"
	}
	tail := "exec"
	if env != "" {
		tail += " env" + env
	}
	for _, a := range c.Argv {
		tail += " " + shellQuote(a)
	}
	return tail
}

// execTail lets a simple command replace the shell, unless it is the shell's own.
func execTail(text string, words []word) string {
	i := 0
	var names []string
	for i < len(words) && words[i].assign > 0 {
		names = append(names, words[i].text[:words[i].assign])
		i++
	}
	if i == len(words) || words[i].redirect || words[i].text == "exec" || keywords[words[i].text] || builtins[words[i].text] {
		return text
	}
	if i == 0 {
		return "exec " + text
	}
	// Shells disagree on NAME=value before exec.
	return "{ " + raw(words[:i]) + "; export " + strings.Join(names, " ") + "; exec " + raw(words[i:]) + "\n}"
}

var keywords = wordSet("if then else elif fi for while until do done case esac { } ! function select time")

var builtins = wordSet("cd . source eval exec exit export set unset ulimit umask trap wait : alias read return shift command type hash")

func wordSet(s string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(s) {
		set[w] = true
	}
	return set
}
