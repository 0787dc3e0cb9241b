// Package alert keeps the book of alerts that others send, and decides what
// they do to the rollouts of the apps that they name. It is pure: no I/O, no
// clock. The daemon hears, saves the book and acts.
package alert

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"gapless"
)

// Limits of what is heard and kept.
const (
	MostAtOnce = 1000 // alerts of one request
	MostKept   = 500
	mostLabels = 128
	mostText   = 500 // bytes of a name or a summary
)

// Check says what is wrong with a webhook.
func Check(w gapless.AlertWebhook) *gapless.Error {
	bad := func(format string, args ...any) *gapless.Error {
		return gapless.Errorf(gapless.Invalid, format, args...).WithHint("this takes what Alertmanager sends to a webhook_config, version \"4\"")
	}
	switch {
	case w.Version != "4":
		return bad("the version of the webhook is %q and not \"4\"", cut(w.Version))
	case !known(w.Status):
		return bad("the status of the webhook is %q, neither firing nor resolved", cut(w.Status))
	case len(w.Alerts) == 0:
		return bad("the webhook has no alerts")
	case len(w.Alerts) > MostAtOnce:
		return bad("the webhook has %d alerts, more than %d", len(w.Alerts), MostAtOnce).WithHint("set max_alerts of the webhook_config to %d", MostAtOnce)
	}
	for i, a := range w.Alerts {
		switch {
		case !known(a.Status):
			return bad("the status of alert %d is %q, neither firing nor resolved", i+1, cut(a.Status))
		case a.StartsAt.IsZero():
			return bad("alert %d has no startsAt", i+1)
		case len(a.Labels) == 0:
			return bad("alert %d has no labels", i+1)
		case len(a.Labels) > mostLabels:
			return bad("alert %d has %d labels, more than %d", i+1, len(a.Labels), mostLabels)
		}
	}
	return nil
}

func known(status string) bool { return status == "firing" || status == "resolved" }

func cut(text string) string {
	if len(text) <= mostText {
		return strings.ToValidUTF8(text, "?")
	}
	text = text[:mostText]
	for !utf8.ValidString(text) && text != "" {
		text = text[:len(text)-1]
	}
	return text + "…"
}

// Book is the alerts that fire, the oldest first.
type Book struct {
	Alerts []gapless.Alert `json:"alerts,omitempty"`
}

// Change is what became of an alert.
type Change struct {
	gapless.Alert
	What string // Fired, Resolved, Expired
}

// What becomes of alerts.
const (
	Fired    = "firing"
	Resolved = "resolved"
	Expired  = "expired" // nothing was heard of it any more
)

// Hear is the book after a webhook that Check found nothing wrong with. apps
// are the policies of all apps by name. unknown counts alerts that name none.
func (b Book) Hear(w gapless.AlertWebhook, apps map[string]gapless.AlertPolicy, now time.Time) (next Book, changes []Change, unknown int) {
	b.Alerts = slices.Clone(b.Alerts)
	for _, a := range w.Alerts {
		found := false
		for _, app := range slices.Sorted(maps.Keys(apps)) {
			if a.Labels[cmp.Or(apps[app].Label, "app")] != app {
				continue
			}
			found = true
			if c := b.hear(a, app, apps[app], now); c != nil {
				changes = append(changes, *c)
			}
		}
		if !found {
			unknown++
		}
	}
	slices.SortStableFunc(b.Alerts, func(x, y gapless.Alert) int { return cmp.Or(x.Since.Compare(y.Since), cmp.Compare(x.ID, y.ID)) })
	for len(b.Alerts) > MostKept { // the one that was silent longest
		oldest := 0
		for i := range b.Alerts {
			if b.Alerts[i].Seen.Before(b.Alerts[oldest].Seen) {
				oldest = i
			}
		}
		b.Alerts = slices.Delete(b.Alerts, oldest, oldest+1)
	}
	return b, changes, unknown
}

// hear takes in one alert; it changes b's own list.
func (b *Book) hear(a gapless.WebhookAlert, app string, policy gapless.AlertPolicy, now time.Time) *Change {
	id := idOf(app, a)
	k := slices.IndexFunc(b.Alerts, func(x gapless.Alert) bool { return x.ID == id })
	if a.Status == "resolved" || !a.EndsAt.IsZero() && !a.EndsAt.After(now) {
		if k < 0 || a.StartsAt.Before(b.Alerts[k].Since) { // the end of an earlier time
			return nil
		}
		c := &Change{b.Alerts[k], Resolved}
		b.Alerts = slices.Delete(b.Alerts, k, k+1)
		return c
	}
	fresh := gapless.Alert{ID: id, App: app, Name: cut(cmp.Or(a.Labels["alertname"], "an alert without a name")), Severity: cut(a.Labels["severity"]),
		Summary: cut(cmp.Or(a.Annotations["summary"], a.Annotations["description"], a.Annotations["message"])), Since: a.StartsAt.UTC(), Seen: now.UTC()}
	fresh.Until = now.Add(cmp.Or(policy.Expire, gapless.AlertExpire).Std()).UTC()
	if !a.EndsAt.IsZero() && a.EndsAt.Before(fresh.Until) {
		fresh.Until = a.EndsAt.UTC()
	}
	if k < 0 {
		b.Alerts = append(b.Alerts, fresh)
		return &Change{fresh, Fired}
	}
	old := &b.Alerts[k]
	if fresh.Since.After(old.Since) { // it was over in between, which nobody said
		*old = fresh
		return &Change{fresh, Fired}
	}
	old.Name, old.Summary, old.Severity, old.Seen, old.Until = fresh.Name, fresh.Summary, fresh.Severity, fresh.Seen, fresh.Until
	return nil
}

