package cli

import (
	"bufio"
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/judge"
)

// recording is what `gapless judge record --json` tells at its end, on stderr
// without it: what of the access log could be taken.
type recording struct {
	App       string `json:"app,omitempty"`
	Stable    string `json:"stable"`
	Candidate string `json:"candidate"`
	Lines     uint64 `json:"lines"`     // of the access log that were read
	Requests  uint64 `json:"requests"`  // that were written: a coin chose their release
	Before    uint64 `json:"before"`    // of these: of stable before the rollout, without a coin
	Others    uint64 `json:"others"`    // of other releases or rollouts, or chosen by a match
	Unread    uint64 `json:"unread"`    // lines that are not an access log's
	Displaced uint64 `json:"displaced"` // too far from their place in time to be put in order
}

func (c *command) judgeRecord() *cobra.Command {
	var rollout, log, stable, candidate, out string
	var since time.Duration
	cmd := &cobra.Command{
		Use:   "record [app]",
		Short: "Turn the access log of a rollout into requests for judge replay",
		Long: `Read the access log (access_log: true in gapless.yaml, its JSON format) and write
the requests of a rollout, one JSON object per line, for gapless judge replay: those
that a coin gave to one of both releases, and those of stable before it began.

The newest rollout is taken, or --rollout. With --log a file is read instead of
the app's own, and with --stable and --candidate nothing is asked of gapless.

Exit codes: 0 if requests were written, 2 if there were none, or for wrong usage.`,
		Example: `  gapless judge record shop > shop.ndjson
  gapless judge record shop --since 1h --rollout 20260102t030405-abcde -o shop.ndjson
  gapless judge record --log access.log --stable v6 --candidate v7 | gapless judge replay -`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (stable == "") != (candidate == "") || candidate != "" && (rollout != "" || stable == candidate) {
				return gapless.Errorf(gapless.Invalid, "--stable and --candidate name the two releases together, and then there is no --rollout")
			}
			if since < 0 {
				return gapless.Errorf(gapless.Invalid, "--since %s is below 0", since).WithHint("write how far back to read, as in --since 1h")
			}
			r := recorder{recording: recording{Stable: stable, Candidate: candidate}}
			if since > 0 {
				r.from = time.Now().Add(-since)
			}
			var lines func(func(string) error) error
			if log != "" {
				lines = func(each func(string) error) error { return eachLine(log, each) }
			}
			if candidate == "" || log == "" {
				client, name, err := c.meant(cmd.Context(), args)
				if err != nil {
					return err
				}
				r.App = name
				if candidate == "" {
					if err := r.of(cmd.Context(), client, rollout); err != nil {
						return err
					}
				}
				if log == "" {
					lines = accessLines(cmd.Context(), client, name)
				}
			}
			if err := r.writeTo(c.term.out, out, lines); err != nil {
				if errors.Is(err, syscall.EPIPE) {
					return nil // gapless judge record | head
				}
				return err
			}
			return c.recorded(r.recording, out)
		},
	}
	f := cmd.Flags()
	f.StringVar(&rollout, "rollout", "", "the `id` of the rollout; default: the newest that replaced a release")
	f.DurationVar(&since, "since", 0, "only what ended so long ago at most; default: from an hour before the rollout on")
	f.StringVar(&log, "log", "", "read this `file` instead of the app's access log; - is stdin")
	f.StringVar(&stable, "stable", "", "the `release` to compare with")
	f.StringVar(&candidate, "candidate", "", "the `release` that is judged")
	f.StringVarP(&out, "output", "o", "", "write to this `file` instead of stdout")
	return cmd
}

// recorded tells what became of the log.
func (c *command) recorded(r recording, out string) error {
	if r.Requests == 0 {
		return gapless.Errorf(gapless.NotFound, "no request of %s and %s was chosen by a coin, of %d lines (%d of others, %d unreadable)", r.Stable, r.Candidate, r.Lines, r.Others, r.Unread).
			WithHint("the access log must be JSON, and must have been on during the rollout: access_log: true in gapless.yaml")
	}
	c.term.sayf("%d requests of %s and %s, %d of them from before the rollout", r.Requests, r.Stable, r.Candidate, r.Before)
	if r.Unread > 0 || r.Displaced > 0 {
		c.term.sayf("left out: %d lines that are not JSON of an access log, %d too far out of order", r.Unread, r.Displaced)
	}
	if out != "" && c.json {
		return c.term.json(r)
	}
	return nil
}

// of finds the rollout whose requests are wanted.
func (r *recorder) of(ctx context.Context, client *api.Client, id string) error {
	list, err := client.Rollouts(ctx, r.App)
	if err != nil {
		return err
	}
	for _, o := range list {
		if id != "" && o.ID != id || o.From == "" || o.From == o.To {
			continue
		}
		r.Stable, r.Candidate, r.started, r.ended = o.From, o.To, o.Started, o.Finished
		if r.from.IsZero() {
			r.from = o.Started.Add(-time.Hour)
		}
		return nil
	}
	if id != "" {
		return gapless.Errorf(gapless.NotFound, "%s has no rollout %q in which one release replaced another", r.App, id).WithHint("gapless history %s lists them", r.App)
	}
	return gapless.Errorf(gapless.NotFound, "no release of %s was ever replaced by another", r.App).WithHint("deploy a second one, or name two with --stable and --candidate")
}

