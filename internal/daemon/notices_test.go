package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gapless"
	"gapless/internal/notify"
	"gapless/internal/rollout"
)

// What there is to tell follows from the state alone.
func TestNewsOf(t *testing.T) {
	now := time.Unix(1e9, 0)
	plan := []gapless.Step{{Kind: gapless.StepStart, N: 1}, {Kind: gapless.StepJudge, For: gapless.Duration(time.Hour)}, {Kind: gapless.StepWeight, Weight: 1}}
	state := func(change func(*rollout.State)) rollout.State {
		s := rollout.State{App: "shop", Stable: "v1", Entered: true, Since: now.Add(-time.Minute), Rollout: &gapless.Rollout{
			ID: "r1", App: "shop", Kind: "deploy", From: "v1", To: "v2", Plan: plan, Cursor: 1, Outcome: gapless.Running, Started: now.Add(-2 * time.Minute)}}
		change(&s)
		return s
	}
	ended := func(o gapless.Outcome, ago time.Duration) func(*rollout.State) {
		return func(s *rollout.State) {
			s.Rollout.Outcome, s.Rollout.Finished, s.Rollout.Reason = o, now.Add(-ago), "too bad"
		}
	}
	for _, c := range []struct {
		name   string
		change func(*rollout.State)
		want   string // keys, events
		says   string // of the last
	}{
		{"nothing", func(s *rollout.State) { s.Rollout = nil }, "", ""},
		{"at its first step", func(s *rollout.State) { s.Rollout.Cursor = 0 }, "r1/started=started", "deploy of v2 begins, v1 serves"},
		{"before its step", func(s *rollout.State) { s.Entered = false }, "r1/started=started", ""},
		{"on the way", func(*rollout.State) {}, "r1/started=started r1/step/1=step", "v2 is at step 2 of 3: judge"},
		{"for long", func(s *rollout.State) { s.Since = now.Add(-15 * time.Minute) }, "r1/started=started r1/step/1=step r1/undecided/1=undecided", "for 15m0s"},
		{"for long on a ramp", func(s *rollout.State) {
			s.Since, s.Rollout.Plan = now.Add(-15*time.Minute), []gapless.Step{plan[0], {Kind: gapless.StepRamp, For: gapless.Duration(time.Hour)}}
		}, "r1/started=started r1/step/1=step r1/undecided/1=undecided", "for 15m0s"},
		{"for long at what does not judge", func(s *rollout.State) { s.Since, s.Rollout.Cursor = now.Add(-time.Hour), 2 }, "r1/started=started r1/step/2=step", ""},
		{"waiting for long", func(s *rollout.State) {
			s.Since, s.Rollout.Cursor, s.Rollout.Waiting = now.Add(-time.Hour), 2, "paused"
		}, "r1/started=started r1/step/2=step r1/undecided/2=undecided", ""},
		{"on its way back", func(s *rollout.State) { s.Back, s.Since = true, now.Add(-time.Hour) }, "r1/started=started", ""},
		{"taken back", ended(gapless.TakenBack, 0), "r1/rolled_back=rolled_back", "shop: v2 was taken back, v1 serves: too bad"},
		{"promoted", ended(gapless.Promoted, time.Hour), "r1/promoted=promoted", "v2 serves, it was v1"},
		{"a rollback", func(s *rollout.State) {
			ended(gapless.Promoted, 0)(s)
			s.Rollout.Kind, s.Rollout.From, s.Rollout.To = "rollback", "v2", "v1"
		}, "r1/promoted=rolled_back", "shop: went back from v2, v1 serves again: too bad"},
		{"failed", ended(gapless.NothingStarted, 0), "r1/failed=failed", "deploy of v2 failed, v1 serves"},
		{"long ago", ended(gapless.TakenBack, 25*time.Hour), "", ""},
	} {
		var have []string
		var last notify.Message
		for _, m := range newsOf(state(c.change), now, undecidedAfter) {
			have, last = append(have, m.Key+"="+m.Event), m
			if m.App != "shop" || m.Rollout == nil || m.Rollout.ID != "r1" || !strings.HasPrefix(m.Text, "shop: ") {
				t.Errorf("%s: %+v", c.name, m)
			}
		}
		if strings.Join(have, " ") != c.want || !strings.Contains(last.Text, c.says) {
			t.Errorf("%s: %v, want %s; %q", c.name, have, c.want, last.Text)
		}
	}
}

// target is a receiver that notes the keys that it took.
type target struct {
	*httptest.Server
	mu    sync.Mutex
	keys  []string
	tries int
	deny  int // status; 0: it takes what it gets
}

func newTarget(t *testing.T) *target {
	x := &target{}
	x.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m notify.Message
		body, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(body, &m); err != nil || r.Header.Get(notify.KeyHeader) != m.Key {
			t.Errorf("%v: %s", err, body)
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		x.tries++
		if x.deny != 0 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(x.deny)
			return
		}
		if m.More != nil {
			x.keys = append(x.keys, m.More.Keys...)
			return
		}
		x.keys = append(x.keys, m.Key)
	}))
	t.Cleanup(x.Close)
	return x
}

func (x *target) answer(status int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.deny = status
}

func (x *target) got() (keys []string, tries int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.keys), x.tries
}

