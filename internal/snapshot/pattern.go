package snapshot

import "strings"

// pattern is one line of an ignore file, by git's rules.
type pattern struct {
	negate   bool     // the line began with !
	dirOnly  bool     // it ended with /
	base     string   // matched against the last name of a path; "": segments are
	suffix   string   // of a base that is * and plain text, the usual case
	plain    bool     // base has nothing special in it
	segments []string // matched against the path below the ignore file
}

// parsePattern reads one line; false: it says nothing.
func parsePattern(line string) (p pattern, ok bool) {
	line = strings.TrimSuffix(line, "\r")
	if strings.HasPrefix(line, "#") {
		return p, false
	}
	line = trimSpaces(line)
	if rest, cut := strings.CutPrefix(line, "!"); cut {
		p.negate, line = true, rest
	}
	if rest, cut := strings.CutSuffix(line, "/"); cut {
		p.dirOnly, line = true, rest
	}
	if line == "" {
		return p, false
	}
	if strings.Contains(line, "/") {
		p.segments = strings.Split(strings.TrimPrefix(line, "/"), "/")
		for i, s := range p.segments {
			if len(s) > 2 && strings.Trim(s, "*") == "" { // as in git, more than two are two
				p.segments[i] = "**"
			}
		}
		return p, true
	}
	const special = `*?[\`
	p.base, p.plain = line, !strings.ContainsAny(line, special)
	if rest, cut := strings.CutPrefix(line, "*"); cut && rest != "" && !strings.ContainsAny(rest, special) {
		p.suffix = rest
	}
	return p, true
}

// trimSpaces cuts spaces at the end, but not one that a backslash protects.
func trimSpaces(line string) string {
	end := 0 // behind the last byte that counts
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '\\' && i+1 < len(line):
			i++
			end = i + 1
		case line[i] != ' ':
			end = i + 1
		}
	}
	return line[:end]
}

// match reports whether the pattern means the path rel, whose last name is
// base; both are relative to the directory of the ignore file.
func (p *pattern) match(rel, base string, dir bool) bool {
	switch {
	case p.dirOnly && !dir:
		return false
	case p.plain:
		return p.base == base
	case p.suffix != "":
		return strings.HasSuffix(base, p.suffix)
	case p.base != "":
		return matchName(p.base, base)
	}
	return matchPath(p.segments, strings.Split(rel, "/"))
}

// matchPath matches segments of a pattern with those of a path. ** is any
// number of them, at the end at least one. Only the last ** is ever tried
// again, so hostile patterns take no exponential time.
func matchPath(pattern, path []string) bool {
	p, s := 0, 0
	star, from := -1, 0
	for {
		switch {
		case p < len(pattern) && pattern[p] == "**":
			if p == len(pattern)-1 {
				return s < len(path)
			}
			star, from = p, s
			p++
			continue
		case p == len(pattern) && s == len(path):
			return true
		case p < len(pattern) && s < len(path) && matchName(pattern[p], path[s]):
			p, s = p+1, s+1
			continue
		}
		if star < 0 || from >= len(path) {
			return false
		}
		from++
		p, s = star+1, from
	}
}

// matchName matches one name with *, ?, [sets] and backslashes, byte by byte.
func matchName(pattern, name string) bool {
	p, s := 0, 0
	star, from := -1, 0
	for {
		if p < len(pattern) && pattern[p] == '*' {
			star, from = p, s
			p++
			continue
		}
		if p == len(pattern) && s == len(name) {
			return true
		}
		if p < len(pattern) && s < len(name) {
			if n := matchByte(pattern[p:], name[s]); n > 0 {
				p, s = p+n, s+1
				continue
			}
		}
		if star < 0 || from >= len(name) {
			return false
		}
		from++
		p, s = star+1, from
	}
}

// matchByte matches c with the start of the pattern and returns how much of
// the pattern that took; 0: no match.
func matchByte(pattern string, c byte) int {
	switch pattern[0] {
	case '?':
		return 1
	case '\\':
		if len(pattern) > 1 && pattern[1] == c {
			return 2
		}
		return 0
	case '[':
		return matchSet(pattern, c)
	}
	if pattern[0] == c {
		return 1
	}
	return 0
}

// matchSet matches c with the set that the pattern starts with.
func matchSet(pattern string, c byte) int {
	i := 1
	negate := i < len(pattern) && (pattern[i] == '!' || pattern[i] == '^')
	if negate {
		i++
	}
	in := false
	for first := true; ; first = false {
		if i >= len(pattern) {
			return 0 // never closed: matches nothing
		}
		if pattern[i] == ']' && !first {
			if in != negate {
				return i + 1
			}
			return 0
		}
		if strings.HasPrefix(pattern[i:], "[:") {
			if end := strings.Index(pattern[i+2:], ":]"); end >= 0 {
				in = in || inClass(pattern[i+2:i+2+end], c)
				i += end + 4
				continue
			}
		}
		lo, n := setByte(pattern[i:])
		i += n
		hi := lo
		if i+1 < len(pattern) && pattern[i] == '-' && pattern[i+1] != ']' {
			hi, n = setByte(pattern[i+1:])
			i += 1 + n
		}
		in = in || lo <= c && c <= hi
	}
}

func setByte(s string) (byte, int) {
	if s[0] == '\\' && len(s) > 1 {
		return s[1], 2
	}
	return s[0], 1
}

func inClass(name string, c byte) bool {
	lower, upper, digit := 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9'
	switch name {
	case "alnum":
		return lower || upper || digit
	case "alpha":
		return lower || upper
	case "blank":
		return c == ' ' || c == '\t'
	case "cntrl":
		return c < ' ' || c == 0x7f
	case "digit":
		return digit
	case "graph":
		return '!' <= c && c <= '~'
	case "lower":
		return lower
	case "print":
		return ' ' <= c && c <= '~'
	case "punct":
		return '!' <= c && c <= '~' && !lower && !upper && !digit
	case "space":
		return c == ' ' || '\t' <= c && c <= '\r'
	case "upper":
		return upper
	case "xdigit":
		return digit || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
	}
	return false
}
