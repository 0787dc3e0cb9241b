package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/judge"
)

func (c *command) judge() *cobra.Command {
	cmd := &cobra.Command{Use: "judge", Short: "Try the judge on recorded traffic", Args: cobra.NoArgs}
	cmd.AddCommand(c.judgeReplay(), c.judgeRecord())
	return cmd
}

// replayed is a line of `gapless judge replay --json`; the last one is final.
type replayed struct {
	Verdict           gapless.VerdictKind `json:"verdict"`
	T                 float64             `json:"t"` // seconds, in the stream's own time
	CandidateRequests uint64              `json:"candidate_requests"`
	CandidateBad      uint64              `json:"candidate_bad"`
	StableRequests    uint64              `json:"stable_requests"`
	StableBad         uint64              `json:"stable_bad"`
	Evidence          float64             `json:"evidence"` // that the candidate is worse: 1 / false-alarm rate decides
	Reason            string              `json:"reason"`
	Final             bool                `json:"final,omitempty"`
}

func newReplayed(s judge.Standing) replayed {
	return replayed{
		Verdict: s.Verdict.Kind, T: s.T, Reason: s.Verdict.Reason,
		CandidateRequests: s.Candidate.Requests, CandidateBad: s.Candidate.Bad,
		StableRequests: s.Stable.Requests, StableBad: s.Stable.Bad,
		Evidence: min(math.Exp(s.Verdict.Evidence.LnE), math.MaxFloat64),
	}
}

