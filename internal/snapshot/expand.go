package snapshot

import "strings"

// Expand replaces $NAME and ${NAME} in every argument by its value in env, ""
// if it has none, and $$ by a dollar. Values are not split into words and not
// expanded again.
func Expand(argv []string, env map[string]string) []string {
	out := make([]string, len(argv))
	for i, arg := range argv {
		out[i] = expand(arg, env)
	}
	return out
}

func expand(s string, env map[string]string) string {
	var b strings.Builder
	for {
		at := strings.IndexByte(s, '$')
		if at < 0 {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:at])
		s = s[at:]
		switch n := reference(s); {
		case n > 0:
			b.WriteString(env[strings.Trim(s[1:n], "{}")])
			s = s[n:]
		case strings.HasPrefix(s, "$$"):
			b.WriteByte('$')
			s = s[2:]
		default:
			b.WriteByte('$')
			s = s[1:]
		}
	}
}
