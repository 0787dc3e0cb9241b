package alert

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"gapless"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func webhook(list ...gapless.WebhookAlert) gapless.AlertWebhook {
	return gapless.AlertWebhook{Version: "4", Status: "firing", Alerts: list}
}

func firing(name string, since time.Time) gapless.WebhookAlert {
	return gapless.WebhookAlert{Status: "firing", Fingerprint: name, StartsAt: since,
		Labels: map[string]string{"alertname": name, "app": "shop"}, Annotations: map[string]string{"summary": "bad " + name}}
}

func resolved(a gapless.WebhookAlert, at time.Time) gapless.WebhookAlert {
	a.Status, a.EndsAt = "resolved", at
	return a
}

// What Alertmanager 0.25 sent, with a field that no version has yet.
func TestRealPayload(t *testing.T) {
	data, err := os.ReadFile("testdata/webhook.json")
	if err != nil {
		t.Fatal(err)
	}
	var w gapless.AlertWebhook
	if err := json.Unmarshal(data, &w); err != nil {
		t.Fatal(err)
	}
	if err := Check(w); err != nil {
		t.Fatal(err)
	}
	b, changes, unknown := Book{}.Hear(w, map[string]gapless.AlertPolicy{"shop": {}, "other": {Label: "team"}}, now)
	if len(b.Alerts) != 1 || len(changes) != 1 || changes[0].What != Fired || unknown != 1 {
		t.Fatalf("%+v, %+v, %d", b, changes, unknown)
	}
	if a := b.Alerts[0]; a.Name != "HighErrors" || a.Summary != "5 % of requests fail" || a.Severity != "page" || a.App != "shop" || len(a.ID) != 10 {
		t.Errorf("%+v", a)
	}
}

