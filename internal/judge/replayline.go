package judge

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"strconv"

	"gapless"
)

const (
	mostName = 256  // bytes of a session or an instance
	mostTime = 1e12 // seconds: no clock shows more
)

const eventHint = `a line is {"t":12.5,"arm":"stable","w":0.1,"bad":false,"ms":12.3}, with "session" and "instance" if they are known`

// ParseEvent reads a line of a recorded stream. It refuses what it does not
// know, and says what a line is.
func ParseEvent(line []byte) (Event, error) {
	e, err := parseEvent(line)
	if err != nil {
		return Event{}, gapless.Errorf(gapless.Invalid, "%w", err).WithHint("%s", eventHint)
	}
	return e, nil
}

func parseEvent(line []byte) (e Event, err error) {
	refuse := func(format string, args ...any) (Event, error) {
		return Event{}, gapless.Errorf(gapless.Invalid, format, args...)
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return refuse("the line is not a JSON object")
	}
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		key, ok := t.(string)
		if err != nil || !ok {
			return refuse("the line is not JSON: %v", err)
		}
		if seen[key] {
			return refuse("%q is there twice", key)
		}
		seen[key] = true
		v, err := dec.Token()
		if err != nil {
			return refuse("the line is not JSON: %v", err)
		}
		number, isNumber := v.(float64)
		text, isText := v.(string)
		truth, isTruth := v.(bool)
		switch key {
		case "t":
			if e.T = number; !isNumber || math.Abs(number) > mostTime {
				return refuse("t is %s, not a time in seconds", shown(v))
			}
		case "arm":
			switch text {
			case ReplayCandidate:
				e.Candidate = true
			case ReplayStable:
			default:
				return refuse(`arm is %s, not "stable" or "candidate"`, shown(v))
			}
		case "w":
			if e.W = number; !isNumber || !(number > 0 && number <= 1) {
				return refuse("w is %s, not a share over 0 and at most 1", shown(v))
			}
		case "bad":
			if e.Bad = truth; !isTruth {
				return refuse("bad is %s, not true or false", shown(v))
			}
		case "ms":
			if e.MS = number; !isNumber || !(number >= 0 && number <= mostTime) {
				return refuse("ms is %s, not a time in milliseconds", shown(v))
			}
		case "session", "instance":
			if !isText || len(text) > mostName {
				return refuse("%s is %s, not a name of at most %d bytes", key, shown(v), mostName)
			}
			if key == "session" {
				e.Session = text
			} else {
				e.Instance = text
			}
		default:
			return refuse("field %s is not known", shown(key))
		}
	}
	if _, err := dec.Token(); err != nil {
		return refuse("the line is not JSON: %v", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return refuse("more follows the object")
	}
	for _, key := range []string{"t", "arm", "bad", "ms"} {
		if !seen[key] {
			return refuse("%s is missing", key)
		}
	}
	return e, nil
}

// shown is a value as it was written, cut where it is long.
func shown(v any) string {
	if _, ok := v.(json.Delim); ok {
		return "a list or an object"
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "something else"
	}
	if s := []rune(string(b)); len(s) > 60 {
		return string(s[:60]) + "…"
	}
	return string(b)
}

// Append appends the event as a line of a recorded stream.
func (e Event) Append(b []byte) []byte {
	number := func(v float64) { b = strconv.AppendFloat(b, v, 'f', -1, 64) }
	b = append(b, `{"t":`...)
	number(e.T)
	b = append(b, `,"arm":"`...)
	if e.Candidate {
		b = append(b, ReplayCandidate...)
	} else {
		b = append(b, ReplayStable...)
	}
	b = append(b, '"')
	if e.W > 0 {
		b = append(b, `,"w":`...)
		number(e.W)
	}
	b = append(b, `,"bad":`...)
	b = strconv.AppendBool(b, e.Bad)
	b = append(b, `,"ms":`...)
	number(e.MS)
	name := func(key, v string) {
		if v != "" {
			quoted, _ := json.Marshal(v) // a string always can be
			b = append(b, key...)
			b = append(b, quoted...)
		}
	}
	name(`,"session":`, e.Session)
	name(`,"instance":`, e.Instance)
	return append(b, "}\n"...)
}
