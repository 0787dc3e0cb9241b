package daemon

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/snapshot"
)

// environment is the content of a release's 0600 file: "" is for every
// process, the other keys are process names.
type environment map[string]map[string]string

// environmentOf puts together what the processes of a new release get.
func environmentOf(req api.DeployRequest) environment {
	env := environment{"": req.Env}
	for _, p := range req.App.Processes {
		env[p.Name] = p.Env
	}
	return env
}

// of merges what every process gets with what one process gets.
func (e environment) of(process string) map[string]string {
	out := map[string]string{}
	for _, part := range []string{"", process} {
		for k, v := range e[part] {
			out[k] = v
		}
	}
	return out
}

// setOwn sets a variable that stands before the command of a process; what
// the process's env says wins.
func setOwn(p *gapless.Process, name, value string) {
	if _, set := p.Env[name]; set {
		return
	}
	p.Env = maps.Clone(p.Env)
	if p.Env == nil {
		p.Env = map[string]string{}
	}
	p.Env[name] = value
}

// complete adds to a request what does not come from the app's directory:
// the values that were given with --env for the last release, and secrets.
// It returns the names of the secrets. A secret wins over a file, and over an
// --env of the past: that is forgotten. The request is the caller's own.
func (d *Daemon) complete(last *gapless.Release, req *api.DeployRequest) ([]string, error) {
	secrets, err := d.vault.secrets(req.App.Name)
	if err != nil {
		return nil, err
	}
	req.Env = maps.Clone(req.Env)
	if req.Env == nil {
		req.Env = map[string]string{}
	}
	if req.App.Flags != nil {
		flags := *req.App.Flags
		flags.Env = slices.DeleteFunc(slices.Clone(flags.Env), func(name string) bool { _, is := secrets[name]; return is })
		req.App.Flags = &flags
		if err := d.carryOver(last, flags.Env, req.Env); err != nil {
			return nil, err
		}
	}
	for name, s := range secrets {
		req.Env[name] = s.Value
	}
	return slices.Sorted(maps.Keys(secrets)), nil
}

// carryOver adds the values of variables that were given with --env for the
// last release and not again now.
func (d *Daemon) carryOver(last *gapless.Release, names []string, env map[string]string) error {
	if last == nil {
		return nil
	}
	var old environment
	for _, name := range names {
		if _, given := env[name]; given {
			continue
		}
		if old == nil {
			var err error
			if old, err = d.vault.environment(last); err != nil {
				return gapless.Errorf(gapless.Unavailable, "take over what was given with --env the last time: %w", err).
					WithHint("%s; to go on without: gapless deploy --forget, with all flags that are still meant", gapless.HintOf(err))
			}
		}
		if value, ok := old[""][name]; ok {
			env[name] = value
		}
	}
	return nil
}

