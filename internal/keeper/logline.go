package keeper

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// maxText is how many bytes of an app's line stay one line; longer ones are split.
const maxText = 64 << 10

// Line is one line of a log file.
type Line struct {
	Time   time.Time `json:"time"`
	Label  string    `json:"label"`            // of the process; "gapless" for keeper's own remarks
	Stream string    `json:"stream,omitempty"` // "out", "err"; "" for keeper's own remarks
	Text   string    `json:"text"`
}

func (l Line) String() string {
	if l.Stream == "" {
		return stamp(l.Time) + " " + l.Label + ": " + l.Text
	}
	return stamp(l.Time) + " " + l.Label + " " + l.Stream + " " + l.Text
}

// parseLine reads "<time> <label> <stream> <text>" and "<time> gapless: <text>".
func parseLine(b []byte) (Line, bool) {
	s := strings.TrimSuffix(string(b), "\n")
	when, rest, ok := strings.Cut(s, " ")
	if !ok {
		return Line{}, false
	}
	t, err := time.Parse(stampLayout, when)
	if err != nil {
		return Line{}, false
	}
	if text, ok := strings.CutPrefix(rest, "gapless: "); ok {
		return Line{Time: t, Label: "gapless", Text: text}, true
	}
	label, rest, ok := strings.Cut(rest, " ")
	stream, text, ok2 := strings.Cut(rest, " ")
	if !ok || !ok2 || stream != "out" && stream != "err" {
		return Line{}, false
	}
	return Line{Time: t, Label: label, Stream: stream, Text: text}, true
}

const stampLayout = "2006-01-02T15:04:05.000Z"

func stamp(t time.Time) string { return t.UTC().Format(stampLayout) }

// cutLine takes the first line off data, without its line ending. A line
// longer than maxText is cut, at a character if there is one.
func cutLine(data []byte, last bool) (line, rest []byte, ok bool) {
	if i := bytes.IndexByte(data[:min(len(data), maxText+1)], '\n'); i >= 0 {
		return bytes.TrimSuffix(data[:i], []byte{'\r'}), data[i+1:], true
	}
	if len(data) > maxText {
		n := maxText
		for i := range utf8.UTFMax {
			if utf8.RuneStart(data[maxText-i]) {
				n = maxText - i
				break
			}
		}
		return data[:n], data[n:], true
	}
	if last && len(data) > 0 {
		return data, nil, true
	}
	return nil, data, false
}

// appendEscaped appends text so that it stays one line and cannot steer a
// terminal: control characters other than tab, and bytes that are no UTF-8,
// are written as \x1b.
func appendEscaped(b, text []byte) []byte {
	for len(text) > 0 {
		n := 0
		for n < len(text) && (text[n] == '\t' || text[n] >= ' ' && text[n] < 0x7f) {
			n++
		}
		b, text = append(b, text[:n]...), text[n:]
		if len(text) == 0 {
			break
		}
		r, size := utf8.DecodeRune(text)
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError && size == 1 {
			for _, c := range text[:size] {
				b = fmt.Appendf(b, `\x%02x`, c)
			}
		} else {
			b = append(b, text[:size]...)
		}
		text = text[size:]
	}
	return b
}