// idOf names an alert of an app: by its fingerprint, which Alertmanager makes
// of the labels, or by the labels.
func idOf(app string, a gapless.WebhookAlert) string {
	text := app + "\x00" + a.Fingerprint
	if a.Fingerprint == "" {
		for _, name := range slices.Sorted(maps.Keys(a.Labels)) {
			text += "\x00" + name + "\x00" + a.Labels[name]
		}
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:5])
}

// Expire is the book without those of which nothing was heard for too long.
func (b Book) Expire(now time.Time) (next Book, changes []Change) {
	for _, a := range b.Alerts {
		if a.Until.After(now) {
			next.Alerts = append(next.Alerts, a)
		} else {
			changes = append(changes, Change{a, Expired})
		}
	}
	return next, changes
}

// Clear marks an alert as one that a person does not want to wait for, until
// it fires anew.
func (b Book) Clear(id string) (Book, gapless.Alert, error) {
	k := slices.IndexFunc(b.Alerts, func(a gapless.Alert) bool { return a.ID == id })
	if k < 0 {
		err := gapless.Errorf(gapless.NotFound, "no alert %q fires", cut(id))
		var ids []string
		for _, a := range b.Alerts {
			ids = append(ids, a.ID)
		}
		if near := gapless.Nearest(id, ids); near != "" {
			return b, gapless.Alert{}, err.WithHint("did you mean %s?", near)
		}
		return b, gapless.Alert{}, err.WithHint("list them with: gapless alerts")
	}
	b.Alerts = slices.Clone(b.Alerts)
	b.Alerts[k].Cleared = true
	return b, b.Alerts[k], nil
}

// Act notes that an alert did something to a rollout.
func (b Book) Act(id, rollout string) Book {
	b.Alerts = slices.Clone(b.Alerts)
	for i := range b.Alerts {
		if b.Alerts[i].ID == id {
			b.Alerts[i].Acted = rollout
		}
	}
	return b
}

// Of lists the alerts of an app, with whether they block its deploys.
func (b Book) Of(app string, policy gapless.AlertPolicy) (out []gapless.Alert) {
	for _, a := range b.Alerts {
		if a.App == app {
			a.Blocks = !a.Cleared && !policy.NoBlock
			out = append(out, a)
		}
	}
	return out
}

// Refuse says why a deploy of an app is not begun; nil: it is.
func (b Book) Refuse(app string, policy gapless.AlertPolicy) error {
	for _, a := range b.Of(app, policy) {
		if a.Blocks {
			return gapless.Errorf(gapless.Conflict, "an alert of %s fires since %s: %s", app, a.Since.Format(time.RFC3339), Sentence(a)).
				WithHint("deploy when it is over, or: gapless deploy --despite-alerts; if it is over: gapless alerts clear %s", a.ID)
		}
	}
	return nil
}

// Sentence is an alert in a few words.
func Sentence(a gapless.Alert) string {
	if a.Summary == "" {
		return a.Name
	}
	return fmt.Sprintf("%s (%s)", a.Name, a.Summary)
}

// Decide says what an alert does to a rollout that runs: gapless.AlertAbort,
// AlertPause, or "" for nothing. forward: it is on its way to the new release
// and has not promoted it. An alert that fired before the rollout began was
// not brought about by it; a way back is never stopped; and what a rollout
// without a release to go back to would be taken back to is an outage.
func Decide(a gapless.Alert, policy gapless.AlertPolicy, r gapless.Rollout, forward bool) string {
	ships := r.Kind == "deploy" || r.Kind == "up" || r.Kind == "restart"
	if !forward || !ships || r.From == "" || r.Outcome != gapless.Running || a.App != r.App || a.Cleared || a.Acted == r.ID || !a.Since.After(r.Started) {
		return ""
	}
	switch policy.OnFiring {
	case "", gapless.AlertAbort:
		return gapless.AlertAbort
	case gapless.AlertPause:
		return gapless.AlertPause
	}
	return ""
}
