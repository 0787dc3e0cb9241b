package config

import (
	"maps"
	"slices"
	"strings"

	"gapless"

	"github.com/goccy/go-yaml/ast"
)

// placed is a step of the user's plan and where it was written.
type placed struct {
	gapless.Step
	at place
}

// laterSteps are steps of the design that no engine carries out yet.
var laterSteps = []string{"build", "test", "push", "expand", "contract"}

// stepDrain is accepted at the end of a plan: the old set is drained there anyway.
const stepDrain = "drain"

// steps reads the user's own plan: a list of words and of maps with one key.
func (s *settings) steps(r *reader) setter {
	return func(n ast.Node) {
		list, ok := n.(*ast.SequenceNode)
		switch {
		case !ok && !r.unsupported(n):
			r.fail(n, faultf("steps is %s, but must be a list", kind(n)).withHint("write steps: [{start: 1}, warm, {weight: 5%%}, {judge: 2m}, promote]"))
			return
		case !ok:
			return
		case len(list.Values) == 0:
			r.fail(n, faultf("steps is an empty list").withHint("remove the line to get the plan of the strategy"))
			return
		}
		for _, v := range list.Values {
			s.step(r, v)
		}
	}
}

// step reads one step: a word, or a map with the word as its one key.
func (s *settings) step(r *reader, n ast.Node) {
	if bare, ok := n.(*ast.StringNode); ok {
		s.addStep(r, bare.Value, n, nil)
		return
	}
	if _, empty := n.(*ast.NullNode); empty {
		r.fail(n, faultf("a step is missing after the dash"))
		return
	}
	pairs, ok := r.pairs(n, "a step")
	if !ok {
		return
	}
	if len(pairs) != 1 {
		r.fail(n, faultf("a step is a word or a map with one key, this has %d", len(pairs)).withHint("begin every step with its own dash"))
		return
	}
	value := pairs[0].Value
	if _, empty := value.(*ast.NullNode); empty {
		value = nil
	}
	s.addStep(r, pairs[0].Key.GetToken().Value, pairs[0].Key, value)
}

// addStep reads the value of a step; nil is no value.
func (s *settings) addStep(r *reader, word string, at ast.Node, value ast.Node) {
	step := placed{Step: gapless.Step{Kind: gapless.StepKind(word)}, at: r.at(at.GetToken())}
	kinds := s.stepKinds(r, &step.Step)
	known := slices.Sorted(maps.Keys(kinds))
	k, ok := kinds[word]
	switch {
	case slices.Contains(laterSteps, word):
		r.fail(at, faultf("step %s is not built yet in this version", word).withHint("known steps: %s", strings.Join(known, ", ")))
		return
	case !ok:
		f := faultf("unknown step %s", quote(word))
		if near := gapless.Nearest(word, known); near != "" {
			f = f.withHint("did you mean %s?", near)
		} else {
			f = f.withHint("known steps: %s", strings.Join(known, ", "))
		}
		r.fail(at, f)
		return
	case value == nil && k.example != "":
		r.fail(at, faultf("step %s needs a value", word).withHint("write %s: %s", word, k.example))
		return
	case value != nil && k.read == nil:
		r.fail(value, faultf("step %s takes no value", word).withHint("write - %s", word))
		return
	case value != nil:
		before := len(r.problems.list)
		k.read(value)
		if len(r.problems.list) > before {
			s.broken = true
		}
	}
	s.plan = append(s.plan, step)
}

// stepKind says how the value of a step is read; nil: it takes none. A step
// with an example needs one.
type stepKind struct {
	read    setter
	example string
}

func (s *settings) stepKinds(r *reader, step *gapless.Step) map[string]stepKind {
	return map[string]stepKind{
		"start":   {r.count(&step.N, "start"), "1"},
		"scale":   {r.count(&step.N, "scale"), "max"},
		"warm":    {},
		"preview": {},
		"weight":  {r.share(&step.Weight, "weight"), "5%"},
		"mirror":  {r.mirrorStep(step), ""},
		"judge":   {r.judgeStep(step, "judge"), ""},
		"ramp":    {r.judgeStep(step, "ramp"), ""},
		"pause":   {r.duration(&step.For, "pause", stepMin, stepMax), ""},
		"hook":    {r.hook(step), "./smoke.sh"},
		"promote": {},
		stepDrain: {},
		"bake":    {r.duration(&step.For, "bake", stepMin, bakeMax), "10m"},
		"keep":    {r.duration(&step.For, "keep", stepMin, stepMax), "10m"},
	}
}

// count reads a number of instances; max is -1.
func (r *reader) count(dst *int, what string) setter {
	return func(n ast.Node) {
		if t, ok := n.(*ast.StringNode); ok && t.Value == "max" {
			*dst = -1
			return
		}
		if t, ok := n.(*ast.StringNode); ok && !numberForm.MatchString(t.Value) {
			r.fail(n, faultf("%s is %s, but must be a number or max", what, quote(t.Value)).withHint("max is as many as the app has instances"))
			return
		}
		r.whole(dst, what, 1, 1000)(n)
	}
}

// share reads a share of traffic over 0.
func (r *reader) share(dst *float64, what string) setter {
	return func(n ast.Node) {
		text, ok := r.scalar(n, what)
		if !ok {
			return
		}
		v, f := parseShare(text)
		if f == nil && v == 0 {
			f = faultf("%s is 0, which gives nothing", what).withHint("write a share over 0, such as 5%%")
		}
		if f != nil {
			r.fail(n, f)
			return
		}
		*dst = v
	}
}

// judgeStep reads the value of a step that ends by a verdict or by the clock.
func (r *reader) judgeStep(step *gapless.Step, what string) setter {
	return func(n ast.Node) {
		switch n.(type) {
		case *ast.MappingNode, *ast.MappingValueNode:
			r.object(n, what, r.judgeStepKeys(step))
		default:
			r.within(&step.For)(n)
		}
	}
}

func (r *reader) judgeStepKeys(step *gapless.Step) map[string]setter {
	return map[string]setter{
		"within":       r.within(&step.For),
		"on_undecided": r.word(&step.OnUndecided, "on_undecided", undecided),
	}
}

func (r *reader) within(dst *gapless.Duration) setter {
	return r.duration(dst, "within", stepMin, stepMax)
}

func (r *reader) hook(step *gapless.Step) setter {
	return func(n ast.Node) {
		switch n.(type) {
		case *ast.MappingNode, *ast.MappingValueNode:
			r.object(n, "hook", r.hookKeys(step))
			if step.Run == "" {
				r.fail(n, faultf("hook has no run").withHint("write hook: { run: ./smoke.sh, on_resume: rerun }"))
			}
		default:
			r.str(&step.Run, "hook", checkRun)(n)
		}
	}
}

func (r *reader) hookKeys(step *gapless.Step) map[string]setter {
	return map[string]setter{
		"run":       r.str(&step.Run, "run", checkRun),
		"on_resume": r.word(&step.OnResume, "on_resume", []string{"rerun", "fail", "ask"}),
	}
}
