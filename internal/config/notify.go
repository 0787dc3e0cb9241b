package config

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"gapless"

	"github.com/goccy/go-yaml/ast"
)

// notify reads one target, or a list of them.
func (r *reader) notify(dst *[]gapless.Notify) setter {
	return func(n ast.Node) {
		nodes := []ast.Node{n}
		if list, ok := n.(*ast.SequenceNode); ok {
			nodes = list.Values
		}
		if len(nodes) == 0 || len(nodes) > gapless.MostNotify {
			r.fail(n, faultf("notify lists %d targets, but must list 1 to %d", len(nodes), gapless.MostNotify).withHint("remove the line to tell nobody"))
			return
		}
		for _, node := range nodes {
			t := gapless.Notify{}
			before := len(r.problems.list)
			r.object(node, "notify", r.notifyKeys(&t))
			if len(r.problems.list) > before {
				continue
			}
			r.fail(node, checkTarget(t, *dst))
			*dst = append(*dst, t)
		}
	}
}

// checkTarget says what is wrong with a target beside those before it.
func checkTarget(t gapless.Notify, before []gapless.Notify) *fault {
	switch {
	case t.Slack == "" && t.Webhook == "":
		return faultf("a target of notify has no address").withHint("write - slack: ${SLACK_WEBHOOK}, or - webhook: https://ops.example.com/gapless")
	case t.Slack != "" && t.Webhook != "":
		return faultf("a target of notify is slack or webhook, this is both").withHint("begin every target with its own dash")
	case t.Slack != "" && t.Secret != "":
		return faultf("secret signs a webhook; Slack looks at no signature").withHint("remove secret")
	case slices.ContainsFunc(before, func(o gapless.Notify) bool { return o.ID() == t.ID() }):
		return faultf("%s is listed twice", t.ID()).withHint("put all its events into one on: list")
	}
	return nil
}

func (r *reader) notifyKeys(dst *gapless.Notify) map[string]setter {
	return map[string]setter{
		"slack":           r.concealed(&dst.Slack, "slack", "the address of a webhook of Slack", "SLACK_WEBHOOK"),
		"webhook":         r.concealed(&dst.Webhook, "webhook", "", ""),
		"secret":          r.concealed(&dst.Secret, "secret", "what a webhook is signed with", "NOTIFY_SECRET"),
		"link":            r.str(&dst.Link, "link", checkLink),
		"undecided_after": r.duration(&dst.After, "undecided_after", time.Minute, 24*time.Hour),
		"on": r.list(&dst.On, "on", func(v string) (string, *fault) {
			if slices.Contains(gapless.NotifyEvents(), v) {
				return v, nil
			}
			f := faultf("unknown event %s", quote(v))
			if near := gapless.Nearest(v, gapless.NotifyEvents()); near != "" {
				return "", f.withHint("did you mean %s?", near)
			}
			return "", f.withHint("known: %s", strings.Join(gapless.NotifyEvents(), ", "))
		}),
	}
}

var variables = regexp.MustCompile(`\$\{([^}]*)\}`)

// concealed reads a value that may not be seen: with what is secret in it as
// ${NAME}. Where whole names what it is, all of it must be one. A message says
// nothing of the value: it may be the secret itself.
func (r *reader) concealed(dst *string, key, whole, example string) setter {
	return func(n ast.Node) {
		text, ok := r.scalar(n, key)
		if !ok {
			return
		}
		if f := checkConcealed(key, whole, example, text); f != nil {
			p := r.at(start(n))
			if line := []rune(p.text); p.col >= 1 && p.col-1 < len(line) { // up to the value
				p.text = string(line[:p.col-1]) + "…"
				p.width = 1
			}
			r.problems.add(p, f)
			return
		}
		*dst = text
	}
}

func checkConcealed(key, whole, example, text string) *fault {
	for _, m := range variables.FindAllStringSubmatch(text, -1) {
		if f := checkEnvName(m[1]); f != nil {
			return f
		}
	}
	if whole != "" {
		if !gapless.Hidden(text) {
			return faultf("%s is written out, and %s is a secret", key, whole).
				withHint("write %s: ${%s}, and set it with: gapless secrets set %s", key, example, example)
		}
		return nil
	}
	if gapless.Hidden(text) {
		return nil
	}
	u, err := url.Parse(variables.ReplaceAllString(text, "x"))
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return faultf("%s is not an address that begins with https://", key).withHint("write webhook: https://ops.example.com/gapless, or ${NAME} for a variable")
	case u.Fragment != "":
		return faultf("%s has a fragment, which no server is sent", key).withHint("leave out what follows the #")
	}
	literal, err := url.Parse(variables.ReplaceAllString(text, ""))
	if err == nil && (literal.User != nil && literal.User.String() != ":" && literal.User.String() != "" || tokenIn(literal)) {
		return faultf("%s has something in it that looks like a secret", key).
			withHint("put that part into a variable: webhook: https://ops.example.com/${HOOK_TOKEN}, and gapless secrets set HOOK_TOKEN")
	}
	return nil
}

// tokenIn guesses whether an address has a token in it: a long word with
// letters and digits in its path, or a parameter with a name like one.
func tokenIn(u *url.URL) bool {
	for _, part := range strings.Split(u.Path, "/") {
		digit, letter := strings.ContainsFunc(part, unicode.IsDigit), strings.ContainsFunc(part, unicode.IsLetter)
		if len(part) >= 16 && digit && letter {
			return true
		}
	}
	for name, values := range u.Query() {
		for _, v := range values {
			if v != "" && (gapless.LooksSecret(name, v) || strings.Contains(strings.ToLower(name), "sig")) {
				return true
			}
		}
	}
	return false
}

func checkLink(text string) *fault {
	u, err := url.Parse(strings.NewReplacer("{app}", "a", "{rollout}", "r").Replace(text))
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || strings.ContainsAny(text, " <>|") {
		return faultf("link is %s, but must be an address", quote(text)).withHint("{app} and {rollout} are filled in: https://ops.example.com/{app}/{rollout}")
	}
	return nil
}

func notifyForm(r *reader) schema {
	variable := text(`^\$\{[A-Za-z_][A-Za-z0-9_]*\}$`)
	target := objectOf(r.notifyKeys(&gapless.Notify{}), map[string]schema{
		"slack":           about("incoming webhook of Slack, as ${NAME}", variable),
		"webhook":         about("address that gets JSON by POST; secrets in it as ${NAME}", someText()),
		"secret":          about("signs what a webhook gets, as ${NAME}", variable),
		"on":              about("events; default: those that a person must know of", oneOrMore(oneOf(gapless.NotifyEvents()))),
		"link":            about("where people read on; {app} and {rollout} are filled in", text(`^https?://`)),
		"undecided_after": about("event undecided: after so long at one step; default: 15m", durationForm())})
	return anyOf(target, schema{"type": "array", "items": target, "minItems": 1})
}

// notifyShown is the key as it would be written.
func notifyShown(list []gapless.Notify) (out []any) {
	for _, t := range list {
		shown := map[string]any{}
		for key, value := range map[string]string{"slack": t.Slack, "webhook": t.Webhook, "secret": t.Secret, "link": t.Link} {
			if value != "" {
				shown[key] = value
			}
		}
		if len(t.On) > 0 {
			shown["on"] = t.On
		}
		if t.After > 0 {
			shown["undecided_after"] = t.After.String()
		}
		out = append(out, shown)
	}
	return out
}
