package cli

import (
	"fmt"
	"math"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/charmbracelet/x/ansi"

	"gapless"
	"gapless/internal/api"
)

// frameEvery bounds how often the live view draws.
const frameEvery = 200 * time.Millisecond

// live is the view of a rollout on a terminal: events scroll by, and a few
// lines below them are drawn again in place. A nil live shows nothing.
type live struct {
	term   *term
	block  block
	keys   *keys
	ticker *time.Ticker
	look   look
	events []string // not yet on the screen
	began  time.Time
	closed bool
}

func newLive(t *term, r gapless.Rollout) *live {
	l := &live{term: t, block: block{out: t.err, size: t.size}, ticker: time.NewTicker(frameEvery), look: look{rollout: r}, began: r.Started}
	if l.began.IsZero() {
		l.began = time.Now()
	}
	l.keys = readKeys(os.Stdin)
	return l
}

// tick is when to draw.
func (l *live) tick() <-chan time.Time {
	if l == nil {
		return nil
	}
	return l.ticker.C
}

// typed are the keys that the person hits.
func (l *live) typed() <-chan byte {
	if l == nil || l.keys == nil {
		return nil
	}
	return l.keys.typed
}

func (l *live) update(now look) {
	if l != nil {
		l.look = now
	}
}

// event lets one event scroll by.
func (l *live) event(e gapless.Event) {
	mark, style := markOf(e)
	if e.Kind == "instance.log" {
		l.say(faint.Render(e.Instance+" │") + " " + plainText(e.Message))
		return
	}
	l.say(style.Render(mark) + " " + plainText(e.Message))
}

func (l *live) say(line string) { l.events = append(l.events, "  "+line) }

func (l *live) draw() {
	width, height := l.block.size()
	l.block.draw(l.events, l.frame(width, height, false))
	l.events = nil
}

// close draws for the last time; what is on the screen stays.
func (l *live) close() {
	if l == nil || l.closed {
		return
	}
	l.closed = true
	l.ticker.Stop()
	if l.keys != nil {
		l.keys.close()
	}
	width, height := l.block.size()
	l.block.draw(l.events, l.frame(width, height, true))
}

// frame is what is drawn in place. Where the terminal is low, the last lines
// but the keys are left out.
func (l *live) frame(width, height int, last bool) []string {
	r := l.look.rollout
	lines := []string{l.head(r, width)}
	lines = append(lines, l.traffic(r, width)...)
	lines = append(lines, verdictLines(r)...)
	lines = append(lines, explained(r)...)
	lines = append(lines, complaintLines(r, 2)...)
	lines = append(lines, metricLines(r)...)
	lines = append(lines, copiesLines(r, 2)...)
	if !last {
		lines = append(lines, l.instances()...)
		for _, t := range l.look.tail {
			lines = append(lines, "  "+faint.Render(t.Label+" │")+" "+plainText(t.Text))
		}
	}
	room := max(1, height-2)
	if l.keys != nil && !last {
		room--
	}
	lines = lines[:min(len(lines), room)]
	if l.keys != nil && !last {
		pause := "p pause"
		if strings.HasPrefix(r.Waiting, "paused") {
			pause = "p go on"
		}
		lines = append(lines, "  "+faint.Render(pause+" · a abort · q leave, it goes on"))
	}
	for i := range lines {
		lines[i] = ansi.Truncate(lines[i], width-1, "…")
	}
	return lines
}

// head says what is under way: app, releases, strategy, step and time.
func (l *live) head(r gapless.Rollout, width int) string {
	elapsed := time.Since(l.began).Round(time.Second)
	if !r.Finished.IsZero() {
		elapsed = r.Finished.Sub(r.Started).Round(time.Second)
	}
	clock := fmt.Sprintf("%02d:%02d", int(elapsed.Minutes()), int(elapsed.Seconds())%60)
	what := bold.Render(r.App) + "  " + clock + "  " + fromTo(r)
	if len(r.Plan) == 0 {
		return what + "  making the release"
	}
	at := min(r.Cursor, len(r.Plan)-1)
	step := fmt.Sprintf("▸ %d/%d %s", at+1, len(r.Plan), r.Plan[at])
	if width >= 60 {
		step = fmt.Sprintf("%s  ▸ step %d of %d: %s", kindOf(r), at+1, len(r.Plan), r.Plan[at])
	}
	if r.Waiting != "" {
		step = bad.Render("! " + r.Waiting)
	}
	return what + "  " + step
}

