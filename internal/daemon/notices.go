package daemon

import (
	"context"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/notify"
	"gapless/internal/rollout"
	"gapless/internal/store"
)

const (
	noticesAtOnce = 2000             // of the queue are looked at
	lookForNews   = 10 * time.Second // how often it is looked whether something lasts too long
)

// notices tells targets what happens. The queue is in the store; what of it is
// under way, and how fast, is not remembered over a restart.
type notices struct {
	d      *Daemon
	sender *notify.Sender
	log    *slog.Logger
	due    chan struct{} // there may be something to send

	mu     sync.Mutex
	known  map[string]bool // target and key of what is in the store for sure
	busy   map[string]bool // targets that something is sent to
	paces  map[string]notify.Pace
	behind map[string]time.Time // targets that failed: when they are tried again
}

// queued is what the store keeps of a notice. It holds no secret: addresses
// are as written.
type queued struct {
	Message notify.Message `json:"message"`
	Target  gapless.Notify `json:"target"`
	Release string         `json:"release"` // whose variables fill in the target
	Tries   int            `json:"tries,omitempty"`
	Said    string         `json:"said,omitempty"` // what became of the last try
}

func newNotices(d *Daemon) *notices {
	return &notices{d: d, sender: notify.New("gapless/"+d.version, nil), log: d.log, due: make(chan struct{}, 1),
		known: map[string]bool{}, busy: map[string]bool{}, paces: map[string]notify.Pace{}, behind: map[string]time.Time{}}
}

// see queues what there is to tell of a state that was saved.
func (n *notices) see(s rollout.State) {
	if s.Rollout == nil {
		return
	}
	rel := n.teller(s.App, s.Rollout.To, s.Stable)
	if rel == nil {
		return
	}
	now := time.Now()
	for _, t := range rel.Spec.Notify {
		after := t.After.Std()
		if after == 0 {
			after = undecidedAfter
		}
		for _, m := range newsOf(s, now, after) {
			n.queue(rel, t, m)
		}
	}
}

// teller is the release whose configuration says who is told: the first of
// these that exists and tells somebody.
func (n *notices) teller(app string, names ...string) *gapless.Release {
	for _, name := range names {
		if name == "" {
			continue
		}
		if rel, err := n.d.release(app, name); err == nil && len(rel.Spec.Notify) > 0 {
			return rel
		}
	}
	return nil
}

// tell queues one message for whoever the app tells.
func (n *notices) tell(app string, m notify.Message, releases ...string) {
	rel := n.teller(app, releases...)
	if rel == nil {
		return
	}
	for _, t := range rel.Spec.Notify {
		n.queue(rel, t, m)
	}
}

// mostKnown bounds what is remembered only to spare the disk.
const mostKnown = 10_000

func (n *notices) queue(rel *gapless.Release, t gapless.Notify, m notify.Message) {
	if !t.Wants(m.Event) {
		return
	}
	target := rel.App + " " + t.ID()
	id := target + "\x00" + m.Key
	n.mu.Lock()
	known := n.known[id]
	n.mu.Unlock()
	if known {
		return
	}
	m.Link = ""
	if t.Link != "" {
		about := ""
		if m.Rollout != nil {
			about = m.Rollout.ID
		}
		m.Link = strings.NewReplacer("{app}", m.App, "{rollout}", about).Replace(t.Link)
	}
	data, err := json.Marshal(queued{Message: m.Bounded(), Target: t, Release: rel.Name})
	if err == nil {
		now := time.Now()
		_, err = n.d.store.AddNotice(context.WithoutCancel(n.d.ctx), store.Notice{Key: m.Key, Target: target, App: rel.App, Made: now, Due: now, Data: data})
	}
	if err != nil { // what is looked at again is queued then
		n.log.Warn("a notification waits until it can be saved", "app", rel.App, "key", m.Key, "err", err)
		return
	}
	n.mu.Lock()
	if len(n.known) >= mostKnown {
		clear(n.known)
	}
	n.known[id] = true
	n.mu.Unlock()
	n.poke()
}

func (n *notices) poke() {
	select {
	case n.due <- struct{}{}:
	default:
	}
}

