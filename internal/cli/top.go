package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/api"
)

// How often top asks, and over how long it measures.
const (
	topEvery  = time.Second
	topWindow = 5 * time.Second
	topWait   = 3 * time.Second       // for an answer, before the person is told
	escapeIn  = 50 * time.Millisecond // the bytes of one key come together
)

// topped is what `gapless top --json` prints.
type topped struct {
	Time    time.Time `json:"time"`
	Seconds float64   `json:"seconds"` // that rates are measured over
	Rows    []topRow  `json:"rows"`
}

func (c *command) top() *cobra.Command {
	var once bool
	var f tableFlags
	cmd := &cobra.Command{
		Use:   "top [app]",
		Short: "Watch releases and instances: requests, errors, latency, CPU, memory",
		Long: `Watch releases and instances as they serve: requests and errors per second, p50
and p99 of the last seconds as the edge measures them, CPU (100 % is one
processor), memory, requests in flight, restarts and weights. Keys: / filter,
s sort, l logs, d details, ? help, q leave.

Off a terminal, with --once or with --json it measures for one second, prints
that and ends; --json=stream goes on, a line per second.`,
		Example: `  gapless top
  gapless top shop --once
  gapless top --json | jq '.rows[] | select(.instance == null)'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			t := &topper{c: c, client: client}
			if len(args) > 0 {
				t.app = args[0]
			}
			picked, err := f.pick(topSheet)
			if err != nil {
				return err
			}
			if err := t.look(cmd.Context()); err != nil {
				return err
			}
			if once || c.json || c.term.piped {
				return t.print(cmd.Context(), f)
			}
			return t.watch(cmd.Context(), picked)
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "measure for a second, print that and end")
	f.add(cmd, topSheet, "leave no column out")
	return cmd
}

// topper asks the daemon now and then and remembers the last seconds.
type topper struct {
	c       *command
	client  *api.Client
	app     string // "": all
	samples []topSample
}

// look takes a sample.
func (t *topper) look(ctx context.Context) error {
	st, err := t.client.Status(ctx)
	if err != nil {
		return err
	}
	if t.app != "" {
		apps := st.Apps
		if st.Apps = only(apps, t.app); len(st.Apps) == 0 {
			return noApp(apps, t.app)
		}
	}
	t.add(topSample{time.Now(), st.Apps})
	return nil
}

// lookBriefly does not wait long for a daemon that is away.
func (t *topper) lookBriefly(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, topWait)
	defer cancel()
	err := t.look(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return gapless.Errorf(gapless.Unavailable, "the daemon does not answer")
	}
	return err
}

func (t *topper) add(s topSample) {
	t.samples = append(t.samples, s)
	old := slices.IndexFunc(t.samples, func(o topSample) bool { return s.at.Sub(o.at) <= topWindow+topEvery/2 })
	t.samples = t.samples[max(0, old):]
}

// print measures for a second and prints that; as a stream it goes on.
func (t *topper) print(ctx context.Context, f tableFlags) error {
	for {
		if err := pause(ctx, topEvery); err != nil {
			if t.c.stream {
				return nil // Ctrl-C is how one leaves
			}
			return err
		}
		if err := t.look(ctx); err != nil {
			return err
		}
		t.samples = t.samples[len(t.samples)-2:]
		rows := measure(t.samples)
		if t.c.json {
			out := topped{Time: t.samples[1].at.UTC(), Seconds: t.samples[1].at.Sub(t.samples[0].at).Seconds(), Rows: rows}
			if err := t.c.answer(out); err != nil || !t.c.stream {
				return err
			}
			continue
		}
		if len(rows) == 0 {
			t.c.term.answerf("no apps")
			t.c.term.hintf("start one with: gapless up")
			return nil
		}
		cells := make([][]string, len(rows))
		for i, r := range rows {
			cells[i] = r.cells()
		}
		return t.c.term.sheet(topSheet, f, cells)
	}
}

// watch draws on the whole screen until the person leaves.
func (t *topper) watch(ctx context.Context, columns []int) error {
	s := newScreen(t.c.term)
	defer s.close()
	var typed <-chan byte
	if keys := readKeys(os.Stdin); keys != nil {
		typed = keys.typed
		defer keys.close()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	v := &topView{columns: columns}
	v.rows, v.apps = measure(t.samples), t.samples[0].apps
	news, asks := make(chan func(*topView)), make(chan topRow, 1)
	go t.poll(ctx, news, asks)
	frames := time.NewTicker(frameEvery)
	defer frames.Stop()
	var reader keyReader
	var escape <-chan time.Time
	for {
		s.draw(v.frame)
		key := ""
		select {
		case <-ctx.Done():
			return nil // Ctrl-C is how one leaves
		case change := <-news:
			change(v)
		case <-frames.C: // the size may be another one
		case b := <-typed:
			key, escape = reader.feed(b), time.After(escapeIn)
		case <-escape:
			key = reader.rest()
		}
		if key == "" {
			continue
		}
		if v.key(key) {
			return nil
		}
		select { // whose log is looked at; only the last wish counts
		case <-asks:
		default:
		}
		row := topRow{}
		if v.page == pageLogs {
			row, _ = v.chosen()
		}
		asks <- row
	}
}

// poll asks the daemon, and sends what it learned as changes of the view.
func (t *topper) poll(ctx context.Context, news chan<- func(*topView), asks <-chan topRow) {
	tick := time.NewTicker(topEvery)
	defer tick.Stop()
	send := func(change func(*topView)) {
		select {
		case news <- change:
		case <-ctx.Done():
		}
	}
	var of topRow
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case of = <-asks:
		case <-tick.C:
			if err := t.lookBriefly(ctx); err != nil {
				send(func(v *topView) { v.note = err.Error() })
			} else {
				rows, apps := measure(t.samples), t.samples[len(t.samples)-1].apps
				send(func(v *topView) { v.rows, v.apps, v.note = rows, apps, "" })
			}
		}
		if of.App != "" {
			lines := []api.LogLine{}
			for l, err := range t.client.Logs(ctx, of.App, api.LogRequest{Lines: 200, Instance: cmpOr(of.Instance, of.Release)}) {
				if err != nil {
					break
				}
				lines = append(lines, l)
			}
			send(func(v *topView) {
				if row, _ := v.chosen(); v.page == pageLogs && row.id() == of.id() {
					v.logs = lines
				}
			})
		}
	}
}

// noApp says that there is no app of that name, and which one may have been meant.
func noApp(apps []api.AppStatus, name string) error {
	names := make([]string, len(apps))
	for i, a := range apps {
		names[i] = a.Name
	}
	err := gapless.Errorf(gapless.NotFound, "no app %q", name)
	if near := gapless.Nearest(name, names); near != "" {
		return err.WithHint("did you mean %s?", near)
	}
	return err.WithHint("list them with: gapless status")
}

// screen is the whole terminal: its other buffer, so that what was there
// before is there again afterwards.
type screen struct {
	term  *term
	shown string
}

func newScreen(t *term) *screen {
	_, _ = io.WriteString(t.out, "\x1b[?1049h\x1b[?25l")
	return &screen{term: t}
}

func (s *screen) close() { _, _ = io.WriteString(s.term.out, "\x1b[?25h\x1b[?1049l") }

// draw draws if something changed.
func (s *screen) draw(frame func(width, height int) []string) {
	width, height := s.term.size()
	now := fmt.Sprintf("\x1b[H%s\x1b[K\x1b[J", strings.Join(frame(max(20, width), max(3, height)), "\x1b[K\r\n"))
	if now != s.shown {
		s.shown = now
		_, _ = io.WriteString(s.term.out, now)
	}
}
