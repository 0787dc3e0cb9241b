package daemon

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"gapless"
	"gapless/internal/keeper"
)

const (
	tailLines = 20          // of the log of a failing instance are told
	tailTime  = time.Second // for reading them: the app's runner waits
)

// emit passes an event on. Before a rollout that was taken back is reported
// as finished, the last words of the instance that failed it are told.
func (d *Daemon) emit(e gapless.Event) {
	if e.Kind == gapless.EventEvidence {
		d.hub.tell(e)
		return
	}
	if e.Kind == turnedBack {
		d.failed.note(e.Rollout, d.router.failing(e.App, e.Release)) // an edge forgets a release that has no share
	}
	if e.Kind == finished && e.Level == "error" && e.Rollout != "" {
		d.lastWords(e)
	}
	d.hub.emit(e)
	if e.Kind == finished {
		d.failed.forget(e.Rollout) // also where nobody was told
		d.hooks.end(e.Rollout)
		d.work.Go(func() { d.collect(e.App) })
		select {
		case d.backup <- struct{}{}:
		default:
		}
	}
}

func (d *Daemon) lastWords(e gapless.Event) {
	r, err := d.store.Rollout(d.ctx, e.Rollout)
	if err != nil {
		return
	}
	if suspicious(r) {
		for _, f := range d.failed.take(r.ID, func() []gapless.Failing { return d.router.failing(r.App, r.To) }) {
			d.hub.emit(gapless.Event{Time: e.Time, App: e.App, Rollout: e.Rollout, Release: e.Release, Kind: gapless.EventFailing, Level: "warn",
				Message: fmt.Sprintf("%d × %s %s: %s", f.Count, f.Method, f.Path, f.Kind), Failing: &f})
		}
		for _, c := range d.complaints(r) {
			d.hub.emit(gapless.Event{Time: e.Time, App: e.App, Rollout: e.Rollout, Release: e.Release, Kind: gapless.EventComplaint, Level: "warn", Message: c.Text, Count: c.Count})
		}
	}
	if r.Instance == "" {
		return
	}
	veil := d.veilOf(e.App, r.To)
	var tail []string
	since := r.Started.Add(-time.Second)
	opt := keeper.ReadOptions{Lines: tailLines, Since: since, Filter: func(l keeper.Line) bool {
		return l.Label == r.Instance && !l.Time.Before(since)
	}}
	ctx, cancel := context.WithTimeout(d.ctx, tailTime)
	defer cancel()
	for l, err := range keeper.ReadLogs(ctx, d.home.AppLog(e.App), opt) {
		if err != nil {
			d.log.Warn("read the log of a failed instance", "instance", r.Instance, "err", err)
			break
		}
		l.Text = veil(l.Text)
		tail = append(tail, l.Text)
		d.hub.emit(gapless.Event{Time: l.Time, App: e.App, Rollout: e.Rollout, Release: e.Release, Kind: "instance.log", Instance: r.Instance, Message: l.Text})
	}
	if cause := likelyCause(tail); cause != "" {
		d.hub.emit(gapless.Event{Time: e.Time, App: e.App, Rollout: e.Rollout, Release: e.Release, Kind: "cause", Instance: r.Instance, Message: cause})
	}
}

// turnedBack is the kind of the event that a rollout begins its way back with.
const turnedBack = "rollout.back"

// failed remembers which requests failed at the candidates that are on their
// way back. The zero value is ready.
type failed struct {
	mu  sync.Mutex
	all map[string][]gapless.Failing // by rollout
}

func (f *failed) note(rollout string, what []gapless.Failing) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all == nil {
		f.all = map[string][]gapless.Failing{}
	}
	f.all[rollout] = what
}

// take forgets what was noted; nothing was if the daemon began meanwhile.
func (f *failed) take(rollout string, otherwise func() []gapless.Failing) []gapless.Failing {
	f.mu.Lock()
	what, noted := f.all[rollout]
	delete(f.all, rollout)
	f.mu.Unlock()
	if !noted {
		return otherwise()
	}
	return what
}

func (f *failed) forget(rollout string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.all, rollout)
}

// suspicious reports whether bad answers of the candidate were seen, so that
// its log may tell why.
func suspicious(r *gapless.Rollout) bool {
	return r.Verdict != nil && (r.Verdict.Evidence.Candidate.Bad > 0 || r.Verdict.Kind == gapless.Worse)
}

// veilOf hides the secrets of a release in what its instances and hooks print.
func (d *Daemon) veilOf(app, release string) func(string) string {
	rel, err := d.release(app, release)
	if err != nil {
		return func(text string) string { return text } // it never had an instance
	}
	env, err := d.vault.environment(rel)
	if err != nil {
		return func(string) string {
			return "(not shown: the environment of " + rel.Name + " cannot be read, so its secrets cannot be hidden)"
		}
	}
	return func(text string) string { return env.veil(rel, text) }
}

// likelyCause reads the usual mistakes out of a log tail and says what to do.
func likelyCause(tail []string) string {
	text := strings.Join(tail, "\n")
	after := func(mark string) string {
		_, rest, ok := strings.Cut(text, mark)
		if !ok {
			return ""
		}
		rest, _, _ = strings.Cut(rest, "\n")
		return strings.Trim(rest, " '\"")
	}
	switch {
	case strings.Contains(text, "Cannot find module '.") || strings.Contains(text, "Cannot find module '/"):
		return fmt.Sprintf("a file is missing in the release (%s): check its name, and that neither the build nor an ignore file leaves it out (a ! line in .gaplessignore brings such a one back)", after("Cannot find module"))
	case strings.Contains(text, "Cannot find module"):
		return fmt.Sprintf("a module is missing (%s): install it, and check that it is in dependencies and not only in devDependencies", after("Cannot find module"))
	case strings.Contains(text, "Cannot find package"):
		return fmt.Sprintf("a package is missing (%s): install it, and check that it is in dependencies", after("Cannot find package"))
	case strings.Contains(text, "SyntaxError"):
		return "the code does not parse (SyntaxError:" + ifSet(" ", after("SyntaxError:")) + "): check it with: node --check <file>"
	case strings.Contains(text, "EADDRINUSE"):
		return "the app listens on a fixed port that is taken: listen on process.env.PORT"
	case strings.Contains(text, "EACCES"):
		return "the app may not open something (" + after("EACCES") + "): check the permissions and the user it runs as"
	case strings.Contains(text, "ECONNREFUSED"):
		return "something the app needs refused its connection (" + after("ECONNREFUSED") + "): is that service up?"
	case strings.Contains(text, "heap out of memory"):
		return "node ran out of heap: raise it with NODE_OPTIONS=--max-old-space-size=<MB> or find the leak"
	}
	return ""
}

func ifSet(before, text string) string {
	if text == "" {
		return ""
	}
	return before + text
}
