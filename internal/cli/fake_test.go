package cli

import (
	"bytes"
	"context"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/daemon"
	"gapless/internal/judge"
)

// fake is a daemon with one rollout that the test drives.
type fake struct {
	api.Service // what a test does not expect panics

	mu      sync.Mutex
	app     api.AppStatus
	events  []gapless.Event
	changed chan struct{} // closed when something changes
	calls   []string
	asked   func(*api.AppStatus) // called before each Status
}

func newFake() *fake {
	plan := []gapless.Step{{Kind: gapless.StepStart, N: 2}, {Kind: gapless.StepWarm}, {Kind: gapless.StepWeight, Weight: .05},
		{Kind: gapless.StepJudge, For: gapless.Duration(time.Minute), OnUndecided: "pause"}, {Kind: gapless.StepWeight, Weight: 1}, {Kind: gapless.StepPromote}}
	latency := make([]uint64, gapless.LatencyBuckets)
	latency[gapless.LatencyBucket(12000)] = 12031
	return &fake{changed: make(chan struct{}), app: api.AppStatus{
		Name: "shop", Stable: "v41",
		Weights: []gapless.Weight{{Release: "v41", Share: .95}, {Release: "v42", Share: .05}},
		Instances: []api.InstanceStatus{
			{Instance: gapless.Instance{Release: "v41", Process: "web", Slot: 1, State: gapless.Ready}, Role: "stable", Healthy: true},
			{Instance: gapless.Instance{Release: "v42", Process: "web", Slot: 1, State: gapless.Ready}, Role: "candidate", Healthy: true},
			{Instance: gapless.Instance{Release: "v42", Process: "web", Slot: 2, State: gapless.Crashed}, Role: "candidate", Healthy: true},
		},
		Releases: []gapless.ReleaseTraffic{{Release: "v41", Requests: 12031, Latency: latency}, {Release: "v42", Requests: 630, Failed: 2, Latency: latency},
			{Release: "v7", Requests: 3, Failed: 3}},
		Rollout: &gapless.Rollout{ID: "r1", App: "shop", Kind: "deploy", From: "v41", To: "v42", Plan: plan, Cursor: 3, Strategy: "canary",
			Outcome: gapless.Running, Started: time.Now(), Weight: .05,
			Verdict: verdict(gapless.Arm{Requests: 630, Bad: 2}, gapless.Arm{Requests: 12000, Bad: 3})},
	}}
}

// newFakeApp is a fake whose app also has a process without HTTP.
func newFakeApp() *fake {
	s := newFake()
	s.app.Counts = map[string]int{"web": 2, "mailer": 1}
	s.app.Instances = append(s.app.Instances, api.InstanceStatus{Healthy: true, Role: "candidate",
		Instance: gapless.Instance{Release: "v42", Process: "mailer", Slot: 1, State: gapless.Ready}})
	return s
}

// verdict is what the judge says of these counts at 5 %.
func verdict(candidate, stable gapless.Arm) *gapless.Verdict {
	j, err := judge.New(judge.Config{Candidate: "v42", Stable: "v41"})
	if err != nil {
		panic(err)
	}
	v := j.Observe([]gapless.Tally{
		{Release: "v42", Weight: .05, Requests: candidate.Requests, Bad: candidate.Bad},
		{Release: "v41", Weight: .05, Requests: stable.Requests, Bad: stable.Bad}}).Verdict(.05)
	return &v
}

// change does something to the rollout and wakes who listens.
func (s *fake) change(f func(r *gapless.Rollout)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := *s.app.Rollout
	f(&r)
	s.app.Rollout = &r
	close(s.changed)
	s.changed = make(chan struct{})
}

// say adds an event.
func (s *fake) say(kind, message string) {
	s.change(func(*gapless.Rollout) {
		s.events = append(s.events, gapless.Event{Seq: int64(len(s.events) + 1), Time: time.Now(), App: "shop", Rollout: "r1", Kind: kind, Message: message})
	})
}