// writeEnvironment writes a release's 0600 file, encrypted.
func (v *vault) writeEnvironment(rel *gapless.Release, env environment) error {
	data, err := json.Marshal(env)
	if err == nil {
		data, err = v.seal(data)
	}
	if err == nil {
		err = os.WriteFile(rel.EnvFile, data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("save the environment of %s: %w", rel.Name, err)
	}
	return nil
}

// environment reads a release's 0600 file.
func (v *vault) environment(rel *gapless.Release) (environment, error) {
	data, err := os.ReadFile(rel.EnvFile)
	if err == nil {
		data, err = v.open(data)
	}
	if err != nil {
		return nil, fmt.Errorf("read the environment of %s: %w", rel.Name, err)
	}
	var env environment
	if json.Unmarshal(data, &env) != nil { // its error could show a value
		return nil, fmt.Errorf("read the environment of %s: %s holds no JSON object", rel.Name, rel.EnvFile)
	}
	return env, nil
}

// noSecretArguments refuses commands that would get the value of a secret as
// an argument: everybody on the machine can see arguments.
func noSecretArguments(rel *gapless.Release) error {
	for _, process := range slices.Sorted(maps.Keys(rel.Commands)) {
		argv := rel.Commands[process]
		if len(argv) > 2 && argv[1] == "-c" {
			continue // a shell expands it; most of what it runs there is its own
		}
		for _, name := range rel.Secrets {
			for _, word := range argv {
				if uses(word, name) {
					return gapless.Errorf(gapless.Invalid, "the command of %s has $%s in it, which is a secret: everybody on this machine can see the arguments of a process", process, name).
						WithHint("let the program read %s from its environment, and take it out of run", name)
				}
			}
		}
	}
	return nil
}

// uses reports whether $name or ${name} would be expanded in a word.
func uses(word, name string) bool {
	for _, part := range strings.Split(strings.ReplaceAll(word, "$$", ""), "$")[1:] {
		if strings.HasPrefix(part, "{"+name+"}") {
			return true
		}
		if rest, ok := strings.CutPrefix(part, name); ok && (rest == "" || !strings.ContainsAny(rest[:1], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")) {
			return true
		}
	}
	return false
}

// shortest is the least length of a value that veil looks for: shorter ones
// stand in every text.
const shortest = 6

// veil replaces the values of secrets, and of variables that look like one,
// in what a program of the app printed before it goes to the journal. The
// app's own log keeps it.
func (e environment) veil(rel *gapless.Release, text string) string {
	for _, part := range slices.Sorted(maps.Keys(e)) {
		for _, name := range slices.Sorted(maps.Keys(e[part])) {
			value := e[part][name]
			if !slices.Contains(rel.Secrets, name) && !gapless.LooksSecret(name, value) {
				continue
			}
			for _, line := range append([]string{value}, strings.Split(value, "\n")...) {
				if line = strings.TrimSpace(line); len(line) >= shortest {
					text = strings.ReplaceAll(text, line, "["+name+"]")
				}
			}
		}
	}
	return text
}

// outlook says how the environment of a deploy differs from that of the
// release that serves: names, never values.
func (d *Daemon) outlook(last *gapless.Release, req api.DeployRequest, secrets []string) []string {
	had, err := d.vault.environment(last)
	if err != nil {
		return []string{"? the environment of " + last.Name + " cannot be read, it could not be compared"}
	}
	req.App.Processes = slices.Clone(req.App.Processes)
	for i := range req.App.Processes { // what stands before a command is part of it
		p := &req.App.Processes[i]
		if cmd, err := snapshot.Resolve(req.App.Source, p.Run); err == nil {
			for k, v := range cmd.Env {
				if cmd.Shell || !strings.Contains(v, "$") {
					setOwn(p, k, v)
				}
			}
		}
	}
	now := environmentOf(req)
	var out []string
	for _, process := range slices.Sorted(maps.Keys(now)) {
		if _, stays := had[process]; stays || process == "" {
			out = append(out, envChanges(process, had[process], now[process], last.Secrets, secrets)...)
		}
	}
	return out
}

// envChanges tells names only, never values.
func envChanges(process string, before, after map[string]string, was, is []string) []string {
	of := ""
	if process != "" {
		of = " of " + process
		was, is = nil, nil
	}
	word := func(name string, secrets []string) string {
		if slices.Contains(secrets, name) {
			return "secret"
		}
		return "variable"
	}
	var out []string
	for name := range before {
		if _, stays := after[name]; !stays {
			out = append(out, word(name, was)+" "+name+of+" goes")
		}
	}
	for name, value := range after {
		old, had := before[name]
		then, now := word(name, was), word(name, is)
		switch {
		case !had:
			out = append(out, "new "+now+" "+name+of)
		case then != now:
			out = append(out, then+" "+name+" becomes a "+now)
		case old != value:
			out = append(out, now+" "+name+of+" changes")
		}
	}
	slices.Sort(out)
	return out
}