// run sends what is queued, and looks now and then for what lasts too long,
// until ctx ends.
func (n *notices) run(ctx context.Context) {
	look := time.NewTicker(lookForNews)
	defer look.Stop()
	for _, a := range n.d.allApps() {
		n.see(a.runner.State())
	}
	for {
		wait, err := n.pump(ctx)
		if err != nil && ctx.Err() == nil {
			n.log.Warn("send notifications", "err", err)
			wait = lookForNews
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-n.due:
		case <-timer.C:
		case <-look.C:
			for _, a := range n.d.allApps() {
				n.see(a.runner.State())
			}
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// pump begins to send what is due and says when there is more to do.
func (n *notices) pump(ctx context.Context) (time.Duration, error) {
	list, err := n.d.store.Notices(ctx, noticesAtOnce)
	if err != nil {
		return 0, err
	}
	byTarget := map[string][]store.Notice{}
	for _, x := range list {
		byTarget[x.Target] = append(byTarget[x.Target], x)
	}
	wait := time.Hour
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	for target, waiting := range byTarget {
		if n.busy[target] {
			continue
		}
		if len(waiting) > notify.MostHeld { // also of a target that is away: the queue is bounded
			if err := n.fold(ctx, waiting); err != nil {
				return 0, err
			}
			wait = 0
			continue
		}
		// What failed is tried first; nothing overtakes it.
		at := waiting[0].Due
		if b := n.behind[target]; b.After(at) {
			at = b
		}
		if d := at.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		send, fold, later := n.paces[target].Next(len(waiting), now)
		switch {
		case fold:
			if err := n.fold(ctx, waiting); err != nil {
				return 0, err
			}
			wait = 0
		case send:
			n.busy[target], n.paces[target] = true, n.paces[target].Take(now)
			n.d.work.Go(func() { n.send(ctx, waiting[0]) })
		default:
			wait = min(wait, later)
		}
	}
	return wait, nil
}

// fold puts what waits for one target into one message.
func (n *notices) fold(ctx context.Context, list []store.Notice) error {
	var all []notify.Message
	var q queued
	for _, x := range list {
		q = queued{}
		if err := json.Unmarshal(x.Data, &q); err != nil {
			return err
		}
		all = append(all, q.Message)
	}
	last := list[len(list)-1]
	q.Message, q.Tries, q.Said = notify.Fold(all), 0, ""
	data, err := json.Marshal(q)
	if err != nil {
		return err
	}
	return n.d.store.FoldNotices(ctx, list, store.Notice{Key: q.Message.Key, Target: last.Target, App: last.App, Made: last.Made, Due: last.Due, Data: data})
}

// send tries once to send a notice.
func (n *notices) send(ctx context.Context, x store.Notice) {
	defer n.poke()
	defer func() {
		n.mu.Lock()
		delete(n.busy, x.Target)
		n.mu.Unlock()
	}()
	var q queued
	if err := json.Unmarshal(x.Data, &q); err != nil {
		n.log.Error("a notification cannot be read", "app", x.App, "key", x.Key, "err", err)
		n.end(ctx, x)
		return
	}
	to, err := n.fill(x.App, q.Release, q.Target)
	answer := notify.Answer{}
	if err != nil {
		answer.Text = err.Error() // the variable may still be set
	} else if answer = n.sender.Send(ctx, to, q.Message); ctx.Err() != nil {
		return // the next daemon sends it
	}
	now := time.Now()
	switch {
	case answer.OK:
		n.mu.Lock()
		delete(n.behind, x.Target)
		n.mu.Unlock()
		n.end(ctx, x)
	case answer.Final, now.Sub(x.Made) > notify.GiveUp:
		n.log.Error("a notification is given up", "app", x.App, "target", q.Target.ID(), "key", x.Key, "tries", q.Tries+1, "answer", answer.Text)
		n.end(ctx, x)
	default:
		q.Tries, q.Said = q.Tries+1, answer.Text
		x.Due = now.Add(notify.Wait(q.Tries, rand.Float64(), answer.After))
		n.log.Warn("a notification is tried again", "app", x.App, "target", q.Target.ID(), "key", x.Key, "tries", q.Tries, "at", x.Due, "answer", answer.Text)
		n.mu.Lock()
		n.behind[x.Target] = x.Due
		n.mu.Unlock()
		if x.Data, err = json.Marshal(q); err == nil {
			err = n.d.store.PutOffNotice(ctx, x)
		}
		if err != nil {
			n.log.Warn("put a notification off", "key", x.Key, "err", err)
		}
	}
}

// end remembers that a notice is over. Where that cannot be saved it is sent
// again later, under the same key.
func (n *notices) end(ctx context.Context, x store.Notice) {
	if err := n.d.store.EndNotice(context.WithoutCancel(ctx), x.Seq); err != nil {
		n.log.Warn("a notification that was sent may be sent again", "key", x.Key, "err", err)
		n.mu.Lock()
		n.behind[x.Target] = time.Now().Add(lookForNews)
		n.mu.Unlock()
	}
}

// fill looks up the variables of a target: secrets as they are set now, else
// what the release was given, or the one that serves where that is gone.
func (n *notices) fill(app, release string, t gapless.Notify) (notify.Target, error) {
	secrets, err := n.d.vault.secrets(app)
	if err != nil {
		return notify.Target{}, err
	}
	vars := map[string]string{}
	for _, name := range []string{release, n.d.serving(app)} {
		if name == "" {
			continue
		}
		rel, err := n.d.release(app, name)
		if err != nil {
			continue
		}
		if env, err := n.d.vault.environment(rel); err == nil {
			vars = env.of(gapless.WebProcess)
			break
		}
	}
	lookup := func(name string) (string, bool) {
		if s, ok := secrets[name]; ok {
			return s.Value, true
		}
		v, ok := vars[name]
		return v, ok
	}
	to := notify.Target{Slack: t.Slack != ""}
	var lack, more []string
	to.URL, lack = gapless.Expand(t.Slack+t.Webhook, lookup)
	to.Secret, more = gapless.Expand(t.Secret, lookup)
	if lack = append(lack, more...); len(lack) > 0 {
		return to, gapless.Errorf(gapless.Invalid, "%s is not set", strings.Join(lack, ", ")).WithHint("gapless secrets set %s --app %s", lack[0], app)
	}
	return to, nil
}

// serving is the release of an app that is stable, as it was saved.
func (d *Daemon) serving(app string) string {
	var s struct {
		Stable string `json:"stable"`
	}
	if d.store.App(d.ctx, app, &s) != nil {
		return ""
	}
	return s.Stable
}

// allApps lists the apps, in no order.
func (d *Daemon) allApps() (out []*app) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.apps {
		out = append(out, a)
	}
	return out
}

// TestNotify implements api.Service: one message to each target at once, past
// the queue.
func (d *Daemon) TestNotify(ctx context.Context, name string) ([]api.NotifyAnswer, error) {
	a, err := d.app(name)
	if err != nil {
		return nil, err
	}
	s := a.runner.State()
	rel := d.lastRelease(s)
	if rel == nil || len(rel.Spec.Notify) == 0 {
		return nil, gapless.Errorf(gapless.Invalid, "%s tells nobody what happens", name).
			WithHint("add notify: to gapless.yaml and deploy: it belongs to the release")
	}
	now := time.Now().UTC()
	m := notify.Message{Key: "test/" + newID(now), Event: gapless.NotifyTest, Time: now, App: name, Text: name + ": this is a test, " + orNone(s.Stable) + " serves"}
	out := make([]api.NotifyAnswer, len(rel.Spec.Notify))
	var all sync.WaitGroup
	for i, t := range rel.Spec.Notify {
		all.Go(func() {
			out[i] = api.NotifyAnswer{Target: t.ID(), Events: t.On}
			if len(t.On) == 0 {
				out[i].Events = gapless.NotifyDefault()
			}
			to, err := d.notices.fill(name, rel.Name, t)
			if err != nil {
				out[i].Answer, out[i].Hint = err.Error(), gapless.HintOf(err)
				return
			}
			answer := d.notices.sender.Send(ctx, to, m)
			out[i].OK, out[i].Status, out[i].Answer = answer.OK, answer.Status, answer.Text
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return out, nil
}

func orNone(release string) string {
	if release == "" {
		return "nothing"
	}
	return release
}
