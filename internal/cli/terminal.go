package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/colorprofile"
	"github.com/charmbracelet/x/ansi"
	xterm "golang.org/x/term"

	"gapless"
)

// term is the terminal. Its rules: the answer goes to stdout, the story to
// stderr; colour is only a second signal beside words; off a terminal every
// line stands for itself, with its time.
type term struct {
	out, err io.Writer
	live     bool // stderr is a terminal
	piped    bool // stdout is not
	width    int
	colours  [2]*colorprofile.Writer // below out and err
}

var (
	good  = lipgloss.NewStyle().Foreground(lipgloss.Color("2"))
	bad   = lipgloss.NewStyle().Foreground(lipgloss.Color("1"))
	faint = lipgloss.NewStyle().Faint(true)
	bold  = lipgloss.NewStyle().Bold(true)
)

func newTerm() *term {
	env := os.Environ()
	t := &term{
		live:    xterm.IsTerminal(int(os.Stderr.Fd())) && os.Getenv("CI") == "" && os.Getenv("TERM") != "dumb",
		piped:   !xterm.IsTerminal(int(os.Stdout.Fd())),
		width:   100,
		colours: [2]*colorprofile.Writer{colorprofile.NewWriter(os.Stdout, env), colorprofile.NewWriter(os.Stderr, env)},
	}
	t.out, t.err = t.colours[0], t.colours[1]
	if os.Getenv("NO_COLOR") != "" { // any value counts; colorprofile wants a true one
		t.noColor()
	}
	if !unicodeLocale(os.Getenv) {
		t.out, t.err = asciiWriter{t.out}, asciiWriter{t.err}
	}
	if w, _, err := xterm.GetSize(int(os.Stdout.Fd())); err == nil && w > 0 {
		t.width = w
	}
	return t
}

// noColor takes colour away. Bold and faint stay where there is a terminal.
func (t *term) noColor() {
	for i, file := range []*os.File{os.Stdout, os.Stderr} {
		most := colorprofile.NoTTY
		if xterm.IsTerminal(int(file.Fd())) {
			most = colorprofile.ASCII
		}
		t.colours[i].Profile = min(t.colours[i].Profile, most)
	}
}

// answerf prints a line of the answer; on a terminal it is wrapped between words.
func (t *term) answerf(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if t.live && !t.piped && ansi.StringWidth(line) > t.width {
		line = ansi.Wrap(line, max(10, t.width), "")
	}
	fmt.Fprintln(t.out, line)
}

// sayf prints a line of the story.
func (t *term) sayf(format string, args ...any) { t.tell(fmt.Sprintf(format, args...), "") }

func (t *term) errorf(format string, args ...any) {
	t.tell(bad.Render("gapless: error:")+" "+fmt.Sprintf(format, args...), "")
}

// hintf says what to do next. Where the alternatives of a hint, separated by
// a dot, do not fit into one line, each gets its own.
func (t *term) hintf(format string, args ...any) {
	t.tell(faint.Render("hint:")+" "+fmt.Sprintf(format, args...), " · ")
}

// tell prints a line; on a terminal it is wrapped between words.
func (t *term) tell(line, sep string) {
	if width, _ := t.size(); t.live && ansi.StringWidth(line) >= width {
		if sep != "" {
			line = strings.ReplaceAll(line, sep, "\n      ")
		}
		line = ansi.Wrap(line, max(10, width-1), "")
	}
	fmt.Fprintln(t.err, line)
}

// json prints v as the answer.
func (t *term) json(v any) error {
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// event prints one event of a rollout as a line with its time.
func (t *term) event(e gapless.Event) {
	if e.Kind == "instance.log" {
		t.sayf("  %s %s", faint.Render(e.Instance+" │"), e.Message)
		return
	}
	t.sayf("%s %s %s: %s", e.Time.UTC().Format(time.RFC3339), e.App, e.Kind, e.Message)
}

// markOf is how an event looks at first sight.
func markOf(e gapless.Event) (string, lipgloss.Style) {
	switch {
	case e.Level == "error":
		return "✗", bad
	case e.Level == "warn":
		return "!", bad
	case e.Kind == "instance.ready" || e.Kind == "instance.drained" || e.Kind == "weight" || e.Kind == "rollout.finished":
		return "✓", good
	}
	return "·", faint
}

// size is the terminal's now, of stderr, where the story is told.
func (t *term) size() (width, height int) {
	w, h, err := xterm.GetSize(int(os.Stderr.Fd()))
	if err != nil || w <= 0 || h <= 0 {
		return t.width, 24
	}
	return w, h
}

// annotate tells GitHub Actions what its summary should show.
func (t *term) annotate(level, text string) {
	if os.Getenv("GITHUB_ACTIONS") != "true" {
		return
	}
	text = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(text)
	fmt.Fprintf(t.err, "::%s title=gapless::%s\n", level, text)
}