// fromTo is "v41 → v42".
func fromTo(r gapless.Rollout) string {
	switch {
	case r.To == "":
		return r.Kind
	case r.From == "" || r.From == r.To:
		return r.To
	}
	return r.From + " → " + r.To
}

// kindOf is the strategy of a deployment, or what else it is.
func kindOf(r gapless.Rollout) string {
	if r.Strategy != "" && (r.Kind == "deploy" || r.Kind == "up") {
		return r.Strategy
	}
	return r.Kind
}

// traffic draws a bar per release for its share as it is served.
func (l *live) traffic(r gapless.Rollout, width int) []string {
	weights := l.look.app.Weights
	if len(weights) == 0 {
		return nil
	}
	names := 0
	for _, w := range weights {
		names = max(names, len(w.Release))
	}
	bar := min(24, max(6, width/4))
	var lines []string
	for _, w := range weights {
		full := int(math.Round(w.Share * float64(bar)))
		if w.Share > 0 {
			full = max(1, full)
		}
		style := faint
		if w.Release == r.To {
			style = good
		}
		line := fmt.Sprintf("  %-*s %s%s %6s", names, w.Release, style.Render(strings.Repeat("█", full)),
			faint.Render(strings.Repeat("░", bar-full)), gapless.Percent(w.Share))
		for _, t := range l.look.app.Releases {
			if t.Release == w.Release {
				line += "  " + figures(t)
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// figures are what the edge counted of one release.
func figures(t gapless.ReleaseTraffic) string {
	wrong := fmt.Sprintf("%d bad", t.Failed+t.Status[5])
	if t.Failed+t.Status[5] > 0 {
		wrong = bad.Render(wrong)
	}
	text := fmt.Sprintf("%d %s · %s", t.Requests, plural("request", int(t.Requests)), wrong)
	if t.Requests > 0 {
		text += fmt.Sprintf(" · p50 %s · p99 %s", milliseconds(gapless.Quantile(t.Latency, .5)), milliseconds(gapless.Quantile(t.Latency, .99)))
	}
	return text
}

// verdictLines are the judge's word and the evidence behind it.
func verdictLines(r gapless.Rollout) []string {
	v := r.Verdict
	if v == nil {
		return nil
	}
	word, style := "undecided", faint
	switch v.Kind {
	case gapless.Worse:
		word, style = "worse", bad
	case gapless.NotWorse:
		word, style = "not worse", good
	}
	counts := evidence(r)
	if counts == "" || v.Kind == gapless.Worse {
		counts = plainText(v.Reason)
	}
	lines := []string{"  " + style.Render(word) + "  " + counts}
	if line := needed(v); line != "" && r.Outcome == gapless.Running {
		if r.Missing.For > 0 {
			line += fmt.Sprintf(" · proven in about %s at the present rate", r.Missing.For)
		}
		lines = append(lines, "  "+faint.Render(line))
	}
	return lines
}

// instances lists the candidate's instances first, then those on their way out.
func (l *live) instances() []string {
	var lines []string
	line := func(role string, in func(api.InstanceStatus) bool) {
		var parts []string
		for _, i := range l.look.app.Instances {
			if !in(i) {
				continue
			}
			state := string(i.State)
			if !i.Healthy {
				state += ", unhealthy"
			}
			if i.State == gapless.Draining && i.InFlight > 0 {
				state += fmt.Sprintf(" (%d in flight)", i.InFlight)
			}
			text := i.Label() + " " + state
			if troubled(i) {
				text = bad.Render(text)
			}
			parts = append(parts, text)
		}
		if len(parts) > 0 {
			lines = append(lines, "  "+faint.Render(role)+" "+strings.Join(parts, " · "))
		}
	}
	to := l.look.rollout.To
	line("new", func(i api.InstanceStatus) bool { return i.Release == to && i.Role != "leaving" })
	line("old", func(i api.InstanceStatus) bool { return i.Release != to || i.Role == "leaving" })
	return lines
}

// plainText takes out what a terminal would act on.
func plainText(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case unicode.IsControl(r), r == '\u2028', r == '\u2029':
			return -1
		}
		return r
	}, ansi.Strip(s))
}