func TestCheck(t *testing.T) {
	good := func() gapless.AlertWebhook { return webhook(firing("A", now)) }
	if err := Check(good()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*gapless.AlertWebhook){
		"version 3":   func(w *gapless.AlertWebhook) { w.Version = "3" },
		"no version":  func(w *gapless.AlertWebhook) { w.Version = "" },
		"status":      func(w *gapless.AlertWebhook) { w.Status = "burning" },
		"no alerts":   func(w *gapless.AlertWebhook) { w.Alerts = nil },
		"many alerts": func(w *gapless.AlertWebhook) { w.Alerts = make([]gapless.WebhookAlert, MostAtOnce+1) },
		"one status":  func(w *gapless.AlertWebhook) { w.Alerts[0].Status = "" },
		"no start":    func(w *gapless.AlertWebhook) { w.Alerts[0].StartsAt = time.Time{} },
		"no labels":   func(w *gapless.AlertWebhook) { w.Alerts[0].Labels = nil },
		"many labels": func(w *gapless.AlertWebhook) {
			for i := range 200 {
				w.Alerts[0].Labels[fmt.Sprint("l", i)] = "x"
			}
		},
	} {
		w := good()
		spoil(&w)
		if err := Check(w); gapless.CodeOf(err) != gapless.Invalid || err.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, wrong := range []string{`{"version":4}`, `{"version":"4","alerts":{}}`, `{"version":"4","alerts":[{"labels":["a"]}]}`, `{"version":"4","alerts":[{"startsAt":7}]}`, `[]`} {
		var w gapless.AlertWebhook
		if json.Unmarshal([]byte(wrong), &w) == nil {
			t.Errorf("%s is taken", wrong)
		}
	}
}

// The life of alerts: each line is heard a minute after the one before.
func TestBook(t *testing.T) {
	a, b := firing("A", now), firing("B", now)
	again := firing("A", now.Add(2*time.Minute))
	apps := map[string]gapless.AlertPolicy{"shop": {}, "cart": {Label: "service"}}
	for _, c := range []struct {
		name  string
		heard []gapless.WebhookAlert
		left  string // names that fire at the end
		what  string // changes of the last
	}{
		{"fires", []gapless.WebhookAlert{a}, "A", "A firing"},
		{"is repeated", []gapless.WebhookAlert{a, a}, "A", ""},
		{"is over", []gapless.WebhookAlert{a, resolved(a, now)}, "", "A resolved"},
		{"another is over", []gapless.WebhookAlert{a, resolved(b, now)}, "A", ""},
		{"was never heard of", []gapless.WebhookAlert{resolved(a, now)}, "", ""},
		{"fires anew, which was not said", []gapless.WebhookAlert{a, again}, "A", "A firing"},
		{"the end of an earlier time comes late", []gapless.WebhookAlert{again, resolved(a, now)}, "A", ""},
		{"two", []gapless.WebhookAlert{a, b}, "A B", "B firing"},
		{"ended already", []gapless.WebhookAlert{func() gapless.WebhookAlert { x := a; x.EndsAt = now.Add(-time.Hour); return x }()}, "", ""},
	} {
		book, at := Book{}, now
		var changes []Change
		for _, x := range c.heard {
			at = at.Add(time.Minute)
			before := len(book.Alerts)
			kept := book
			book, changes, _ = book.Hear(webhook(x), apps, at)
			if len(kept.Alerts) != before {
				t.Errorf("%s: the book before was changed", c.name)
			}
		}
		var left, what []string
		for _, x := range book.Alerts {
			left = append(left, x.Name)
		}
		for _, x := range changes {
			what = append(what, x.Name+" "+x.What)
		}
		if strings.Join(left, " ") != c.left || strings.Join(what, " ") != c.what {
			t.Errorf("%s: left %v, changes %v", c.name, left, what)
		}
	}
}

// A lost "resolved" blocks for no longer than the limit, and each refresh
// begins it anew; an end that was told comes first.
func TestExpire(t *testing.T) {
	apps := map[string]gapless.AlertPolicy{"shop": {Expire: gapless.Duration(10 * time.Minute)}}
	ends := firing("E", now)
	ends.EndsAt = now.Add(2 * time.Minute)
	b, _, _ := Book{}.Hear(webhook(firing("A", now), ends), apps, now)
	b, _, _ = b.Hear(webhook(firing("A", now)), apps, now.Add(5*time.Minute))
	for _, c := range []struct {
		after time.Duration
		left  int
	}{{time.Minute, 2}, {2 * time.Minute, 1}, {14 * time.Minute, 1}, {15 * time.Minute, 0}} {
		next, over := b.Expire(now.Add(c.after))
		if len(next.Alerts) != c.left || len(over) != 2-c.left {
			t.Errorf("after %s: %d left, %d over", c.after, len(next.Alerts), len(over))
		}
	}
}

func TestRefuse(t *testing.T) {
	b, _, _ := Book{}.Hear(webhook(firing("A", now)), map[string]gapless.AlertPolicy{"shop": {}}, now)
	err := b.Refuse("shop", gapless.AlertPolicy{})
	if gapless.CodeOf(err) != gapless.Conflict || !strings.Contains(err.Error(), "A (bad A)") || !strings.Contains(gapless.HintOf(err), "--despite-alerts") {
		t.Errorf("%v (%s)", err, gapless.HintOf(err))
	}
	if b.Refuse("cart", gapless.AlertPolicy{}) != nil || b.Refuse("shop", gapless.AlertPolicy{NoBlock: true}) != nil {
		t.Error("it refuses more than it should")
	}
	id := b.Alerts[0].ID
	cleared, _, err := b.Clear(id)
	if err != nil || cleared.Refuse("shop", gapless.AlertPolicy{}) != nil || b.Alerts[0].Cleared {
		t.Errorf("cleared: %v", err)
	}
	if _, _, err := b.Clear(id[:9] + "x"); gapless.CodeOf(err) != gapless.NotFound || !strings.Contains(gapless.HintOf(err), id) {
		t.Errorf("%v (%s)", err, gapless.HintOf(err))
	}
	apps := map[string]gapless.AlertPolicy{"shop": {}}
	if same, _, _ := cleared.Hear(webhook(firing("A", now)), apps, now.Add(time.Minute)); same.Refuse("shop", gapless.AlertPolicy{}) != nil {
		t.Error("the same alert, repeated, blocks again")
	}
	if anew, _, _ := cleared.Hear(webhook(firing("A", now.Add(time.Minute))), apps, now.Add(time.Minute)); anew.Refuse("shop", gapless.AlertPolicy{}) == nil {
		t.Error("what fires anew does not block")
	}
}

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy gapless.AlertPolicy
		change func(a *gapless.Alert, r *gapless.Rollout, forward *bool)
		want   string
	}{
		{"by default", gapless.AlertPolicy{}, nil, "abort"},
		{"as told", gapless.AlertPolicy{OnFiring: "pause"}, nil, "pause"},
		{"ignored", gapless.AlertPolicy{OnFiring: "ignore"}, nil, ""},
		{"of another app", gapless.AlertPolicy{}, func(a *gapless.Alert, _ *gapless.Rollout, _ *bool) { a.App = "cart" }, ""},
		{"before the rollout", gapless.AlertPolicy{}, func(a *gapless.Alert, r *gapless.Rollout, _ *bool) { a.Since = r.Started.Add(-time.Second) }, ""},
		{"with it", gapless.AlertPolicy{}, func(a *gapless.Alert, r *gapless.Rollout, _ *bool) { a.Since = r.Started }, ""},
		{"on its way back, or promoted", gapless.AlertPolicy{}, func(_ *gapless.Alert, _ *gapless.Rollout, f *bool) { *f = false }, ""},
		{"over", gapless.AlertPolicy{}, func(_ *gapless.Alert, r *gapless.Rollout, _ *bool) { r.Outcome = gapless.Promoted }, ""},
		{"a rollback", gapless.AlertPolicy{}, func(_ *gapless.Alert, r *gapless.Rollout, _ *bool) { r.Kind = "rollback" }, ""},
		{"a scale", gapless.AlertPolicy{}, func(_ *gapless.Alert, r *gapless.Rollout, _ *bool) { r.Kind = "scale" }, ""},
		{"a restart", gapless.AlertPolicy{}, func(_ *gapless.Alert, r *gapless.Rollout, _ *bool) { r.Kind = "restart" }, "abort"},
		{"nothing to go back to", gapless.AlertPolicy{}, func(_ *gapless.Alert, r *gapless.Rollout, _ *bool) { r.From = "" }, ""},
		{"cleared", gapless.AlertPolicy{}, func(a *gapless.Alert, _ *gapless.Rollout, _ *bool) { a.Cleared = true }, ""},
		{"done already", gapless.AlertPolicy{OnFiring: "pause"}, func(a *gapless.Alert, r *gapless.Rollout, _ *bool) { a.Acted = r.ID }, ""},
		{"done to another", gapless.AlertPolicy{}, func(a *gapless.Alert, _ *gapless.Rollout, _ *bool) { a.Acted = "r0" }, "abort"},
	} {
		a := gapless.Alert{ID: "a", App: "shop", Since: now.Add(time.Minute)}
		r, forward := gapless.Rollout{ID: "r1", App: "shop", Kind: "deploy", From: "v1", To: "v2", Outcome: gapless.Running, Started: now}, true
		if c.change != nil {
			c.change(&a, &r, &forward)
		}
		if have := Decide(a, c.policy, r, forward); have != c.want {
			t.Errorf("%s: %q, want %q", c.name, have, c.want)
		}
	}
}

// However many are heard, the book stays small, and the ones that go are those
// that were silent longest.
func TestBookIsBounded(t *testing.T) {
	apps := map[string]gapless.AlertPolicy{"shop": {}}
	var b Book
	for i := range MostKept + 100 {
		b, _, _ = b.Hear(webhook(firing(fmt.Sprint(i), now)), apps, now.Add(time.Duration(i)*time.Millisecond))
	}
	if len(b.Alerts) != MostKept {
		t.Fatalf("%d alerts", len(b.Alerts))
	}
	for _, a := range b.Alerts {
		if a.Seen.Before(now.Add(100 * time.Millisecond)) {
			t.Errorf("kept %s", a.Name)
		}
	}
}
