package supervise

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gapless"
)

// standardPath is searched after the runtime's own directory and the release's
// node_modules/.bin; it does not depend on who started gapless.
const standardPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// recipe is how one process of an instance is started: what it runs, where,
// and with which environment. Making one has no side effects.
type recipe struct {
	argv []string
	env  []string
	dir  string
}

// makeRecipe puts together the start recipe of one process. Port is what PORT
// says, "" where it serves no HTTP; tz "" that the system sets no TZ.
func makeRecipe(in gapless.Instance, rel *gapless.Release, values map[string]string, u *User, port, tz string) (recipe, error) {
	proc := rel.Spec.Process(in.Process)
	argv := rel.Commands[in.Process]
	if proc == nil || len(argv) == 0 {
		return recipe{}, gapless.Errorf(gapless.NotFound, "release %s of %s has no process %s", rel.Name, rel.App, in.Process)
	}
	env := environment(in, rel, proc, values, u, port, tz)
	argv, err := expandArgv(argv, env)
	if err != nil {
		return recipe{}, err
	}
	if argv[0], err = program(argv[0], rel, env["PATH"]); err != nil {
		return recipe{}, err
	}
	list := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return recipe{argv: argv, env: list, dir: rel.Tree}, nil
}

// environment is a small fixed base, then the app's values, the process's
// values, and last what gapless itself says. The environment of the daemon
// or of the person who started it has no part in it.
func environment(in gapless.Instance, rel *gapless.Release, proc *gapless.Process, values map[string]string, u *User, port, tz string) map[string]string {
	path := filepath.Join(rel.Tree, "node_modules", ".bin") + ":" + standardPath
	if rel.Runtime.Path != "" {
		path = filepath.Dir(rel.Runtime.Path) + ":" + path
	}
	env := map[string]string{
		"PATH":     path,
		"HOME":     u.Home,
		"USER":     u.Name,
		"LOGNAME":  u.Name,
		"LANG":     "C.UTF-8",
		"TMPDIR":   "/tmp",
		"NODE_ENV": "production",
	}
	if tz != "" {
		env["TZ"] = tz
	}
	maps.Copy(env, rel.Spec.Env)
	maps.Copy(env, values)
	maps.Copy(env, proc.Env)
	if port != "" {
		env["PORT"] = port
	}
	env["GAPLESS_APP"] = in.App
	env["GAPLESS_RELEASE"] = in.Release
	env["GAPLESS_INSTANCE"] = in.ID
	env["GAPLESS_PROCESS"] = in.Process
	return env
}

// expandArgv expands variables in every word of a command. The script of
// `sh -c script` is left alone: the shell expands it, with its own quoting.
func expandArgv(argv []string, env map[string]string) ([]string, error) {
	out := slices.Clone(argv)
	if len(argv) > 2 && argv[1] == "-c" && slices.Contains([]string{"sh", "bash", "dash", "ash", "zsh"}, filepath.Base(argv[0])) {
		return out, nil
	}
	for i, word := range argv {
		s, missing := expand(word, env)
		if missing != "" {
			return nil, gapless.Errorf(gapless.Invalid, "the command %q uses $%s, which is not set", strings.Join(argv, " "), missing).
				WithHint("set %s under env: in gapless.yaml, or write $$%s for a plain dollar sign", missing, missing)
		}
		out[i] = s
	}
	return out, nil
}

// expand replaces $NAME and ${NAME} in s; "$$" is a dollar sign, and a dollar
// sign before anything else stays. missing is the first name not in env.
func expand(s string, env map[string]string) (out, missing string) {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 {
			b.WriteString(s)
			return b.String(), missing
		}
		b.WriteString(s[:i])
		s = s[i+1:]
		if strings.HasPrefix(s, "$") {
			b.WriteByte('$')
			s = s[1:]
			continue
		}
		braces := strings.HasPrefix(s, "{")
		rest := strings.TrimPrefix(s, "{")
		n := nameLen(rest)
		if n == 0 || braces && !strings.HasPrefix(rest[n:], "}") {
			b.WriteByte('$')
			continue
		}
		value, ok := env[rest[:n]]
		if !ok && missing == "" {
			missing = rest[:n]
		}
		b.WriteString(value)
		if s = rest[n:]; braces {
			s = s[1:]
		}
	}
}

// nameLen is the length of the variable name that s starts with.
func nameLen(s string) int {
	n := 0
	for n < len(s) {
		c := s[n]
		letter := c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (n == 0 || c < '0' || c > '9') {
			break
		}
		n++
	}
	return n
}

// program resolves the first word of a command to the absolute path of an
// executable file: the release's own runtime for node, a file of the tree for
// a relative path, else the first match in path.
func program(word string, rel *gapless.Release, path string) (string, error) {
	if rt := rel.Runtime; rt.Path != "" && (word == "node" || filepath.IsAbs(word) && filepath.Base(word) == "node") {
		if !executable(rt.Path) {
			return "", gapless.Errorf(gapless.NotFound, "the %s %s that release %s was made with is gone: %s", rt.Name, rt.Version, rel.Name, rt.Path).
				WithHint("install that version again, or deploy to make a release with the one that is there now")
		}
		return rt.Path, nil
	}
	if strings.ContainsRune(word, '/') {
		file := word
		if !filepath.IsAbs(file) {
			file = filepath.Join(rel.Tree, file)
		}
		st, err := os.Stat(file)
		switch {
		case err != nil:
			return "", gapless.Errorf(gapless.NotFound, "cannot start %s: there is no file %s", word, file).
				WithHint("check run: in gapless.yaml; the path counts from the directory that is deployed")
		case st.IsDir():
			return "", gapless.Errorf(gapless.Invalid, "cannot start %s: it is a directory", word)
		case st.Mode()&0o111 == 0:
			return "", gapless.Errorf(gapless.Invalid, "cannot start %s: the file is not executable", word).
				WithHint("chmod +x %s, or name its interpreter: e.g. `run: node %s`", word, word)
		}
		return file, nil
	}
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(rel.Tree, dir)
		}
		if file := filepath.Join(dir, word); executable(file) {
			return file, nil
		}
	}
	return "", gapless.Errorf(gapless.NotFound, "cannot start %s: there is no such program in PATH", word).
		WithHint("install %s, or write its path into run:; instances get PATH=%s", word, path)
}

func executable(file string) bool {
	st, err := os.Stat(file)
	return err == nil && !st.IsDir() && st.Mode()&0o111 != 0
}
