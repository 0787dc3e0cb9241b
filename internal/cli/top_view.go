package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"gapless"
	"gapless/internal/api"
)

// topView is what the person looks at: keys change it, frame draws it.
type topView struct {
	rows   []topRow
	apps   []api.AppStatus // of the last sample
	note   string          // why there is no newer one
	sort   int             // of topSorts
	filter string
	typing bool   // what is typed goes into filter
	at     string // id of the row that is chosen
	page   string // "": the table
	logs   []api.LogLine

	columns []int // of topSheet
}

// The pages of top.
const (
	pageLogs    = "logs"
	pageDetails = "details"
	pageHelp    = "help"
)

// key does what a key means, and reports whether it means to leave.
func (v *topView) key(k string) (leave bool) {
	if v.typing {
		v.edit(k)
		return false
	}
	switch k {
	case "q", "esc":
		switch {
		case v.page != "":
			v.page = ""
		case v.filter != "":
			v.filter = ""
		default:
			return k == "q"
		}
	case "?", "h":
		v.page = pageHelp
	case "l":
		v.open(pageLogs)
	case "d", "enter":
		v.open(pageDetails)
	case "/":
		v.page, v.typing = "", true
	case "s":
		v.sort = (v.sort + 1) % len(topSorts)
	case "S":
		v.sort = (v.sort + len(topSorts) - 1) % len(topSorts)
	case "j", "down":
		v.move(1)
	case "k", "up":
		v.move(-1)
	case "g", "home":
		v.move(-len(v.rows))
	case "G", "end":
		v.move(len(v.rows))
	}
	return false
}

// edit changes the filter.
func (v *topView) edit(k string) {
	switch {
	case k == "enter":
		v.typing = false
	case k == "esc":
		v.typing, v.filter = false, ""
	case k == "backspace":
		if r := []rune(v.filter); len(r) > 0 {
			v.filter = string(r[:len(r)-1])
		}
	case len(k) == 1 && k[0] >= ' ' && k[0] < 0x7f:
		v.filter += k
	}
}

func (v *topView) open(page string) {
	if _, ok := v.chosen(); ok {
		v.page, v.logs = page, nil
	}
}

// shown are the rows in their order.
func (v *topView) shown() []topRow { return arrange(v.rows, v.sort, v.filter) }

// chosen is the row under the cursor: the first one if it went away.
func (v *topView) chosen() (topRow, bool) {
	rows := v.shown()
	for _, r := range rows {
		if r.id() == v.at {
			return r, true
		}
	}
	if len(rows) == 0 {
		return topRow{}, false
	}
	return rows[0], true
}

func (v *topView) move(by int) {
	rows := v.shown()
	if len(rows) == 0 || v.page != "" {
		return
	}
	at := max(0, slices.IndexFunc(rows, func(r topRow) bool { return r.id() == v.at }))
	v.at = rows[min(max(0, at+by), len(rows)-1)].id()
}

// frame is the whole screen: at most height lines, none wider than width.
func (v *topView) frame(width, height int) []string {
	lines := []string{v.head()}
	room := max(1, height-2)
	switch v.page {
	case pageHelp:
		lines = append(lines, topHelp...)
	case pageDetails:
		lines = append(lines, v.details()...)
	case pageLogs:
		lines = append(lines, v.logLines(room)...)
	default:
		lines = append(lines, v.table(width, room)...)
	}
	lines = lines[:min(len(lines), height-1)]
	for len(lines) < height-1 {
		lines = append(lines, "")
	}
	lines = append(lines, v.foot())
	for i := range lines {
		lines[i] = ansi.Truncate(lines[i], width-1, "…")
	}
	return lines
}

