package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"
)

// table prints rows in aligned columns; the first row is the head. Where the
// terminal is too narrow, the last column is cut.
func (t *term) table(rows [][]string) {
	width := map[int]int{}
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString("  " + cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)))
			}
		}
		line := b.String()
		if r := []rune(line); !t.piped && len(r) > t.width {
			line = string(r[:max(1, t.width-1)]) + "…"
		}
		if n == 0 {
			line = faint.Render(line)
		}
		t.answerf("%s", line)
	}
}

func (t *term) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(t.out, format, args...)
	return err
}

// jsonLine prints v as one line of the answer.
func (t *term) jsonLine(v any) error { return json.NewEncoder(os.Stdout).Encode(v) }
