package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"

	"gapless"
)

func TestColumnsAreDroppedInOrder(t *testing.T) {
	cols := []column{{head: "NAME"}, {head: "A", drop: 2}, {head: "B", drop: 3}, {head: "C", drop: 1}, {head: "WHY", drop: 4, text: true}}
	widths := []int{10, 5, 5, 5, 40} // free text counts as 12
	for width, want := range map[int][]int{
		47: {0, 1, 2, 3, 4}, // 12 + 3·7 + 14
		46: {0, 1, 2, 3}, 33: {0, 1, 2, 3}, 32: {0, 1, 3}, 26: {0, 1, 3}, 25: {0, 3}, 19: {0, 3}, 18: {0}, 1: {0},
	} {
		if got := fit(cols, widths, width); !slices.Equal(got, want) {
			t.Errorf("width %d: columns %v, want %v", width, got, want)
		}
	}
}

// Whatever the terminal, no line is wider than it, and every line has the
// same columns.
func TestTablesFitEveryWidth(t *testing.T) {
	rows := [][]string{
		{"v41/1", "ready", "12d", "3", "1203112", "120 MB", "0", "1.2 s", "4711", "127.0.0.1:27403", "shop.v41.web.1.1"},
		{"v41/a-worker-with-a-name.12", "crashed, unhealthy", "3s", "0", "0", "-", "17", "0.0 s", "0", "", "shop.v41.x"},
	}
	for width := 1; width < 220; width++ {
		for _, line := range lay(statusSheet.columns, rows, width) {
			if w := ansi.StringWidth(line); w > max(0, width-1) {
				t.Fatalf("width %d: a line of %d: %q", width, w, line)
			}
		}
	}
	wide := lay(statusSheet.columns, rows, 0)
	for _, head := range statusSheet.columns {
		if !strings.Contains(wide[0], head.head) {
			t.Errorf("%s is missing where there is room: %q", head.head, wide[0])
		}
	}
	if !strings.HasSuffix(wide[0], "ID") || strings.Contains(wide[1], "…") {
		t.Errorf("something was cut where there is room:\n%s", strings.Join(wide, "\n"))
	}
}

func TestPickedColumns(t *testing.T) {
	got, err := tableFlags{columns: []string{"memory", "Instance", "pid"}}.pick(statusSheet)
	if err != nil || !slices.Equal(got, []int{5, 0, 8}) {
		t.Errorf("%v %v", got, err)
	}
	all, _ := tableFlags{wide: true}.pick(statusSheet)
	few, _ := tableFlags{}.pick(statusSheet)
	if len(all) != len(statusSheet.columns) || len(few) != 7 {
		t.Errorf("%d columns with --wide, %d without", len(all), len(few))
	}
	_, err = tableFlags{columns: []string{"memroy"}}.pick(statusSheet)
	if gapless.CodeOf(err) != gapless.Invalid || gapless.HintOf(err) != "did you mean memory?" {
		t.Errorf("%v, hint %q", err, gapless.HintOf(err))
	}
}
