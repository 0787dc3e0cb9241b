package snapshot

import (
	"fmt"
	"strings"
)

// word is one word of a command line.
type word struct {
	raw      string // as written
	text     string // without quotes; $NAME and ${NAME} stay, a literal $ is written $$
	assign   int    // index of = in text if this is NAME=value, else 0
	shell    bool   // only a shell can read it: $(…), globs, ${x:-y}
	redirect bool   // > and the like
}

// segment is the words between two control operators.
type segment struct {
	words []word
	op    string // that ends it: && || | ; & ( ) or "" at the end
	start int    // offset of its first word in the line
}

// split reads a command line as a POSIX shell would, without running anything.
func split(line string) ([]segment, error) {
	l := lexer{in: line}
	if err := l.run(); err != nil {
		return nil, err
	}
	return l.segments, nil
}

type lexer struct {
	in       string
	pos      int
	segments []segment
	current  segment
	text     strings.Builder
	w        word
	start    int  // of the word
	inWord   bool // also when the text is empty: ""
	quoted   bool // some part of the word was quoted
	vars     int  // variables in it
}

func (l *lexer) run() error {
	for l.pos < len(l.in) {
		c := l.in[l.pos]
		switch {
		case c == ' ' || c == '\t' || c == '\r':
			l.endWord()
			l.pos++
		case c == '#' && !l.inWord:
			for l.pos < len(l.in) && l.in[l.pos] != '\n' {
				l.pos++
			}
		case c == '\n' || strings.IndexByte(";&|()", c) >= 0:
			l.operator()
		case c == '>' || c == '<':
			l.redirection()
		case c == '\\' && l.pos+1 == len(l.in):
			return fmt.Errorf("the command ends in a backslash")
		case c == '\\':
			if l.in[l.pos+1] != '\n' { // else the line goes on
				l.begin()
				l.literal(l.in[l.pos+1])
				l.quoted = true
			}
			l.pos += 2
		case c == '\'':
			l.begin()
			end := strings.IndexByte(l.in[l.pos+1:], '\'')
			if end < 0 {
				return fmt.Errorf("a quote ' is not closed")
			}
			for _, b := range []byte(l.in[l.pos+1 : l.pos+1+end]) {
				l.literal(b)
			}
			l.quoted = true
			l.pos += end + 2
		case c == '"':
			if err := l.doubleQuoted(); err != nil {
				return err
			}
		case c == '$':
			l.begin()
			l.dollar()
		default:
			l.begin()
			if c == '`' || c == '*' || c == '?' || c == '[' || c == '~' && l.pos == l.start {
				l.w.shell = true
			}
			if c == '=' && l.w.assign == 0 && !l.quoted && isName(l.text.String()) {
				l.w.assign = l.text.Len()
			}
			l.text.WriteByte(c)
			l.pos++
		}
	}
	l.endWord()
	if len(l.current.words) > 0 {
		l.segments = append(l.segments, l.current)
	}
	return nil
}

func (l *lexer) begin() {
	if !l.inWord {
		l.inWord, l.start = true, l.pos
	}
}

// literal adds a byte that no expansion may touch.
func (l *lexer) literal(b byte) {
	if b == '$' {
		l.text.WriteByte('$')
	}
	l.text.WriteByte(b)
}

func (l *lexer) endWord() {
	if !l.inWord {
		return
	}
	w := l.w
	w.raw, w.text = l.in[l.start:l.pos], l.text.String()
	// A word that is one bare variable may become none or several words, which
	// only a shell does. PORT is one word for sure.
	if l.vars == 1 && !l.quoted && isVariable(w.text) && w.text != "$PORT" && w.text != "${PORT}" {
		w.shell = true
	}
	if len(l.current.words) == 0 {
		l.current.start = l.start
	}
	l.current.words = append(l.current.words, w)
	l.text.Reset()
	l.w, l.inWord, l.quoted, l.vars = word{}, false, false, 0
}

func (l *lexer) operator() {
	l.endWord()
	n := 1
	if l.pos+1 < len(l.in) && l.in[l.pos+1] == l.in[l.pos] && (l.in[l.pos] == '&' || l.in[l.pos] == '|' || l.in[l.pos] == ';') {
		n = 2
	}
	op := l.in[l.pos : l.pos+n]
	l.pos += n
	if op == "\n" {
		if len(l.current.words) == 0 {
			return
		}
		op = ";"
	}
	l.current.op = op
	l.segments = append(l.segments, l.current)
	l.current = segment{}
}

func (l *lexer) redirection() {
	if !l.inWord || l.quoted || strings.Trim(l.text.String(), "0123456789") != "" { // not the 2 of 2>
		l.endWord()
	}
	l.begin()
	for l.pos < len(l.in) && strings.IndexByte("<>&|", l.in[l.pos]) >= 0 {
		l.text.WriteByte(l.in[l.pos])
		l.pos++
	}
	l.w.redirect, l.w.shell = true, true
	l.endWord()
}

func (l *lexer) doubleQuoted() error {
	l.begin()
	l.quoted = true
	for l.pos++; l.pos < len(l.in); {
		switch c := l.in[l.pos]; {
		case c == '"':
			l.pos++
			return nil
		case c == '\\' && l.pos+1 < len(l.in) && strings.IndexByte("$`\"\\\n", l.in[l.pos+1]) >= 0:
			if l.in[l.pos+1] != '\n' {
				l.literal(l.in[l.pos+1])
			}
			l.pos += 2
		case c == '$':
			l.dollar()
		default:
			if c == '`' {
				l.w.shell = true
			}
			l.text.WriteByte(c)
			l.pos++
		}
	}
	return fmt.Errorf(`a quote " is not closed`)
}

// dollar reads a $ and what belongs to it.
func (l *lexer) dollar() {
	rest := l.in[l.pos:]
	n := reference(rest)
	switch {
	case n > 0:
		l.vars++
	case strings.HasPrefix(rest, "$$"):
		n = 2
	case len(rest) > 1 && strings.IndexByte("({*@?!#-0123456789", rest[1]) >= 0:
		l.w.shell = true
		n = 2
	default: // a lone dollar
		l.literal('$')
		l.pos++
		return
	}
	l.text.WriteString(rest[:n])
	l.pos += n
}

// reference returns the length of the $NAME or ${NAME} that s starts with, else 0.
func reference(s string) int {
	if strings.HasPrefix(s, "${") {
		if end := strings.IndexByte(s, '}'); end > 0 && isName(s[2:end]) {
			return end + 1
		}
		return 0
	}
	n := 1
	for n < len(s) && isName(s[1:n+1]) {
		n++
	}
	if n == 1 {
		return 0
	}
	return n
}

// isVariable reports whether s is one reference and nothing else.
func isVariable(s string) bool { return s != "" && s[0] == '$' && reference(s) == len(s) }

func isName(s string) bool {
	for i, c := range []byte(s) {
		if c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// shellQuote writes an argument for a shell: quoted, its $NAME expanded there.
func shellQuote(arg string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+:,./@%"
	if arg != "" && strings.Trim(arg, plain) == "" {
		return arg
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(arg); i++ {
		switch c := arg[i]; {
		case c == '$' && strings.HasPrefix(arg[i:], "$$"):
			b.WriteString(`\$`)
			i++
		case c == '$' && reference(arg[i:]) > 0:
			b.WriteByte(c)
		case strings.IndexByte("$`\"\\", c) >= 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