func (c *command) judgeReplay() *cobra.Command {
	var config judge.Config
	var stop bool
	var failOn string
	every := time.Second
	cmd := &cobra.Command{
		Use:   "replay FILE|-",
		Short: "Say what the judge would have said of recorded requests",
		Long: `Read requests, one JSON object per line, by the time at which they ended, and
judge them as a rollout is judged: after every request, with limits of age from
what stable took before, and without the latencies of instances that warm up.

  {"t":12.5,"arm":"stable","w":0.1,"bad":false,"ms":12.3,"session":"a1","instance":"v1/2"}

t is in seconds, arm is the release that the coin gave the request to (stable or
candidate), w the candidate's share when it was tossed, bad a bad answer (5xx,
timeout, reset), ms how long it took. session and instance may be left out; with
session only its first request and its first bad answer count. Requests of
stable before the first with a w may have none: they tell what is normal.

Exit codes: 0 once all was read, whatever the verdict is; with --fail-on worse 3
if the candidate is worse, with --fail-on undecided also if it is not proven
that it is not; 2 for a line that cannot be read.`,
		Example: `  gapless judge record shop --since 1h > shop.ndjson
  gapless judge replay shop.ndjson
  my-own-log-to-ndjson | gapless judge replay - --stop --fail-on worse`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if failOn != "" && failOn != "worse" && failOn != "undecided" {
				return gapless.Errorf(gapless.Invalid, "--fail-on %s is neither worse nor undecided", failOn)
			}
			if every < 0 {
				return gapless.Errorf(gapless.Invalid, "--every %s is below 0", every).WithHint("write 1s or 1m; 0 shows changes only")
			}
			r, err := judge.NewReplay(config)
			if err != nil {
				return err
			}
			in, err := openRecorded(args[0], "a file of requests is made by gapless judge record; - reads them from stdin")
			if err != nil {
				return err
			}
			defer in.Close()
			name := args[0]
			if name == "-" {
				name = "stdin"
			}
			kind, err := c.replay(in, name, r, every, stop)
			switch {
			case errors.Is(err, syscall.EPIPE):
				return nil // gapless judge replay | head
			case err != nil:
				return err
			case kind == gapless.Worse && failOn != "" || kind == gapless.Undecided && failOn == "undecided":
				return &exitCode{gapless.RolledBack}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.Var(&shareFlag{&config.Alpha, false}, "false-alarm", "how often a candidate that is as good may be called worse (default 1%)")
	f.Var(&shareFlag{&config.Alpha, false}, "alpha", "the same as --false-alarm")
	f.Var(&shareFlag{&config.Errors, false}, "errors", "margin: so much more of all answers may be bad (default +0.5%)")
	for i, test := range gapless.QuantileTests() {
		f.Var(&shareFlag{&config.Slower[i], true}, string(test), fmt.Sprintf("margin: so much slower than stable's %s, or off (default +%d%%)", test, [...]int{10, 15, 25}[i]))
	}
	f.BoolVar(&stop, "stop", false, "stop reading at the first decision")
	f.DurationVar(&every, "every", every, "show the verdict once in so much of the stream's time, and when it changes; 0: only then")
	f.StringVar(&failOn, "fail-on", "", "exit with 3 if the verdict is worse, or undecided too")
	return cmd
}

// mostLine bounds a line of a stream, in bytes.
const mostLine = 64 << 10

// sinceEpoch tells seconds since 1970, as judge record writes them, from those
// since something in the stream: nobody wants to read "worse after 1795641470s".
const sinceEpoch = 1e8

// replay feeds a stream to r and shows how the verdict comes about.
func (c *command) replay(in io.Reader, name string, r *judge.Replay, every time.Duration, stop bool) (gapless.VerdictKind, error) {
	lines := bufio.NewReaderSize(in, mostLine)
	next, shown := math.Inf(-1), gapless.Undecided
	origin := 0.0 // what is told to people counts from here
	for n := 1; ; n++ {
		line, err := lines.ReadSlice('\n')
		if err == io.EOF && len(line) == 0 {
			break
		}
		if n == 1 {
			line = bytes.TrimPrefix(line, []byte(byteOrderMark))
		}
		var e judge.Event
		switch {
		case err == bufio.ErrBufferFull:
			err = gapless.Errorf(gapless.Invalid, "the line has more than %d bytes", mostLine).WithHint("a line is one request")
		case err != nil && err != io.EOF:
			return "", unreadable(name, err)
		default:
			if e, err = judge.ParseEvent(line); err == nil {
				err = r.Add(e)
			}
		}
		if err != nil {
			return "", gapless.Errorf(gapless.Invalid, "%s:%d: %w", name, n, err).WithHint("%s", gapless.HintOf(err))
		}
		if origin == 0 && e.W > 0 && e.T >= sinceEpoch {
			origin = e.T
		}
		kind := r.Kind()
		if due := every > 0 && e.T >= next && shown == gapless.Undecided; due || kind != shown {
			if err := c.showReplayed(r.Standing(), origin); err != nil {
				return "", err
			}
			next, shown = e.T+every.Seconds(), kind
		}
		if stop && kind != gapless.Undecided {
			break
		}
	}
	last := newReplayed(r.Standing())
	last.Final = true
	if c.json {
		return last.Verdict, c.term.jsonLine(last)
	}
	return last.Verdict, c.term.printf("%s after %s: %s\n", verdictWord(last.Verdict), seconds(last.T-origin), last.Reason)
}

func (c *command) showReplayed(s judge.Standing, origin float64) error {
	l := newReplayed(s)
	if c.json {
		return c.term.jsonLine(l)
	}
	return c.term.printf("%10s  %s · candidate %d of %d bad · stable %d of %d bad · evidence %.3g : 1%s\n", seconds(l.T-origin), verdictWord(l.Verdict),
		l.CandidateBad, l.CandidateRequests, l.StableBad, l.StableRequests, l.Evidence, map[bool]string{true: " · warming up"}[s.Verdict.Warming])
}

func verdictWord(k gapless.VerdictKind) string {
	switch k {
	case gapless.Worse:
		return bad.Render("worse")
	case gapless.NotWorse:
		return good.Render("not worse")
	}
	return "undecided"
}

func seconds(t float64) string { return strconv.FormatFloat(t, 'f', 3, 64) + "s" }

// shareFlag is a share that may be written as 0.5%, +0.5% or 0.005; off is
// below 0.
type shareFlag struct {
	to  *float64
	off bool // may be off
}

func (f *shareFlag) Type() string { return "share" }

func (f *shareFlag) String() string { return "" }

func (f *shareFlag) Set(v string) error {
	if f.off && v == "off" {
		*f.to = -1
		return nil
	}
	number, percent := strings.CutSuffix(strings.TrimPrefix(v, "+"), "%")
	x, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if percent {
		x /= 100
	}
	if err != nil || !(x > 0 && x <= 10) {
		return gapless.Errorf(gapless.Invalid, "%q is not a share", v).WithHint("write 0.5%% or 0.005")
	}
	*f.to = x
	return nil
}
