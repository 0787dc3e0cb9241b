package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// block is a few lines at the end of a terminal that are drawn again in
// place. It moves the cursor by lines only and leaves nothing to be restored.
type block struct {
	out   io.Writer
	size  func() (width, height int)
	shown []string
	width int // when shown was drawn
}

// draw prints lines that stay, above, and then the block. It writes once, and
// nothing if nothing changed.
func (b *block) draw(above, lines []string) {
	width, _ := b.size()
	if len(above) == 0 && width == b.width && slices.Equal(lines, b.shown) {
		return
	}
	var out strings.Builder
	if n := b.rows(width); n > 0 {
		fmt.Fprintf(&out, "\r\x1b[%dA", n)
	}
	out.WriteString("\r\x1b[J")
	for _, line := range above {
		for _, part := range strings.Split(ansi.Wrap(line, max(10, width-1), ""), "\n") {
			out.WriteString(part + "\n")
		}
	}
	for _, line := range lines {
		out.WriteString(line + "\n")
	}
	_, _ = io.WriteString(b.out, out.String())
	b.shown, b.width = lines, width
}

// rows is how many rows the block takes in a terminal of that width, which
// may have become narrower since it was drawn.
func (b *block) rows(width int) int {
	n := 0
	for _, line := range b.shown {
		n += 1 + max(0, ansi.StringWidth(line)-1)/max(1, width)
	}
	return n
}
