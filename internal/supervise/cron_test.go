//go:build linux

package supervise

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"gapless"
)

func scheduled(cron string, argv ...string) func(*gapless.Release) {
	return func(r *gapless.Release) {
		worker(argv...)(r)
		r.Spec.Processes[0].Cron = cron
	}
}

func TestCronRunsForReal(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	in := b.start(b.release(`require('fs').appendFileSync('runs','x');process.exit(3)`, scheduled("@every 1s", "node", "app.js")))
	got, _ := b.get(in.ID)
	if got.State != gapless.Ready || got.PID != 0 {
		t.Errorf("scheduled instance is %+v", got)
	}
	wantText(t, "reason", got.Reason, "next run at ")
	got = b.until(in.ID, "run", func(in gapless.Instance) bool { return in.Exit != nil && in.PID == 0 })
	wantText(t, "reason", got.Reason, "the last run exited with code 3 after", "; next run at ")
	if got.Exit.Code != 3 || got.State != gapless.Ready || got.Restarts != 0 {
		t.Errorf("after the run it is %+v, exit %v", got, got.Exit)
	}
	b.stop(in.ID)
	runs, _ := os.ReadFile(filepath.Join(b.host.spec(b.host.started()[0]).Dir, "runs"))
	if len(runs) == 0 || len(runs) > len(b.host.started()) {
		t.Errorf("%d runs of %d processes", len(runs), len(b.host.started()))
	}
}

func TestCronStopEndsARun(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	in := b.start(b.release(`process.on('SIGTERM',()=>setTimeout(()=>{require('fs').writeFileSync('done','1');process.exit(0)},200));
		require('fs').writeFileSync('up','1');setInterval(()=>{},1000)`, scheduled("@every 1s", "node", "app.js")))
	b.until(in.ID, "running", func(in gapless.Instance) bool { return in.PID != 0 })
	dir := b.host.spec(b.host.started()[0]).Dir
	waitFile(t, filepath.Join(dir, "up"))
	b.stop(in.ID)
	if _, err := os.Stat(filepath.Join(dir, "done")); err != nil {
		t.Error("the run was killed before its grace was over")
	}
}

func TestCronThatCannotWork(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct{ cron, program, want string }{
		{"every day", "node", "cron"},
		{"0 0 30 2 *", "node", "never comes"},
		{"@daily", "no-such-program", "no such program"},
	} {
		rel := b.release(``, scheduled(c.cron, c.program))
		in := instanceOf(rel)
		err := b.Start(t.Context(), in, rel, nil)
		if err == nil {
			t.Fatalf("%v is accepted", c)
		}
		wantText(t, "error", err.Error(), c.want)
		b.Forget(in.ID)
	}
}

// memoryHost plays processes that run for a given time; for tests in which
// time is played, too.
type memoryHost struct {
	mu      sync.Mutex
	lasts   func(run int) (time.Duration, int) // how long, exit code
	exited  func(Proc)
	started []time.Time
	running map[string]bool
}

func (h *memoryHost) Start(_ context.Context, s Spec) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d, code := h.lasts(len(h.started))
	h.started = append(h.started, time.Now())
	h.running[s.ID] = true
	time.AfterFunc(d, func() { h.end(s.ID, gapless.Exit{Code: code, At: time.Now()}) })
	return 1<<30 + len(h.started), nil
}

func (h *memoryHost) end(id string, e gapless.Exit) {
	h.mu.Lock()
	was := h.running[id]
	delete(h.running, id)
	h.mu.Unlock()
	if was {
		h.exited(Proc{ID: id, Exit: &e})
	}
}

func (h *memoryHost) Signal(_ context.Context, id string, _ syscall.Signal) error {
	h.end(id, gapless.Exit{Code: -1, Signal: "SIGTERM", At: time.Now()})
	return nil
}

func (h *memoryHost) List(context.Context) ([]Proc, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []Proc
	for id := range h.running {
		list = append(list, Proc{ID: id, Running: true})
	}
	return list, nil
}

func (h *memoryHost) Forget(context.Context, string) error { return nil }

func TestCronSchedule(t *testing.T) {
	home, tree := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		h := &memoryHost{running: map[string]bool{}, lasts: func(run int) (time.Duration, int) {
			return []time.Duration{time.Minute, 11 * time.Minute, time.Second, time.Second, time.Second}[run], 0
		}}
		s := New(Config{Host: h, Home: home, Log: slog.New(slog.NewTextHandler(&log, nil))})
		h.exited = s.Exited
		rel := &gapless.Release{App: "shop", Name: "v1", Tree: tree}
		scheduled("*/5 * * * *", "sleep", "1")(rel)
		in := instanceOf(rel)
		begin := time.Now() // midnight
		if err := s.Start(t.Context(), in, rel, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(26 * time.Minute)
		synctest.Wait()
		// 0:05 for a minute; 0:10 for eleven, so that 0:15 and 0:20 are skipped; 0:25.
		var got []string
		for _, at := range h.started {
			got = append(got, at.Sub(begin).String())
		}
		if want := "5m0s 10m0s 25m0s"; strings.Join(got, " ") != want {
			t.Errorf("ran at %v, want %s", got, want)
		}
		if n := strings.Count(log.String(), "is skipped"); n != 2 {
			t.Errorf("told of %d skipped runs, want 2:\n%s", n, log.String())
		}
		if err := s.Stop(t.Context(), in.ID); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if st := s.Observe()[0]; st.State != gapless.Stopped {
			t.Errorf("stopped instance is %+v", st)
		}
		s.Close()
	})
}

func TestCrashBackOffInTime(t *testing.T) {
	home, tree := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := &memoryHost{running: map[string]bool{}, lasts: func(run int) (time.Duration, int) {
			if run == 4 {
				return 2 * time.Minute, 1 // calm: the back-off starts anew
			}
			return 10 * time.Millisecond, 1
		}}
		s := New(Config{Host: h, Home: home})
		h.exited = s.Exited
		rel := &gapless.Release{App: "shop", Name: "v1", Tree: tree}
		worker("sleep", "1")(rel)
		in := instanceOf(rel)
		if err := s.Start(t.Context(), in, rel, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2*time.Minute + 3*time.Second)
		synctest.Wait()
		want := []time.Duration{110 * time.Millisecond, 210 * time.Millisecond, 410 * time.Millisecond, 810 * time.Millisecond, 2*time.Minute + 100*time.Millisecond}
		for n, w := range want {
			if len(h.started) <= n+1 {
				t.Fatalf("only %d runs", len(h.started))
			}
			if got := h.started[n+1].Sub(h.started[n]); got != w {
				t.Errorf("run %d came %s after the one before, want %s", n+1, got, w)
			}
		}
		s.Close()
	})
}
