package config

import (
	"fmt"
	"slices"
	"strings"

	"gapless"
)

// fault is what is wrong with one value and what to do about it.
type fault struct{ message, hint string }

func faultf(format string, args ...any) *fault {
	return &fault{message: fmt.Sprintf(format, args...)}
}

func (f *fault) withHint(format string, args ...any) *fault {
	f.hint = fmt.Sprintf(format, args...)
	return f
}

// asError is f outside of a file.
func (f *fault) asError() error {
	if f == nil {
		return nil
	}
	return gapless.Errorf(gapless.Invalid, "%s", f.message).WithHint("%s", f.hint)
}

// place is where a value was written. A flag has a file ("--listen") only.
type place struct {
	file      string
	line, col int    // from 1; 0: the file as a whole
	width     int    // columns under the caret
	text      string // the source line, "" to show none
}

type problem struct {
	place
	fault
}

// maxShown bounds a report: a file with more is not one that was meant for us.
const maxShown = 100

// problems collects everything that is wrong, so that one run tells all of it.
type problems struct{ list []problem }

func (p *problems) add(at place, f *fault) {
	if f != nil {
		p.list = append(p.list, problem{at, *f})
	}
}

// err returns one error that holds every problem in the order of the file, nil if there is none.
func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	files := map[string]int{} // files in the order of their first problem
	for _, q := range p.list {
		if _, ok := files[q.file]; !ok {
			files[q.file] = len(files)
		}
	}
	slices.SortStableFunc(p.list, func(a, b problem) int {
		if a.file != b.file {
			return files[a.file] - files[b.file]
		}
		if a.line != b.line {
			return a.line - b.line
		}
		return a.col - b.col
	})
	var b strings.Builder
	if len(p.list) > 1 {
		fmt.Fprintf(&b, "%d problems in the configuration\n\n", len(p.list))
	}
	for i, q := range p.list {
		if i == maxShown {
			fmt.Fprintf(&b, "\nand %d more\n", len(p.list)-i)
			break
		}
		if i > 0 {
			b.WriteString("\n")
		}
		q.write(&b)
	}
	return gapless.Errorf(gapless.Invalid, "%s", strings.TrimRight(b.String(), "\n"))
}

// write prints file:line:col, the source line with a caret, and the hint.
func (q problem) write(b *strings.Builder) {
	b.WriteString(q.file)
	if q.line > 0 {
		fmt.Fprintf(b, ":%d:%d", q.line, q.col)
	}
	fmt.Fprintf(b, ": %s\n", q.message)
	if q.line > 0 && q.text != "" {
		text, lead, width := window(q.text, q.col, q.width)
		number := fmt.Sprintf("%5d", q.line)
		fmt.Fprintf(b, "%s | %s\n", number, text)
		fmt.Fprintf(b, "%s | %s%s\n", strings.Repeat(" ", len(number)), lead, strings.Repeat("^", width))
	}
	if q.hint != "" {
		fmt.Fprintf(b, "  hint: %s\n", q.hint)
	}
}

// window cuts a long source line around the caret, replaces what a terminal
// would act on, and returns the indentation of the caret (tabs kept, so that
// it lines up) and its width.
func window(line string, col, width int) (text, lead string, carets int) {
	const before, size = 60, 110
	runes := []rune(line)
	for i, r := range runes {
		if r != '\t' && (r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0)) {
			runes[i] = '\ufffd'
		}
	}
	at := min(max(col-1, 0), len(runes))
	start := 0
	if len(runes) > size && at > before {
		start = at - before
	}
	end := min(len(runes), start+size)
	var l strings.Builder
	for _, r := range runes[start:at] {
		if r == '\t' {
			l.WriteByte('\t')
		} else {
			l.WriteByte(' ')
		}
	}
	carets = max(1, min(width, end-at))
	return string(runes[start:end]), l.String(), carets
}

// quote writes a value into a message: quoted, and cut when it is long.
func quote(s string) string {
	if r := []rune(s); len(r) > 60 {
		s = string(r[:60]) + "…"
	}
	return fmt.Sprintf("%q", s)
}
