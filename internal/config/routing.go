package config

import (
	"regexp"
	"strings"
	"time"

	"gapless"

	"github.com/goccy/go-yaml/ast"
)

// A session must outlast a page, and its cookie need not outlast a month.
const sessionMin, sessionMax = time.Minute, 30 * 24 * time.Hour

var (
	cookieForm = regexp.MustCompile(`^[!#-+\--:<-\[\]-~]+$`) // RFC 6265's cookie-octet
	inviteForm = regexp.MustCompile(`^[A-Za-z0-9._~-]+$`)    // means itself in a URL
)

// sticky reads true, false or how long.
func (r *reader) sticky(dst *gapless.Duration) setter {
	return func(n ast.Node) {
		if b, ok := n.(*ast.BoolNode); ok {
			*dst = 0
			if b.Value {
				*dst = gapless.SessionTTL
			}
			return
		}
		r.duration(dst, "sticky", sessionMin, sessionMax)(n)
	}
}

// match reads one rule or a list of them.
func (r *reader) match(dst *[]gapless.MatchRule) setter {
	return func(n ast.Node) {
		rules := []ast.Node{n}
		if list, ok := n.(*ast.SequenceNode); ok {
			rules = list.Values
		}
		if len(rules) == 0 || len(rules) > gapless.MaxMatch {
			r.fail(n, faultf("match has %d rules, but must have 1 to %d", len(rules), gapless.MaxMatch))
			return
		}
		*dst = nil
		for _, n := range rules {
			m, before := gapless.MatchRule{}, len(r.problems.list)
			r.object(n, "match", r.matchKeys(&m))
			if m.Header == "" && m.Cookie == "" && len(r.problems.list) == before {
				r.fail(n, faultf("a rule of match has neither header nor cookie").withHint(`write match: { header: "X-Tester: yes" } or { cookie: tester=yes }`))
			}
			*dst = append(*dst, m)
		}
	}
}

func (r *reader) matchKeys(m *gapless.MatchRule) map[string]setter {
	return map[string]setter{
		"header": r.header(&m.Header, &m.Value),
		"cookie": r.cookie(&m.Cookie, &m.Content, cookieForm),
	}
}

func (r *reader) header(name, value *string) setter {
	return func(n ast.Node) {
		text, ok := r.scalar(n, "header")
		if !ok {
			return
		}
		var f *fault
		*name, *value, f = parseHeader(text)
		r.fail(n, f)
	}
}

// cookie reads "name=value".
func (r *reader) cookie(name, content *string, form *regexp.Regexp) setter {
	return func(n ast.Node) {
		text, ok := r.scalar(n, "cookie")
		if !ok {
			return
		}
		k, v, given := strings.Cut(text, "=")
		switch {
		case !given || k == "" || v == "":
			r.fail(n, faultf("%s is not a cookie with its value", quote(text)).withHint("write cookie: tester=yes"))
		case !headerForm.MatchString(k) || !form.MatchString(v) || form == inviteForm && !form.MatchString(k):
			r.fail(n, faultf("cookie %s holds characters that cannot be in one", quote(text)).withHint("use letters, digits and . _ ~ -"))
		case strings.HasPrefix(k, "gapless-"):
			r.fail(n, faultf("cookies whose names begin with gapless- are gapless's own").withHint("give it another name"))
		default:
			*name, *content = k, v
		}
	}
}

// parseServed normalises a host name, or "*." before one: all names under it.
func parseServed(s string) (string, *fault) {
	rest, wild := strings.CutPrefix(s, "*.")
	host, f := parseHost(rest)
	switch {
	case !wild:
		return host, f
	case f != nil:
		return "", f
	}
	return "*." + host, nil
}

// checkRouting checks what no key can know alone.
func (s *settings) checkRouting(p *problems) {
	if s.app.Strip && strings.Trim(s.app.Path, "/") == "" {
		p.add(s.where["strip"], faultf("strip has no prefix to take off: path is /").withHint("add path: /shop, or remove strip"))
	}
}