func (v *topView) head() string {
	releases, instances := 0, 0
	for _, r := range v.rows {
		if r.Instance != "" {
			instances++
		} else if r.Release != "" {
			releases++
		}
	}
	text := bold.Render("gapless top")
	if r, ok := v.chosen(); ok && v.page != "" && v.page != pageHelp {
		text += "  " + v.page + " of " + strings.TrimSpace(r.App+" "+cmpOr(r.Instance, r.Release))
	} else {
		text += fmt.Sprintf("  %d %s · %d %s · %d %s · by %s", len(v.apps), plural("app", len(v.apps)),
			releases, plural("release", releases), instances, plural("instance", instances), topSorts[v.sort].name)
	}
	if v.note != "" {
		text += "  " + bad.Render("! "+plainText(v.note))
	}
	return text
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (v *topView) foot() string {
	switch {
	case v.typing:
		return "/" + v.filter + "_"
	case v.page != "":
		return faint.Render("q back · ? help")
	case v.filter != "":
		return "/" + v.filter + "  " + faint.Render("esc all · s sort · l logs · d details · q back")
	}
	return faint.Render("/ filter · s sort · l logs · d details · ? help · q leave")
}

// table is the head and as many rows as there is room for, the chosen one
// among them.
func (v *topView) table(width, room int) []string {
	rows := v.shown()
	if len(rows) == 0 {
		if v.filter != "" {
			return []string{"", "  nothing matches " + v.filter}
		}
		return []string{"", "  no apps; start one with: gapless up"}
	}
	cols, cells := make([]column, len(v.columns)), make([][]string, len(rows))
	for i, c := range v.columns {
		cols[i] = topSheet.columns[c]
	}
	for i, r := range rows {
		all := r.cells()
		for _, c := range v.columns {
			cells[i] = append(cells[i], all[c])
		}
	}
	lines := lay(cols, cells, width)
	chosen, _ := v.chosen()
	at := slices.IndexFunc(rows, func(r topRow) bool { return r.id() == chosen.id() })
	body := lines[1:]
	for i := range body {
		switch {
		case i == at:
			body[i] = bold.Render("▸" + body[i][1:])
		case rows[i].State == string(gapless.Crashed) || rows[i].State == string(gapless.Failed):
			body[i] = bad.Render(body[i])
		case value(rows[i].Errors) > 0:
			body[i] = bad.Render(body[i])
		}
	}
	room = max(1, room-1)
	from := min(max(0, at-room/2), max(0, len(body)-room))
	return append([]string{faint.Render(lines[0])}, body[from:min(len(body), from+room)]...)
}

// details are everything about the chosen row.
func (v *topView) details() []string {
	row, ok := v.chosen()
	if !ok {
		return nil
	}
	var lines []string
	say := func(name, format string, args ...any) {
		if text := plainText(fmt.Sprintf(format, args...)); text != "" {
			lines = append(lines, fmt.Sprintf("  %-10s %s", name, text))
		}
	}
	for _, a := range only(v.apps, row.App) {
		say("serves", "%s", weights(a))
		say("address", "%s", link(a))
		for _, t := range a.Releases {
			if t.Release == row.Release && row.Instance == "" {
				say("since start", "%s", ansi.Strip(figures(t)))
				say("answers", "2xx %d · 3xx %d · 4xx %d · 5xx %d · none %d", t.Status[2], t.Status[3], t.Status[4], t.Status[5], t.Failed)
				say("other", "%d aborted by the client · %d retried · %d held", t.Aborted, t.Retried, t.Held)
			}
		}
		if r := a.Rollout; r != nil && row.Instance == "" {
			say("rollout", "%s %s %s, %s", r.ID, r.Kind, fromTo(*r), outcomeWord(*r))
			say("why", "%s", r.Reason)
		}
		for _, in := range a.Instances {
			if in.Label() != row.Instance || in.Release != row.Release {
				continue
			}
			say("instance", "%s", in.ID)
			say("state", "%s for %s, as %s", in.State, age(in.Since), in.Role)
			if in.PID > 0 {
				say("process", "%d, %.1f s of processor time", in.PID, in.CPU)
			}
			say("listens", "%s", in.Address)
			say("requests", "%d, %d in flight", in.Requests, in.InFlight)
			say("memory", "%s", megabytes(in.Memory))
			if in.Exit != nil {
				say("last exit", "%s, %s ago", in.Exit, age(in.Exit.At))
			}
			say("restarts", "%d", in.Restarts)
			say("why", "%s", in.Reason)
			say("hint", "%s", in.Hint)
		}
	}
	return lines
}

// logLines are the last lines of the log that there is room for.
func (v *topView) logLines(room int) []string {
	if v.logs == nil {
		return []string{"  …"}
	}
	if len(v.logs) == 0 {
		return []string{"  nothing was printed"}
	}
	var lines []string
	for _, l := range v.logs[max(0, len(v.logs)-room):] {
		mark := "│"
		if l.Stream == "err" {
			mark = bad.Render("┃")
		}
		lines = append(lines, faint.Render(l.Time.Local().Format("15:04:05"))+" "+l.Label+" "+mark+" "+plainText(l.Text))
	}
	return lines
}

var topHelp = []string{
	"",
	"  j k, arrows   choose a row              g G   first, last",
	"  /             filter: app, release, instance, state",
	"  s S           sort: name, requests, errors, p99, cpu, memory, restarts",
	"  l             its log                   d, enter   everything about it",
	"  q esc         back; q leaves            Ctrl-C     leave",
	"",
	"  Rates, latency and CPU are of the last 5 seconds. 100 % CPU is one processor.",
	"  Errors are answers with 5xx, and no answer. Latency is measured by the edge.",
}

// keyReader turns the bytes of a terminal into keys.
type keyReader struct{ begun []byte }

// feed takes a byte and returns the key that it completes, "" if it does not.
func (k *keyReader) feed(b byte) string {
	if len(k.begun) > 0 {
		k.begun = append(k.begun, b)
		switch {
		case len(k.begun) == 2 && (b == '[' || b == 'O'):
			return ""
		case len(k.begun) > 2 && (b < '@' || b > '~'): // parameters
			return ""
		}
		name := map[string]string{"[A": "up", "[B": "down", "OA": "up", "OB": "down", "[H": "home", "[F": "end", "[5~": "home", "[6~": "end"}[string(k.begun[1:])]
		k.begun = nil
		return name
	}
	switch b {
	case 0x1b:
		k.begun = []byte{b}
		return ""
	case '\r', '\n':
		return "enter"
	case 0x7f, '\b':
		return "backspace"
	}
	return string(rune(b))
}

// rest is what was begun when nothing follows: escape by itself.
func (k *keyReader) rest() string {
	if len(k.begun) == 0 {
		return ""
	}
	k.begun = nil
	return "esc"
}
