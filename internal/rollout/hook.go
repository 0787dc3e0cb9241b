package rollout

import (
	"fmt"

	"gapless"
)

// What happens to a hook that ran when the daemon died: it cannot be known
// whether it ended.
const (
	OnResumeRerun = "rerun"
	OnResumeFail  = "fail"
	OnResumeAsk   = "ask"
)

// hooked runs the hook of a step once and reports whether it ended well.
func (d *decision) hooked(step gapless.Step) bool {
	r := d.s.Rollout
	key := fmt.Sprintf("%s/%d", r.ID, r.Cursor)
	state, known := d.obs.Hooks[key]
	switch {
	case known && !state.Done:
		return false
	case known && state.OK:
		d.s.Hook = ""
		d.note("", "hook", "", "hook passed: %s", step.Run)
		return true
	case known:
		return d.unhooked(fmt.Sprintf("hook failed: %s: %s", step.Run, state.Output), "")
	case d.s.Hook == key && step.OnResume == OnResumeAsk:
		d.wait("the daemon died while the hook ran: %s; resume if it did its work, else abort", step.Run)
		return false
	case d.s.Hook == key && step.OnResume != OnResumeRerun:
		return d.unhooked("the daemon died while the hook ran: "+step.Run, "set on_resume: rerun if it may run twice")
	}
	d.s.Hook = key
	d.note("", "hook", "", "running hook: %s", step.Run)
	d.act(Action{Kind: ActHook, Key: key, Command: step.Run, Instance: gapless.Instance{App: d.s.App, Release: r.To}})
	return false
}

// unhooked turns back; once the candidate is promoted it only says what went wrong.
func (d *decision) unhooked(reason, hint string) (done bool) {
	if d.s.promoted() {
		d.s.Hook = ""
		d.note("error", "hook", "", "%s; %s serves already", reason, d.s.Rollout.To)
		return true
	}
	d.failed(reason, hint)
	return false
}