// telling is a daemon whose app tells a target of everything; begin makes it
// send, and what it returns kills it.
func telling(t *testing.T, url string) (d *Daemon, begin func() (kill func())) {
	t.Helper()
	d = guarded(t)
	d.home = Home(t.TempDir())
	d.vault = &vault{home: d.home}
	if err := os.MkdirAll(d.home.path("apps", "shop", "env"), 0o700); err != nil {
		t.Fatal(err)
	}
	rel := &gapless.Release{App: "shop", Name: "v2", EnvFile: d.home.path("apps", "shop", "env", "v2")}
	rel.Spec.Notify = []gapless.Notify{{Webhook: "${HOOK}", On: gapless.NotifyEvents()}}
	if err := d.vault.writeEnvironment(rel, environment{"": {"HOOK": url}}); err != nil {
		t.Fatal(err)
	}
	d.releases = map[string]*gapless.Release{"shop/v2": rel}
	d.notices = newNotices(d)
	begin = func() func() {
		ctx, cancel := context.WithCancel(context.Background())
		over := make(chan struct{})
		go func() { defer close(over); d.notices.run(ctx) }()
		return func() { cancel(); <-over; d.work.Wait(); d.notices = newNotices(d) }
	}
	return d, begin
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

func ended(id string) rollout.State {
	return rollout.State{App: "shop", Stable: "v2", Rollout: &gapless.Rollout{ID: id, App: "shop", Kind: "deploy", To: "v2", Outcome: gapless.Promoted, Finished: time.Now()}}
}

// What a daemon queued before it was killed the next one sends, once; and
// nothing is sent again, however often it is looked at.
func TestNoticesOutliveTheDaemon(t *testing.T) {
	x := newTarget(t)
	d, begin := telling(t, x.URL)
	// Who is killed between the answer and the disk sends again, with the same
	// key: so each is killed when its answer is on the disk.
	sent := func(n int) func() bool {
		return func() bool {
			keys, _ := x.got()
			left, err := d.store.Notices(t.Context(), 10)
			return len(keys) >= n && len(left) == 0 && err == nil
		}
	}
	x.answer(503)
	kill := begin()
	d.notices.see(ended("r1"))
	eventually(t, "a try", func() bool { _, tries := x.got(); return tries > 0 })
	kill()
	x.answer(0)
	kill = begin()
	d.notices.see(ended("r1"))
	eventually(t, "it is sent", sent(1))
	kill()
	kill = begin()
	d.notices.see(ended("r1"))
	d.notices.see(ended("r2"))
	eventually(t, "the next one is sent", sent(2))
	kill()
	if keys, _ := x.got(); strings.Join(keys, " ") != "r1/promoted r2/promoted" {
		t.Errorf("%v", keys)
	}
}

// A target that says no for good is not asked again; others are not held up.
func TestFinalAnswerEndsANotice(t *testing.T) {
	no, yes := newTarget(t), newTarget(t)
	no.answer(404)
	d, begin := telling(t, no.URL)
	rel := d.releases["shop/v2"]
	rel.Spec.Notify = append(rel.Spec.Notify, gapless.Notify{Webhook: yes.URL})
	rel.Spec.Notify[1].On = gapless.NotifyEvents()
	defer begin()()
	d.notices.see(ended("r1"))
	eventually(t, "both are asked", func() bool {
		_, a := no.got()
		keys, _ := yes.got()
		return a > 0 && len(keys) > 0
	})
	eventually(t, "the queue is empty", func() bool {
		left, err := d.store.Notices(t.Context(), 10)
		return err == nil && len(left) == 0
	})
	if _, tries := no.got(); tries != 1 {
		t.Errorf("%d tries", tries)
	}
}

// A flood is told of completely, in a few messages.
func TestFloodOfNotices(t *testing.T) {
	x := newTarget(t)
	d, begin := telling(t, x.URL)
	const all = 40
	for i := range all {
		d.notices.see(ended(fmt.Sprintf("r%02d", i)))
	}
	defer begin()()
	eventually(t, "all is told", func() bool { keys, _ := x.got(); return len(keys) == all })
	keys, tries := x.got()
	if slices.Sort(keys); len(slices.Compact(keys)) != all || tries > notify.Burst {
		t.Errorf("%d keys in %d messages", len(keys), tries)
	}
}

// A variable that is not set yet does not lose the message.
func TestNoticeWaitsForItsVariable(t *testing.T) {
	x := newTarget(t)
	d, begin := telling(t, x.URL)
	d.releases["shop/v2"].Spec.Notify[0].Webhook = "${LATER}"
	kill := begin()
	d.notices.see(ended("r1"))
	eventually(t, "it is put off", func() bool {
		left, err := d.store.Notices(t.Context(), 10)
		return err == nil && len(left) == 1 && left[0].Due.After(time.Now())
	})
	kill()
	if err := d.vault.saveSecrets("shop", map[string]secretValue{"LATER": {Value: x.URL}}); err != nil {
		t.Fatal(err)
	}
	defer begin()()
	eventually(t, "it is sent", func() bool { keys, _ := x.got(); return len(keys) == 1 })
}

// The queue of a target that is away stays small, and tells of all of it later.
func TestQueueIsBounded(t *testing.T) {
	x := newTarget(t)
	x.answer(503)
	d, begin := telling(t, x.URL)
	kill := begin()
	d.notices.see(ended("first"))
	eventually(t, "a try", func() bool { _, tries := x.got(); return tries > 0 })
	const all = notify.MostHeld + 50
	for i := range all {
		d.notices.see(ended(fmt.Sprintf("r%03d", i)))
	}
	eventually(t, "the queue is folded", func() bool {
		left, err := d.store.Notices(t.Context(), 10*all)
		return err == nil && len(left) <= notify.MostHeld
	})
	kill()
	left, err := d.store.Notices(t.Context(), 10*all)
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for _, n := range left {
		var q queued
		if err := json.Unmarshal(n.Data, &q); err != nil {
			t.Fatal(err)
		}
		if told++; q.Message.More != nil {
			told += q.Message.More.Count - 1
		}
	}
	if told != all+1 {
		t.Errorf("%d messages wait, want %d", told, all+1)
	}
}
