package config

import (
	"regexp"
	"time"

	"gapless"

	"github.com/goccy/go-yaml/ast"
)

var onFiring = []string{gapless.AlertAbort, gapless.AlertPause, gapless.AlertIgnore}

var labelForm = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// alerts reads what alerts from outside do to the app.
func (r *reader) alerts(dst *gapless.AlertPolicy) setter {
	return func(n ast.Node) { r.object(n, "alerts", r.alertKeys(dst)) }
}

func (r *reader) alertKeys(dst *gapless.AlertPolicy) map[string]setter {
	return map[string]setter{
		"on_firing": r.word(&dst.OnFiring, "on_firing", onFiring),
		"block": func(n ast.Node) {
			block := true
			r.boolean(&block, "block")(n)
			dst.NoBlock = !block
		},
		"label": r.str(&dst.Label, "label", func(v string) *fault {
			if !labelForm.MatchString(v) {
				return faultf("label is %s, which is no name of a label", quote(v)).withHint("letters, digits and _, as in: label: service")
			}
			return nil
		}),
		"expire": r.duration(&dst.Expire, "expire", time.Minute, 7*24*time.Hour),
	}
}

func alertForm(r *reader) schema {
	return objectOf(r.alertKeys(&gapless.AlertPolicy{}), map[string]schema{
		"on_firing": about("to a rollout that it began in", oneOf(onFiring)),
		"block":     about("no deploy begins while it fires; default: true", trueOrFalse()),
		"label":     about("whose value names the app; default: app", text(labelForm.String())),
		"expire":    about("it is over when nothing was heard of it for so long; default: 15m", durationForm())})
}

func alertsShown(p gapless.AlertPolicy) map[string]any {
	shown := map[string]any{"block": !p.NoBlock}
	if p.OnFiring != "" {
		shown["on_firing"] = p.OnFiring
	}
	if p.Label != "" {
		shown["label"] = p.Label
	}
	if p.Expire > 0 {
		shown["expire"] = p.Expire.String()
	}
	return shown
}
