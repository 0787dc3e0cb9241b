package load

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Counts of finished samples: Requests = OK + Dropped + Bad.
type Counts struct {
	Requests int `json:"requests"`
	OK       int `json:"ok"`
	Dropped  int `json:"dropped"` // no valid answer: refused, reset, hang, truncated, WebSocket closed other than with 1001 or by us
	Bad      int `json:"bad"`     // a whole answer that is wrong: status, body, release
}

func (c *Counts) add(class string) {
	c.Requests++
	switch {
	case class == "":
		c.OK++
	case Dropped(class):
		c.Dropped++
	default:
		c.Bad++
	}
}

func (c Counts) sub(prev Counts) Counts {
	return Counts{c.Requests - prev.Requests, c.OK - prev.OK, c.Dropped - prev.Dropped, c.Bad - prev.Bad}
}

// KindReport is about one kind of traffic. Latencies are of OK samples, from
// the intended start to the end (WebSocket, SSE: to the head of the answer).
type KindReport struct {
	Counts
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`

	hist *hist
}

func (k KindReport) with(h *hist) KindReport {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	k.hist, k.P50, k.P99, k.Max = h, ms(h.quantile(.5)), ms(h.quantile(.99)), ms(h.max)
	return k
}

// Report is what users would have seen.
type Report struct {
	Seconds float64 `json:"seconds"`
	Counts
	Kinds        map[Kind]KindReport `json:"kinds"`
	Releases     map[string]int      `json:"releases"` // answers by release, right or wrong
	Errors       map[string]int      `json:"errors"`   // by class
	WSClosed     map[int]int         `json:"ws_closed"`
	WSMessages   int                 `json:"ws_messages"`   // verified echoes
	WSUnanswered int                 `json:"ws_unanswered"` // sent, but not echoed before a close with 1001
	WSOpen       int                 `json:"ws_open"`       // open when the report was made
	SSEOpen      int                 `json:"sse_open"`
	IdleClosed   int                 `json:"idle_closed"` // idle connections that the server closed before the next request: no loss
	Late         int                 `json:"late"`        // arrivals sent more than 100 ms behind schedule, or not at all: this machine was too slow
	Skipped      int                 `json:"skipped"`     // of these: not sent
	Forgotten    int                 `json:"forgotten"`   // samples not kept because there were too many
}

// Since returns what came after an earlier report of the same run. Maxima
// stay those of the whole run.
func (r Report) Since(prev Report) Report {
	d := r
	d.Seconds -= prev.Seconds
	d.Counts = r.Counts.sub(prev.Counts)
	d.Kinds = map[Kind]KindReport{}
	for kind, k := range r.Kinds {
		before := prev.Kinds[kind]
		k.Counts = k.Counts.sub(before.Counts)
		if k.hist != nil {
			k = k.with(k.hist.sub(before.hist))
		}
		d.Kinds[kind] = k
	}
	d.Releases = subtract(r.Releases, prev.Releases)
	d.Errors = subtract(r.Errors, prev.Errors)
	d.WSClosed = subtract(r.WSClosed, prev.WSClosed)
	d.WSMessages -= prev.WSMessages
	d.WSUnanswered -= prev.WSUnanswered
	d.IdleClosed -= prev.IdleClosed
	d.Late -= prev.Late
	d.Skipped -= prev.Skipped
	d.Forgotten -= prev.Forgotten
	return d
}

func subtract[K comparable](m, prev map[K]int) map[K]int {
	d := map[K]int{}
	for k, n := range m {
		if n -= prev[k]; n != 0 {
			d[k] = n
		}
	}
	return d
}

// String is the report as a table for people.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%.1f s: %d requests, %d ok, %d dropped, %d bad\n", r.Seconds, r.Requests, r.OK, r.Dropped, r.Bad)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "kind\trequests\tok\tdropped\tbad\tp50 ms\tp99 ms\tmax ms\t")
	for _, kind := range kinds {
		if k, ok := r.Kinds[kind]; ok {
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%.1f\t%.1f\t%.1f\t\n", kind, k.Requests, k.OK, k.Dropped, k.Bad, k.P50, k.P99, k.Max)
		}
	}
	w.Flush()
	line(&b, "errors", r.Errors)
	line(&b, "releases", r.Releases)
	line(&b, "WebSockets closed", r.WSClosed)
	if r.WSUnanswered > 0 {
		fmt.Fprintf(&b, "WebSocket messages unanswered at a close with 1001: %d\n", r.WSUnanswered)
	}
	if r.Late > 0 {
		fmt.Fprintf(&b, "late: %d arrivals behind schedule, %d of them not sent: the load was not as asked for\n", r.Late, r.Skipped)
	}
	return b.String()
}

func line[K int | string](b *strings.Builder, title string, m map[K]int) {
	if len(m) == 0 {
		return
	}
	fmt.Fprintf(b, "%s:", title)
	for _, k := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(b, " %v ×%d", k, m[k])
	}
	b.WriteByte('\n')
}
