package config

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"

	"gapless"
)

// Input is what a person gave on the command line. Flags win over the file.
type Input struct {
	Dir       string            // where the person stands
	File      string            // configuration file; "": Dir/gapless.yaml if there is one
	Args      []string          // ["server.js"], or after -- a command line; none: the file or package.json says
	Exact     bool              // Args is a command line that was given after --
	Name      string            // "": from the file, package.json or the directory
	Listen    []string          // replaces listen
	Instances int               // of the web process; 0: not given
	Env       map[string]string // over env
	EnvFiles  []string          // after env_file, relative to Dir
	Earlier   *gapless.Flags    // of the last time: used where neither the flags now nor the file say anything
}

// recall fills in what was given the last time.
func (in *Input) recall(s *settings) {
	was := in.Earlier
	if was == nil {
		was = &gapless.Flags{}
	}
	if len(in.Args) == 0 && !in.Exact && !s.given["run"] {
		in.Args, in.Exact = was.Args, was.Exact
	}
	if in.Name == "" && !s.given["app"] {
		in.Name = was.Name
	}
	if len(in.Listen) == 0 && !s.given["listen"] {
		in.Listen = was.Listen
	}
	if in.Instances == 0 && !s.given["instances"] {
		in.Instances = was.Instances
	}
	if len(in.EnvFiles) == 0 && !s.given["env_file"] {
		in.EnvFiles = was.EnvFiles
	}
	f := gapless.Flags{Name: in.Name, Args: in.Args, Exact: in.Exact, Listen: in.Listen,
		Instances: in.Instances, EnvFiles: in.EnvFiles, Env: slices.Sorted(maps.Keys(in.Env))}
	for _, name := range was.Env {
		if _, again := in.Env[name]; !again {
			f.Env = append(f.Env, name)
		}
	}
	if !reflect.DeepEqual(f, gapless.Flags{}) {
		s.app.Flags = &f
	}
}

// Load reads and checks everything that configures one app. The error is a
// *gapless.Error of code Invalid whose message holds every problem at once.
func Load(in Input) (*gapless.App, error) {
	// GOMAXPROCS and not the machine's processors: it respects a container's limit.
	return load(in, runtime.GOMAXPROCS(0))
}

func load(in Input, cpus int) (*gapless.App, error) {
	s, _, err := settle(in, cpus)
	if err != nil {
		return nil, err
	}
	return &s.app, nil
}

// settle is load with what Explain needs beside the app: where it was
// written, and the input with what was given the last time.
func settle(in Input, cpus int) (*settings, Input, error) {
	if !in.Exact && len(in.Args) == 1 && isDir(resolve(in.Dir, in.Args[0])) { // gapless up ./shop
		in.Dir, in.Args = resolve(in.Dir, in.Args[0]), nil
	}
	dir, err := filepath.Abs(in.Dir)
	if err != nil {
		return nil, in, gapless.Errorf(gapless.Invalid, "the directory %s cannot be found: %w", in.Dir, err)
	}
	if !isDir(dir) {
		return nil, in, gapless.Errorf(gapless.Invalid, "%s is not a directory", dir)
	}

	p := &problems{}
	s := defaults(dir, cpus)
	if name, data := configFile(in.File, dir, p); data != nil {
		s.read(name, data, p)
	}
	in.recall(s)
	pkg := readManifest(dir, p)
	s.override(in, p)
	s.checkPlan(p)
	s.secure(in, p)
	s.command(in, p)
	s.environment(p)
	if len(in.Args) == 0 && (s.webless || s.web.Run == "" && !s.given["run"] && !pkg.starts(dir)) {
		s.withoutWeb(in, p)
	}
	if err := p.err(); err != nil {
		return nil, in, err
	}

	if s.app.Name == "" {
		s.app.Name = defaultName(pkg, dir)
	}
	if !s.built && len(in.Args) == 0 { // a command given by hand is not preceded by a build
		s.app.Build = pkg.build(dir)
	}
	s.app.Path = normalPath(s.app.Path)
	if s.web.Name != "" {
		s.app.Processes = append(s.app.Processes, s.web)
	}
	s.app.Processes = append(s.app.Processes, s.processes...)
	return s, in, nil
}

