package supervise

import (
	"fmt"
	"time"

	"github.com/robfig/cron/v3"

	"gapless"
)

// parseCron reads five fields in local time, or @daily, @every 10m and the like.
func parseCron(proc gapless.Process) (cron.Schedule, error) {
	schedule, err := cron.ParseStandard(proc.Cron)
	if err != nil {
		return nil, gapless.Errorf(gapless.Invalid, "process %s: cron %q: %w", proc.Name, proc.Cron, err).
			WithHint(`write five fields: minute hour day month weekday, e.g. "0 3 * * *"`)
	}
	if schedule.Next(time.Now()).IsZero() {
		return nil, gapless.Errorf(gapless.Invalid, "process %s: cron %q names a time that never comes", proc.Name, proc.Cron)
	}
	return schedule, nil
}

// liveCron is the life of a process with a schedule: Ready all the time, with
// a process at the times of the schedule only. A run still going on at the
// next time makes that one be skipped; times that pass while nobody supervises
// are not made up for. p is a run that was adopted, or nil.
func (i *instance) liveCron(p *process) {
	schedule, err := parseCron(i.proc)
	if err == nil && p == nil {
		err = i.tryRecipe()
	}
	if err != nil {
		i.startErr = err
		i.fail(err)
		close(i.launched)
		select {
		case <-i.stop:
			i.stopped(nil)
		case <-i.s.ctx.Done():
		}
		return
	}
	next := schedule.Next(time.Now())
	trouble := "" // of the last run
	show := func() {
		reason := "next run at " + next.Format("2006-01-02 15:04:05")
		switch {
		case p != nil:
			reason = "running since " + p.started.Format("15:04:05") + "; " + reason
		case trouble != "":
			reason = trouble + "; " + reason
		}
		i.set(func(v *gapless.Instance) {
			v.State, v.Reason, v.PID = gapless.Ready, reason, 0
			if p != nil {
				v.PID = p.pid
			}
		})
	}
	show()
	close(i.launched)
	for {
		var exited chan gapless.Exit
		var lost chan why
		if p != nil {
			exited, lost = p.exited, p.lost
		}
		// In short waits, so that a clock that is set is noticed.
		timer := time.NewTimer(min(time.Until(next), time.Minute))
		select {
		case exit := <-exited:
			i.cleanUp(p, &exit)
			p.forget()
			after := exit.At.Sub(p.started)
			p, trouble = nil, ""
			if exit.Code != 0 {
				trouble = "the last run " + whyExited(exit, after, i.proc.Memory).reason
				i.s.cfg.Log.Warn("a scheduled run failed", "instance", i.id, "exit", exit.String())
			}
			i.set(func(v *gapless.Instance) { v.Exit, v.Memory = &exit, 0 })
		case <-lost:
		case <-timer.C:
			if time.Now().Before(next) {
				continue
			}
			at := next
			next = schedule.Next(time.Now())
			if p != nil {
				i.s.cfg.Log.Warn("a scheduled run is skipped: the one before still goes on", "instance", i.id, "since", p.started)
				break
			}
			if p, err = i.launch(at.Unix()); err != nil {
				p = nil
				if i.over(err) {
					return
				}
				trouble = fmt.Sprintf("the last run failed: %v", err)
				i.s.cfg.Log.Warn("a scheduled run could not start", "instance", i.id, "err", err, "hint", gapless.HintOf(err))
			}
		case <-i.stop:
			timer.Stop()
			i.set(func(v *gapless.Instance) { v.Reason = "" })
			if p != nil {
				i.end(p)
			} else {
				i.stopped(nil)
			}
			return
		case <-i.s.ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
		show()
	}
}

// tryRecipe finds out at once what would fail only at night.
func (i *instance) tryRecipe() error {
	u, err := LookupUser(i.rel.Spec.User)
	if err != nil {
		return err
	}
	_, err = makeRecipe(i.observe(), i.rel, i.values, u, "", i.s.cfg.TZ)
	return err
}
