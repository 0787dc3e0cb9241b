package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"gapless"
	"gapless/internal/alert"
	"gapless/internal/api"
	"gapless/internal/notify"
	"gapless/internal/rollout"
)

// alerts are those that fire. The book is in the store under alertsNote.
type alerts struct {
	obeying sync.Mutex        // one at a time, so that nothing is done twice
	waiting atomic.Bool       // somebody who was heard waits for that, and will see all of the book
	refused map[string]string // by alert and rollout: why the last try to obey failed; obeying is held

	mu   sync.Mutex
	book alert.Book
}

const alertsNote = "alerts"

// loadAlerts reads what fired when the last daemon ended.
func (d *Daemon) loadAlerts(ctx context.Context) error {
	err := d.store.Note(ctx, alertsNote, &d.alerts.book)
	if gapless.CodeOf(err) == gapless.NotFound {
		return nil
	}
	return err
}

// keepAlerts changes the book: in the store first. A full disk keeps no alert
// from ending a rollout, so what cannot be saved holds until this daemon ends.
func (d *Daemon) keepAlerts(ctx context.Context, f func(alert.Book) (alert.Book, error)) error {
	d.alerts.mu.Lock()
	defer d.alerts.mu.Unlock()
	next, err := f(d.alerts.book)
	if err != nil {
		return err
	}
	if err := d.store.SetNote(context.WithoutCancel(ctx), alertsNote, next); err != nil {
		d.log.Error("alerts are not saved", "err", err)
	}
	d.alerts.book = next
	return nil
}

func (d *Daemon) presentAlerts() alert.Book {
	d.alerts.mu.Lock()
	defer d.alerts.mu.Unlock()
	return d.alerts.book
}

// alertPolicy is that of the release that serves.
func (d *Daemon) alertPolicy(app string, s rollout.State) gapless.AlertPolicy {
	if rel := d.lastRelease(s); rel != nil {
		return rel.Spec.Alerts
	}
	return gapless.AlertPolicy{}
}

// HearAlerts implements api.Service.
func (d *Daemon) HearAlerts(ctx context.Context, w gapless.AlertWebhook) (api.Heard, error) {
	if err := alert.Check(w); err != nil {
		return api.Heard{}, err
	}
	policies := map[string]gapless.AlertPolicy{}
	for _, a := range d.allApps() {
		policies[a.name] = d.alertPolicy(a.name, a.runner.State())
	}
	var out api.Heard
	var changes []alert.Change
	err := d.keepAlerts(ctx, func(b alert.Book) (alert.Book, error) {
		b, changes, out.Unknown = b.Hear(w, policies, time.Now())
		return b, nil
	})
	if err != nil {
		return out, err
	}
	out.Heard = len(w.Alerts) - out.Unknown
	d.tellAlerts(changes)
	if d.alerts.waiting.CompareAndSwap(false, true) { // else it is done with what waits already
		d.work.Go(func() { d.obeyAlerts(context.WithoutCancel(ctx)) }) // which may take longer than a sender waits
	}
	return out, nil
}

