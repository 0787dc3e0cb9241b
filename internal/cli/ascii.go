package cli

import (
	"io"
	"strings"
)

// unicodeLocale reports whether the locale can show marks that are not ASCII.
// One that is not set at all says nothing, and most terminals can.
func unicodeLocale(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := getenv(name); v != "" {
			v = strings.ToLower(v)
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return true
}

// plainMarks replaces our own marks by ASCII of the same width.
var plainMarks = strings.NewReplacer("✓", "+", "✗", "x", "▸", ">", "·", "-", "→", ">", "│", "|", "┃", "|",
	"█", "#", "░", ".", "…", "~", "↑", "^", "↓", "v", "≤", "<", "≥", ">", "─", "-", "▲", "^", "▼", "v", "–", "-", "×", "x")

// asciiWriter is a terminal whose locale is not UTF-8. Whoever writes to it
// writes whole characters; what apps printed stays as it is.
type asciiWriter struct{ to io.Writer }

func (w asciiWriter) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.to, plainMarks.Replace(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}
