package supervise

import (
	"maps"
	"slices"

	"gapless"
)

// Command is a command that is no process of an app but runs where one does:
// in the tree of its release, with its environment and as its user.
type Command struct {
	Argv []string // empty where none was asked for; Argv[0] is an absolute path
	Env  []string
	Dir  string
	User *User // nil: the user that gapless runs as
	Log  Log   // without a label
}

// Command says how argv runs beside the instances of process. Port is what
// PORT says, "" for none. It has no side effects but the directory of the log.
func (s *Supervisor) Command(rel *gapless.Release, process string, values map[string]string, port string, argv []string) (Command, error) {
	proc := rel.Spec.Process(process)
	if proc == nil {
		return Command{}, gapless.Errorf(gapless.NotFound, "release %s of %s has no process %s", rel.Name, rel.App, process)
	}
	u, err := LookupUser(rel.Spec.User)
	if err != nil {
		return Command{}, err
	}
	c := Command{Dir: rel.Tree}
	if rel.Spec.User != "" {
		c.User = u
	}
	env := environment(gapless.Instance{App: rel.App, Release: rel.Name, Process: process}, rel, proc, values, u, port, s.cfg.TZ)
	delete(env, "GAPLESS_INSTANCE") // keeper would take it for a part of that instance
	for _, name := range slices.Sorted(maps.Keys(env)) {
		c.Env = append(c.Env, name+"="+env[name])
	}
	if len(argv) > 0 {
		c.Argv = slices.Clone(argv)
		if c.Argv[0], err = program(argv[0], rel, env["PATH"]); err != nil {
			return Command{}, err
		}
	}
	logs := rel.Spec.Logs
	path, err := s.logFile(rel.App)
	c.Log = Log{Path: path, MaxSize: logs.MaxSize, MaxAge: logs.MaxAge.Std(), Keep: logs.Keep}
	return c, err
}
