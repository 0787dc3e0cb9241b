package config

import (
	"slices"
	"strings"

	"gapless"

	"github.com/goccy/go-yaml/ast"
)

// processList reads the processes beside the web process.
func (s *settings) processList(r *reader) setter {
	return func(n ast.Node) {
		r.each(n, "processes", func(name string, at ast.MapKeyNode, value ast.Node) {
			if name == gapless.WebProcess {
				r.fail(at, faultf("the web process is not listed under processes").withHint("run, instances, memory, cpu and env of it are top-level keys"))
				return
			}
			if f := checkName(name); f != nil {
				r.fail(at, f)
				return
			}
			s.process(r, name, at, value)
		})
		slices.SortFunc(s.processes, func(a, b gapless.Process) int { return strings.Compare(a.Name, b.Name) })
	}
}

// process reads one entry of processes: a map, or a command alone.
func (s *settings) process(r *reader, name string, at ast.MapKeyNode, value ast.Node) {
	p := gapless.Process{Name: name, Instances: 1}
	keys := s.processKeys(r, &p)
	given := map[string]ast.Node{}
	for key, set := range keys {
		keys[key] = func(n ast.Node) { given[key] = n; set(n) }
	}
	if _, ok := value.(*ast.StringNode); ok {
		keys["run"](value)
	} else {
		if _, empty := value.(*ast.NullNode); !empty {
			if _, ok := r.pairs(value, "process "+name); !ok {
				return
			}
			r.object(value, "process "+name, keys)
		}
		if given["run"] == nil {
			r.fail(at, faultf("process %s has no run", name).withHint("write %s: { run: node %s.js }", name, name))
		}
	}
	switch n := given["instances"]; {
	case n == nil:
	case p.Singleton && p.Instances > 1:
		r.fail(n, faultf("process %s is a singleton and cannot have %d instances", name, p.Instances).withHint("remove one of the two keys"))
	case p.Cron != "" && p.Instances > 1:
		r.fail(n, faultf("process %s runs by a schedule, once per tick, and cannot have %d instances", name, p.Instances).withHint("remove instances"))
	}
	s.processes = append(s.processes, p)
}

func (s *settings) processKeys(r *reader, p *gapless.Process) map[string]setter {
	return map[string]setter{
		"run":       r.str(&p.Run, "run", checkRun),
		"instances": s.instances(r, &p.Instances),
		"singleton": r.boolean(&p.Singleton, "singleton"),
		"cron":      r.str(&p.Cron, "cron", checkCron),
		"memory":    r.memory(&p.Memory),
		"cpu":       r.cpu(&p.CPU),
		"env":       r.env(&p.Env, "env"),
	}
}
