package cli

import (
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"
)

func TestLocale(t *testing.T) {
	for env, want := range map[string]bool{
		"": true, "LANG=C.UTF-8": true, "LANG=en_US.utf8": true, "LC_ALL=C": false, "LANG=POSIX": false, "LANG=de_DE": false,
		"LC_CTYPE=de_DE.ISO-8859-1 LANG=de_DE.UTF-8": false, "LC_ALL=C.UTF-8 LANG=C": true,
	} {
		getenv := func(name string) string {
			for _, e := range strings.Fields(env) {
				if v, ok := strings.CutPrefix(e, name+"="); ok {
					return v
				}
			}
			return ""
		}
		if got := unicodeLocale(getenv); got != want {
			t.Errorf("%q: %v", env, got)
		}
	}
}

// Marks become as wide as they were, so that nothing that is drawn moves.
func TestPlainMarks(t *testing.T) {
	const marks = "✓✗▸·→│┃█░…"
	var b strings.Builder
	if n, err := (asciiWriter{&b}).Write([]byte(marks + " é 日")); err != nil || n != len(marks+" é 日") {
		t.Errorf("%d %v", n, err)
	}
	if got := b.String(); ansi.StringWidth(got) != ansi.StringWidth(marks+" é 日") || got != "+x>->||#.~ é 日" {
		t.Errorf("%q", got)
	}
}