// recorder turns lines of an access log into events in order.
type recorder struct {
	recording
	from           time.Time // zero: from the beginning
	started, ended time.Time // of the rollout; zero: not known, still running
	began          bool      // a coin was tossed
	last           float64   // time of the last event that was written
	waiting        byTime
}

// mostWaiting is how many events are put in order: the edge's threads write
// their lines in pieces.
const mostWaiting = 1 << 16

func accessLines(ctx context.Context, client *api.Client, app string) func(func(string) error) error {
	return func(each func(string) error) error {
		for line, err := range client.Logs(ctx, app, api.LogRequest{Access: true, Lines: 1 << 30}) {
			if err == nil {
				err = each(line.Text)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
}

func eachLine(path string, each func(string) error) error {
	in, err := openRecorded(path, "--log reads the file of an access log; - is stdin")
	if err != nil {
		return err
	}
	defer in.Close()
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, mostLine), mostLine)
	for mark := byteOrderMark; lines.Scan(); mark = "" {
		if err := each(strings.TrimPrefix(lines.Text(), mark)); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return unreadable(path, err).WithHint("lines of an access log have at most %d bytes", mostLine)
	}
	return nil
}

// writeTo writes all events to a file, or to stdout if it has no name.
func (r *recorder) writeTo(stdout io.Writer, path string, lines func(func(string) error) error) (err error) {
	to := stdout
	if path != "" {
		f, err := os.Create(path)
		if err != nil {
			return gapless.Errorf(gapless.Invalid, "%w", err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		to = f
	}
	w := bufio.NewWriter(to)
	if err := lines(func(line string) error { return r.take(w, line) }); err != nil {
		return err
	}
	for len(r.waiting) > 0 {
		if err := r.write(w); err != nil {
			return err
		}
	}
	return w.Flush()
}

// accessed is what is needed of a line of the access log.
type accessed struct {
	Time     time.Time `json:"time"`
	Release  string    `json:"release"`
	Instance string    `json:"instance"`
	Status   int       `json:"status"`
	Duration float64   `json:"duration"` // seconds
	Weight   float64   `json:"weight"`   // the candidate's share, where a coin chose the release
	Bad      bool      `json:"bad"`
	Session  string    `json:"session"`
	End      string    `json:"end"`
}

func (r *recorder) take(w *bufio.Writer, line string) error {
	r.Lines++
	var a accessed
	if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &a) != nil || a.Time.IsZero() {
		r.Unread++
		return nil
	}
	e := judge.Event{
		T: float64(a.Time.UnixMilli()) / 1000, Candidate: a.Release == r.Candidate, W: a.Weight,
		Bad: a.Bad, MS: math.Round(a.Duration*1e6) / 1000, // the log has microseconds
		Session: a.Session, Instance: a.Instance,
	}
	before := a.Weight == 0 && a.Release == r.Stable && (r.started.IsZero() && !r.began || a.Time.Before(r.started))
	switch {
	case a.Time.Before(r.from):
		return nil
	case a.Release != r.Stable && a.Release != r.Candidate,
		!before && (a.Weight <= 0 || a.Weight > 1 || a.Time.Before(r.started) || !r.ended.IsZero() && a.Time.After(r.ended)):
		r.Others++
		return nil
	case before:
		e.Bad, e.Session = a.Status >= 500 || a.End == "broke off", ""
	default:
		r.began = true
	}
	heap.Push(&r.waiting, e)
	if len(r.waiting) > mostWaiting {
		return r.write(w)
	}
	return nil
}

// write writes the earliest event that waits.
func (r *recorder) write(w *bufio.Writer) error {
	e := heap.Pop(&r.waiting).(judge.Event)
	if r.Requests > 0 && e.T < r.last || e.W == 0 && r.Requests > r.Before {
		r.Displaced++
		return nil
	}
	r.last = e.T
	r.Requests++
	if e.W == 0 {
		r.Before++
	}
	_, err := w.Write(e.Append(w.AvailableBuffer()))
	return err
}

// byTime is a heap of events, the earliest first.
type byTime []judge.Event

func (b byTime) Len() int           { return len(b) }
func (b byTime) Less(i, j int) bool { return b[i].T < b[j].T }
func (b byTime) Swap(i, j int)      { b[i], b[j] = b[j], b[i] }
func (b *byTime) Push(v any)        { *b = append(*b, v.(judge.Event)) }
func (b *byTime) Pop() any {
	last := len(*b) - 1
	e := (*b)[last]
	*b = (*b)[:last]
	return e
}