// watchAlerts lets alerts expire that nobody speaks of, and obeys those that
// the last daemon had heard and not obeyed.
func (d *Daemon) watchAlerts(ctx context.Context) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		var changes []alert.Change
		if len(d.presentAlerts().Alerts) > 0 {
			if _, over := d.presentAlerts().Expire(time.Now()); len(over) > 0 {
				_ = d.keepAlerts(ctx, func(b alert.Book) (alert.Book, error) { // f never fails
					b, changes = b.Expire(time.Now())
					return b, nil
				})
			}
			d.tellAlerts(changes)
			d.obeyAlerts(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// tellAlerts tells people what became of alerts.
func (d *Daemon) tellAlerts(changes []alert.Change) {
	for _, c := range changes {
		text := map[string]string{alert.Fired: "fires", alert.Resolved: "is over", alert.Expired: "was not heard of any more and counts as over"}[c.What]
		a, err := d.app(c.App)
		if err != nil {
			continue
		}
		s := a.runner.State()
		e := gapless.Event{Time: time.Now(), App: c.App, Kind: "alert." + c.What, Message: "alert " + alert.Sentence(c.Alert) + " " + text}
		m := notify.Message{Key: fmt.Sprintf("alert/%s/%d/%s", c.ID, c.Since.Unix(), c.What), Event: gapless.NotifyAlert, Time: time.Now().UTC(), App: c.App,
			Text: c.App + ": " + e.Message, Alert: &notify.Alert{ID: c.ID, Name: c.Name, Status: c.What, Summary: c.Summary, Since: c.Since}}
		if c.What == alert.Fired {
			e.Level = "warn"
		}
		release := ""
		if s.Busy() {
			e.Rollout, e.Release, release = s.Rollout.ID, s.Rollout.To, s.Rollout.To
			m.Rollout = tellRollout(*s.Rollout)
		}
		d.emit(e)
		d.notices.tell(c.App, m, release, s.Stable)
	}
}

// obeyAlerts does to every rollout what the alerts of its app ask for, once
// per alert and rollout.
func (d *Daemon) obeyAlerts(ctx context.Context) {
	d.alerts.obeying.Lock()
	defer d.alerts.obeying.Unlock()
	d.alerts.waiting.Store(false)
	before := d.alerts.refused
	d.alerts.refused = map[string]string{}
	for _, al := range d.presentAlerts().Alerts {
		a, err := d.app(al.App)
		if err != nil {
			continue
		}
		policy := d.alertPolicy(al.App, a.runner.State())
		r, forward := a.underWay()
		if r == nil {
			continue
		}
		what := alert.Decide(al, policy, *r, forward)
		if what == "" {
			continue
		}
		reason := "the alert " + alert.Sentence(al) + " fires"
		if what == gapless.AlertPause {
			err = d.halt(ctx, al.App, r.ID, reason)
		} else {
			err = d.abort(ctx, al.App, r.ID, errors.New("aborted because "+reason))
		}
		act := gapless.Act{Time: time.Now().UTC(), Verb: what, App: al.App, Rollout: r.ID, Detail: "alert " + al.ID + " " + al.Name, Outcome: gapless.ActOK}
		act.Caller, _ = api.CallerOf(ctx)
		switch {
		case gapless.CodeOf(err) == gapless.Conflict:
			continue // its release is still being made, or it is over: looked at again
		case err != nil: // it is tried again, and told once
			key := al.ID + " " + r.ID
			d.alerts.refused[key] = err.Error()
			if before[key] == err.Error() {
				continue
			}
			act.Outcome, act.Message = string(gapless.CodeOf(err)), err.Error()
			d.log.Warn("obey an alert", "app", al.App, "alert", al.ID, "err", err)
		default:
			_ = d.keepAlerts(ctx, func(b alert.Book) (alert.Book, error) { return b.Act(al.ID, r.ID), nil }) // f never fails
		}
		d.Record(context.WithoutCancel(ctx), act)
	}
}

// underWay is the rollout of an app that runs or is prepared; forward: it is
// on its way to a release that does not serve yet.
func (a *app) underWay() (r *gapless.Rollout, forward bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.runner.State()
	if s.Busy() {
		return s.Rollout, s.Forward()
	}
	if a.preparing != nil {
		r := a.preparing.rollout
		return &r, true
	}
	return nil, false
}

// Alerts implements api.Service.
func (d *Daemon) Alerts(_ context.Context) ([]gapless.Alert, error) {
	out := []gapless.Alert{}
	book := d.presentAlerts()
	for _, a := range d.allApps() {
		out = append(out, book.Of(a.name, d.alertPolicy(a.name, a.runner.State()))...)
	}
	return out, nil
}

// ClearAlert implements api.Service.
func (d *Daemon) ClearAlert(ctx context.Context, id string) (out gapless.Alert, err error) {
	err = d.keepAlerts(ctx, func(b alert.Book) (alert.Book, error) {
		b, out, err = b.Clear(id)
		return b, err
	})
	return out, err
}

// refuseByAlerts keeps a deploy of an app that serves from beginning while an
// alert of it fires.
func (d *Daemon) refuseByAlerts(req api.DeployRequest) error {
	a, err := d.app(req.App.Name)
	if err != nil || req.DespiteAlerts {
		return nil // a new app has none
	}
	s := a.runner.State()
	if s.Down || s.Stable == "" {
		return nil
	}
	return d.presentAlerts().Refuse(a.name, d.alertPolicy(a.name, s))
}
