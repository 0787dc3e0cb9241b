package daemon

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"gapless"
	"gapless/internal/keeper"
)

// Of the log of a release that gives bad answers so much is looked at, and so
// much of it is told.
const (
	frequentLines  = 2000
	frequentTime   = time.Second // for reading
	frequentTold   = 5
	frequentLength = 200 // bytes of a line
	frequentFresh  = 2 * time.Second
)

// troubleWords are what lines about trouble usually have in them, also where
// an app writes everything to its standard output.
var troubleWords = regexp.MustCompile(`(?i)error|exception|fatal|panic|fail|unhandled|uncaught|refused|timed? ?out|ECONN|ENO|EMFILE|denied|cannot|undefined`)

// changing is what differs between lines that say the same: numbers, hashes,
// identities, times.
var changing = regexp.MustCompile(`0x[0-9a-fA-F]+|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]*[0-9][0-9a-fA-F]{7,}|[0-9]+([.:,][0-9]+)*`)

// mostFrequent groups lines that differ only in what changes from line to line
// and returns the largest groups, each with the first line that was given. A
// line that explains nothing by itself (a frame of a stack) is left out.
func mostFrequent(lines []string, most int) []gapless.LogCount {
	type group struct {
		gapless.LogCount
		order int
	}
	groups := map[string]*group{}
	for i, text := range lines {
		text = strings.TrimSpace(text)
		if text == "" || strings.HasPrefix(text, "at ") {
			continue
		}
		key := changing.ReplaceAllString(text, "#")
		g := groups[key]
		if g == nil {
			g = &group{gapless.LogCount{Text: text}, i}
			groups[key] = g
		}
		g.Count++
	}
	list := make([]*group, 0, len(groups))
	for _, g := range groups {
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b *group) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.order, b.order)) })
	var out []gapless.LogCount
	for _, g := range list[:min(most, len(list))] {
		g.Text = strings.ToValidUTF8(g.Text[:min(len(g.Text), frequentLength)], "")
		out = append(out, g.LogCount)
	}
	return out
}

// complaints are what the candidate of a rollout wrote most often about
// trouble, its secrets hidden.
func (d *Daemon) complaints(r *gapless.Rollout) []gapless.LogCount {
	ctx, cancel := context.WithTimeout(d.ctx, frequentTime)
	defer cancel()
	veil := d.veilOf(r.App, r.To)
	var lines []string
	opt := keeper.ReadOptions{Lines: frequentLines, Since: r.Started.Add(-time.Second), Filter: func(l keeper.Line) bool {
		return matches(l.Label, r.To) && (l.Stream == "err" || troubleWords.MatchString(l.Text)) &&
			(r.Finished.IsZero() || l.Time.Before(r.Finished.Add(time.Second)))
	}}
	for l, err := range keeper.ReadLogs(ctx, d.home.AppLog(r.App), opt) {
		if err != nil {
			d.log.Warn("read the log of a candidate", "app", r.App, "release", r.To, "err", err)
			break
		}
		lines = append(lines, veil(l.Text))
	}
	return mostFrequent(lines, frequentTold)
}

// complained remembers for a moment what the candidate of a rollout complains
// of: whoever watches asks twice a second.
type complained struct {
	mu      sync.Mutex
	rollout string
	at      time.Time
	lines   []gapless.LogCount
}

func (c *complained) of(r *gapless.Rollout, look func(*gapless.Rollout) []gapless.LogCount) []gapless.LogCount {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rollout != r.ID || time.Since(c.at) > frequentFresh {
		c.rollout, c.lines, c.at = r.ID, look(r), time.Now()
	}
	return c.lines
}

// failingTold is how many kinds of failing requests are told of.
const failingTold = 5

// failing is which requests failed most often at a release, at all edges that
// live or were there a moment ago, the most frequent first.
func (r *router) failing(app, release string) []gapless.Failing {
	reports, _, _ := r.evidence(app)
	sums := map[gapless.Failing]uint64{} // with Count 0
	for _, rep := range reports {
		for _, t := range rep.Releases {
			if t.App != app || t.Release != release {
				continue
			}
			for _, f := range t.Failing {
				n := f.Count
				f.Count = 0
				sums[f] += n
			}
		}
	}
	var out []gapless.Failing
	for f, n := range sums {
		f.Count = n
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b gapless.Failing) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method), cmp.Compare(a.Kind, b.Kind))
	})
	return out[:min(failingTold, len(out))]
}
