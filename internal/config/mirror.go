package config

import (
	"slices"
	"strings"
	"time"

	"gapless"

	"github.com/goccy/go-yaml/ast"
)

var (
	comparisons = []string{gapless.CompareBody, gapless.CompareStatus, gapless.CompareNothing}
	credentials = []string{"pass", "drop"}
	afterMirror = []string{gapless.StrategyRolling, gapless.StrategyBlueGreen, gapless.StrategyCanary}
)

// How many parts of a body may be named that are not compared.
const mostIgnored = 100

// mirror reads how requests are copied to a candidate.
func (r *reader) mirror(dst *gapless.Mirror) setter {
	return func(n ast.Node) { r.object(n, "mirror", r.mirrorKeys(dst)) }
}

func (r *reader) mirrorKeys(dst *gapless.Mirror) map[string]setter {
	return map[string]setter{
		"percent":       r.share(&dst.Share, "percent"),
		"for":           r.duration(&dst.For, "for", stepMin, stepMax),
		"compare":       r.word(&dst.Compare, "compare", comparisons),
		"ignore":        r.ignore(&dst.Ignore),
		"deadline":      r.duration(&dst.Timeout, "deadline", 10*time.Millisecond, 5*time.Minute),
		"credentials":   r.credentials(&dst.NoCredentials),
		"on_difference": r.word(&dst.OnDifference, "on_difference", undecided),
		"then":          r.word(&dst.Then, "then", afterMirror),
		"header": func(n ast.Node) {
			text, ok := r.scalar(n, "header")
			if !ok {
				return
			}
			name, value, f := parseHeader(text)
			if f == nil && reserved(name) {
				f = faultf("header %s says something else already", name).withHint(`write a name of its own: header: "X-Shadow: 1"`)
			}
			r.fail(n, f)
			dst.Header, dst.Value = name, value
		},
	}
}

// reserved reports whether a header means something to whoever reads a request.
func reserved(name string) bool {
	return slices.Contains([]string{"host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer", "expect",
		"keep-alive", "proxy-connection", "cookie", "authorization", "x-request-id", "forwarded", "x-forwarded-for", "x-forwarded-host",
		"x-forwarded-proto", "x-forwarded-port"}, strings.ToLower(name))
}

func (r *reader) ignore(dst *[]string) setter {
	return func(n ast.Node) {
		r.list(dst, "ignore", func(v string) (string, *fault) {
			if _, err := gapless.MirrorPath(v); err != nil {
				return "", faultf("%s", err.Error()).withHint("%s", gapless.HintOf(err))
			}
			return v, nil
		})(n)
		if len(*dst) > mostIgnored {
			r.fail(n, faultf("ignore lists %d paths, but must list at most %d", len(*dst), mostIgnored).withHint("a path ignores all that is below it, and * is any key or index"))
		}
	}
}

func (r *reader) credentials(dst *bool) setter {
	return func(n ast.Node) {
		var word string
		r.word(&word, "credentials", credentials)(n)
		*dst = word == "drop"
	}
}

// mirrorStep reads a step: a share, or more.
func (r *reader) mirrorStep(step *gapless.Step) setter {
	return func(n ast.Node) {
		switch n.(type) {
		case *ast.MappingNode, *ast.MappingValueNode:
			r.object(n, "mirror", r.mirrorStepKeys(step))
		default:
			r.share(&step.Weight, "mirror")(n)
		}
	}
}

func (r *reader) mirrorStepKeys(step *gapless.Step) map[string]setter {
	return map[string]setter{
		"percent":       r.share(&step.Weight, "percent"),
		"for":           r.duration(&step.For, "for", stepMin, stepMax),
		"on_difference": r.word(&step.OnUndecided, "on_difference", undecided),
	}
}

// mirrorShown is the key as it would be written.
func mirrorShown(m gapless.Mirror) map[string]any {
	shown := map[string]any{}
	add := func(key string, given bool, value any) {
		if given {
			shown[key] = value
		}
	}
	add("percent", m.Share > 0, m.Share)
	add("for", m.For > 0, m.For.String())
	add("compare", m.Compare != "", m.Compare)
	add("ignore", len(m.Ignore) > 0, m.Ignore)
	add("deadline", m.Timeout > 0, m.Timeout.String())
	add("header", m.Header != "", m.Header+": "+m.Value)
	add("credentials", m.NoCredentials, "drop")
	add("on_difference", m.OnDifference != "", m.OnDifference)
	add("then", m.Then != "", m.Then)
	return shown
}