func (s *fake) finish(o gapless.Outcome) {
	s.change(func(r *gapless.Rollout) { r.Outcome, r.Finished = o, time.Now() })
	s.say("rollout.finished", "v42 serves")
}

// called waits until the command asked for something.
func (s *fake) called(t *testing.T, what string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		s.mu.Lock()
		ok := slices.Contains(s.calls, what)
		s.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s was not asked for", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *fake) Status(context.Context) (api.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked != nil {
		s.asked(&s.app)
	}
	return api.Status{Apps: []api.AppStatus{s.app}}, nil
}

func (s *fake) Rollout(context.Context, string) (gapless.Rollout, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.app.Rollout, nil
}

func (s *fake) Releases(context.Context, string) ([]gapless.Release, error) {
	return []gapless.Release{{Name: "v42", ID: "0123456789abcdef", App: "shop", Created: time.Now(), Runtime: gapless.Runtime{Name: "node", Version: "20.20.2"},
		Commands: map[string][]string{"web": {"node", "a-server-with-a-name-that-is-rather-long.js", "--port", "$PORT"}}},
		{Name: "v41", ID: "fedcba9876543210", App: "shop", Created: time.Now().Add(-time.Hour)}}, nil
}

func (s *fake) Rollouts(context.Context, string) ([]gapless.Rollout, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []gapless.Rollout{*s.app.Rollout}, nil
}

func (s *fake) steer(what string, f func(*gapless.Rollout)) (gapless.Rollout, error) {
	s.change(func(r *gapless.Rollout) {
		f(r)
		s.calls = append(s.calls, what)
	})
	return s.Rollout(context.Background(), "")
}

func (s *fake) Pause(context.Context, string) (gapless.Rollout, error) {
	return s.steer("pause", func(r *gapless.Rollout) { r.Waiting = "paused by a person at 5 %" })
}

func (s *fake) Resume(context.Context, string) (gapless.Rollout, error) {
	return s.steer("resume", func(r *gapless.Rollout) { r.Waiting = "" })
}

func (s *fake) Abort(context.Context, string) (gapless.Rollout, error) {
	defer s.finish(gapless.TakenBack)
	return s.steer("abort", func(r *gapless.Rollout) { r.Reason = "aborted by a person" })
}

func (s *fake) Events(ctx context.Context, _ string, since int64) (iter.Seq2[gapless.Event, error], error) {
	return func(yield func(gapless.Event, error) bool) {
		for {
			s.mu.Lock()
			news, changed := slices.Clone(s.events[since:]), s.changed
			s.mu.Unlock()
			for _, e := range news {
				since = e.Seq
				if !yield(e, nil) || e.Kind == "rollout.finished" {
					return
				}
			}
			if len(news) > 0 {
				continue
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
		}
	}, nil
}

func (s *fake) Logs(context.Context, string, api.LogRequest) (iter.Seq2[api.LogLine, error], error) {
	return func(yield func(api.LogLine, error) bool) {
		yield(api.LogLine{Label: "v42/2", Stream: "err", Text: "TypeError:\tx is \x1b[31mnot\x1b[0m a function\x1b[2J\a " + string(bytes.Repeat([]byte("z"), 300))}, nil)
	}, nil
}

// home offers s as the daemon of a home.
func (s *fake) home(t *testing.T) string {
	t.Helper()
	return filepath.Dir(filepath.Dir(s.serve(t)))
}

// serve offers s on a socket.
func (s *fake) serve(t *testing.T) (socket string) {
	t.Helper()
	return serve(t, s)
}

// serve offers any service on a socket.
func serve(t *testing.T, s api.Service) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "gl-") // short, for the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = daemon.Home(dir).APISocket()
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: api.Handler(s, slog.New(slog.DiscardHandler))}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { _ = server.Close() })
	return socket
}
