package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"
	"github.com/spf13/cobra"

	"gapless"
)

// column is one column of a table.
type column struct {
	head  string
	drop  int  // where the terminal is too narrow, the highest goes first; 0: never dropped
	right bool // numbers
	text  bool // free text: cut to what the other columns leave, at least textWidth
	wide  bool // only there with --wide or --columns
}

// key is how --columns calls it: "in-flight" for IN FLIGHT.
func (c column) key() string { return strings.ReplaceAll(strings.ToLower(c.head), " ", "-") }

// textWidth is the width that free text is given before other columns are dropped for it.
const textWidth = 12

// sheet is a table that the reference describes: its columns and their order.
type sheet struct {
	command string // that prints it
	columns []column
}

// tableFlags say which columns of a table are shown.
type tableFlags struct {
	wide    bool
	columns []string
}

func (f *tableFlags) add(cmd *cobra.Command, s sheet, wide string) {
	cmd.Flags().BoolVarP(&f.wide, "wide", "w", false, wide)
	cmd.Flags().StringSliceVar(&f.columns, "columns", nil, "only these columns, in this order: "+strings.Join(s.keys(), ", "))
	cmd.Long = strings.TrimSpace(strings.TrimRight(orShort(cmd), ".")+".\n\n"+s.story()) + "\n"
	_ = cmd.RegisterFlagCompletionFunc("columns", listOf(s.keys()))
}

func orShort(cmd *cobra.Command) string {
	if cmd.Long != "" {
		return cmd.Long
	}
	return cmd.Short
}

func (s sheet) keys() []string {
	keys := make([]string, len(s.columns))
	for i, c := range s.columns {
		keys[i] = c.key()
	}
	return keys
}

// dropped are the names of the columns that may be dropped, in the order in which they go.
func (s sheet) dropped() []string {
	var cols []column
	for _, c := range s.columns {
		if c.drop > 0 {
			cols = append(cols, c)
		}
	}
	slices.SortStableFunc(cols, func(a, b column) int { return b.drop - a.drop })
	names := make([]string, len(cols))
	for i, c := range cols {
		names[i] = c.head
	}
	return names
}

// story says for the help text how the table becomes narrow.
func (s sheet) story() string {
	return ansi.Wordwrap("Where the terminal is too narrow, columns are left out in this order: "+strings.Join(s.dropped(), ", ")+
		". --wide leaves none out, --columns picks. Off a terminal all are there.", 78, "")
}

// pick returns the places of the columns that flags ask for.
func (f tableFlags) pick(s sheet) ([]int, error) {
	var picked []int
	for i, c := range s.columns {
		if len(f.columns) == 0 && (!c.wide || f.wide) {
			picked = append(picked, i)
		}
	}
	for _, name := range f.columns {
		i := slices.Index(s.keys(), strings.ToLower(strings.TrimSpace(name)))
		if i < 0 {
			err := gapless.Errorf(gapless.Invalid, "there is no column %q", name)
			if near := gapless.Nearest(name, s.keys()); near != "" {
				return nil, err.WithHint("did you mean %s?", near)
			}
			return nil, err.WithHint("the columns are: %s", strings.Join(s.keys(), ", "))
		}
		picked = append(picked, i)
	}
	return picked, nil
}

// fit drops columns, the highest drop first, until a row fits into width.
// Each column takes two spaces and its width; free text may be cut.
func fit(cols []column, widths []int, width int) []int {
	var left []int
	for i := range cols {
		left = append(left, i)
	}
	for {
		need, worst := 0, -1
		for at, i := range left {
			w := widths[i]
			if cols[i].text {
				w = min(w, textWidth)
			}
			need += 2 + w
			if cols[i].drop > 0 && (worst < 0 || cols[i].drop > cols[left[worst]].drop) {
				worst = at
			}
		}
		if need <= width || worst < 0 {
			return left
		}
		left = slices.Delete(left, worst, worst+1)
	}
}

// lay arranges rows of cells under their heads; width 0 is as wide as it gets.
func lay(cols []column, rows [][]string, width int) []string {
	widths := make([]int, len(cols))
	for i, c := range cols {
		widths[i] = ansi.StringWidth(c.head)
		for _, row := range rows {
			widths[i] = max(widths[i], ansi.StringWidth(row[i]))
		}
	}
	var left []int
	if width == 0 {
		left = fit(cols, widths, 1<<30)
	} else {
		left = fit(cols, widths, width-1) // a full last place makes some terminals wrap
		room := width - 1
		for _, i := range left {
			if !cols[i].text {
				room -= 2 + widths[i]
			}
		}
		for _, i := range left {
			if cols[i].text {
				widths[i] = min(widths[i], max(1, room-2))
			}
		}
	}
	line := func(cell func(i int) string) string {
		var b strings.Builder
		for at, i := range left {
			text := ansi.Truncate(cell(i), widths[i], "…")
			space := strings.Repeat(" ", widths[i]-ansi.StringWidth(text))
			switch {
			case cols[i].right:
				text = space + text
			case at < len(left)-1:
				text += space
			}
			b.WriteString("  " + text)
		}
		if width > 0 {
			return ansi.Truncate(b.String(), width-1, "…")
		}
		return b.String()
	}
	lines := []string{line(func(i int) string { return cols[i].head })}
	for _, row := range rows {
		lines = append(lines, line(func(i int) string { return row[i] }))
	}
	return lines
}

// sheet prints a table; every row has a cell for every column.
func (t *term) sheet(s sheet, f tableFlags, rows [][]string) error {
	picked, err := f.pick(s)
	if err != nil {
		return err
	}
	var cols []column
	for _, i := range picked {
		cols = append(cols, s.columns[i])
	}
	cells := make([][]string, len(rows))
	for n, row := range rows {
		for _, i := range picked {
			cells[n] = append(cells[n], row[i])
		}
	}
	width := t.width
	if t.piped || f.wide || len(f.columns) > 0 {
		width = 0
	}
	t.lines(lay(cols, cells, width))
	return nil
}

// table prints rows in aligned columns; the first row is the head. Where the
// terminal is too narrow, the last column is cut.
func (t *term) table(rows [][]string) {
	cols := make([]column, len(rows[0]))
	for i, head := range rows[0] {
		cols[i] = column{head: head, text: i == len(cols)-1}
	}
	width := t.width
	if t.piped {
		width = 0
	}
	t.lines(lay(cols, rows[1:], width))
}

// lines prints a table's lines: they are never wrapped.
func (t *term) lines(lines []string) {
	for n, line := range lines {
		if n == 0 {
			line = faint.Render(line)
		}
		_ = t.printf("%s\n", line)
	}
}

func (t *term) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(t.out, format, args...)
	return err
}

// jsonLine prints v as one line of the answer.
func (t *term) jsonLine(v any) error { return json.NewEncoder(os.Stdout).Encode(v) }