// configFile returns the content of the file and what messages call it; nil if there is none.
func configFile(file, dir string, p *problems) (string, []byte) {
	name, path := FileName, filepath.Join(dir, FileName)
	if file != "" {
		name, path = file, resolve(dir, file)
	} else if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		for _, other := range []string{"gapless.yml", "gapless.json"} {
			if isFile(filepath.Join(dir, other)) {
				p.add(place{file: other}, faultf("the configuration file is called %s", FileName).withHint("mv %s %s", other, FileName))
			}
		}
		return name, nil
	}
	data, f := readFile(path, maxYAML)
	if f != nil {
		p.add(place{file: name}, f)
		return name, nil
	}
	return name, data
}

// command makes the web process's run of what was given on the command line.
func (s *settings) command(in Input, p *problems) {
	if len(in.Args) == 0 {
		if in.Exact {
			p.add(place{file: "--"}, faultf("no command follows").withHint("gapless up -- ./anything --with flags"))
		}
		return
	}
	args := append([]string(nil), in.Args...)
	for _, a := range args {
		if strings.ContainsRune(a, 0) {
			p.add(place{file: "arguments"}, faultf("%s holds a NUL byte", quote(a)))
			return
		}
	}
	if args[0] == "" {
		p.add(place{file: "arguments"}, faultf("the command is empty"))
		return
	}
	if !in.Exact {
		script, f := scriptIn(s.app.Source, args[0])
		if f != nil {
			f.hint = "a file of the app, as in gapless up server.js; any other command goes after --: gapless up -- " + strings.Join(args, " ")
			p.add(place{file: "arguments"}, f)
			return
		}
		args[0] = script
	}
	s.web.Run = commandLine(args)
}

// scriptIn returns the file as a path relative to dir; it must exist there,
// because the release is a copy of dir.
func scriptIn(dir, file string) (string, *fault) {
	path := resolve(dir, file)
	if !isFile(path) {
		return "", faultf("%s is not a file in %s", quote(file), dir)
	}
	rel, err := filepath.Rel(dir, path)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", faultf("%s is not inside %s, which is what a release is made of", quote(file), dir)
	}
	if isExecutable(path) && !isScript(path) {
		rel = "./" + rel
	}
	return rel, nil
}

func isScript(path string) bool {
	switch filepath.Ext(path) {
	case ".js", ".cjs", ".mjs", ".ts", ".cts", ".mts":
		return true
	}
	return false
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&0o111 != 0
}

// commandLine writes arguments as a run command: quoted where needed, with
// $NAME left to be expanded, as it is in run.
func commandLine(args []string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=:,./@%^"
	out := make([]string, len(args))
	leading := true // NAME=value before the command sets a variable, as in a shell
	for i, a := range args {
		if name, value, ok := strings.Cut(a, "="); leading && ok && envNameForm.MatchString(name) {
			out[i] = name + "=" + commandLine([]string{value})
			continue
		}
		leading = false
		out[i] = a
		if a == "" || strings.Trim(a, plain) != "" || strings.Contains(a, "=") {
			out[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", "$(", `\$(`).Replace(a) + `"`
		}
	}
	return strings.Join(out, " ")
}

// withoutWeb is for a directory that says nothing about a web process: fine
// if there are other processes, else there is no app here.
func (s *settings) withoutWeb(in Input, p *problems) {
	if len(s.processes) == 0 {
		if len(p.list) > 0 { // a broken file may be why nothing was found
			return
		}
		p.add(place{file: s.app.Source}, faultf("no app here: looked for %s with run, package.json with a start script or main, and server.js", FileName).
			withHint("gapless up             in the app's directory\n        gapless up server.js   to start a file\n        gapless up -- ./anything --with flags"))
		return
	}
	for _, at := range s.webKeys {
		p.add(at, faultf("this belongs to a web process, but there is none: no run, no start script, no server.js").withHint("add run, or remove the line"))
	}
	if in.Instances > 0 || len(in.Listen) > 0 {
		p.add(place{file: "arguments"}, faultf("--listen and --instances are of a web process, but there is none"))
	}
	s.web, s.app.Listen = gapless.Process{}, nil
}

// defaultName is the package's name without its scope, else the directory's.
func defaultName(pkg *manifest, dir string) string {
	if pkg != nil {
		name := pkg.Name
		if i := strings.LastIndexByte(name, '/'); i >= 0 {
			name = name[i+1:]
		}
		if l := label(name); l != "" {
			return l
		}
	}
	if l := label(filepath.Base(dir)); l != "" {
		return l
	}
	return "app"
}

// normalPath drops the slash at the end of a prefix.
func normalPath(p string) string {
	if p == "/" {
		return p
	}
	return strings.TrimSuffix(p, "/")
}

func resolve(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
