package gapless

import (
	"regexp"
	"slices"
	"strings"
)

// Notify is one target that is told what happens to an app. Its values are as
// written in gapless.yaml: what is secret in them is a variable, ${NAME}, that
// is looked up when something is sent. So a Notify holds no secret.
type Notify struct {
	Slack   string   `json:"slack,omitempty"`   // URL of an incoming webhook of Slack
	Webhook string   `json:"webhook,omitempty"` // URL that gets JSON; one of the two is set
	Secret  string   `json:"secret,omitempty"`  // Webhook: what its requests are signed with
	On      []string `json:"on,omitempty"`      // events; none: NotifyDefault
	Link    string   `json:"link,omitempty"`    // where people read on; {app} and {rollout} are filled in
	After   Duration `json:"undecided_after,omitempty"`
}

// MostNotify bounds who is told.
const MostNotify = 20

// oneVariable is ${NAME} and nothing beside it.
var oneVariable = regexp.MustCompile(`^\$\{[^}]*\}$`)

// Hidden reports whether a value as written is one variable and nothing beside it.
func Hidden(text string) bool { return oneVariable.MatchString(text) }

// validateNotify checks what everything else relies on: that no target holds
// what is a secret as a whole. No error shows it.
func validateNotify(list []Notify) error {
	if len(list) > MostNotify {
		return Errorf(Invalid, "%d targets are to be told, but at most %d may be", len(list), MostNotify)
	}
	for i, n := range list {
		if (n.Slack == "") == (n.Webhook == "") {
			return Errorf(Invalid, "target %d of notify has to have one of slack and webhook", i+1)
		}
		if n.Slack != "" && !Hidden(n.Slack) || n.Secret != "" && !Hidden(n.Secret) {
			return Errorf(Invalid, "target %d of notify has a secret written out", i+1).
				WithHint("write ${NAME}, and set it with: gapless secrets set NAME")
		}
	}
	return nil
}

// Events that targets are told of.
const (
	NotifyStarted    = "started"     // a rollout began
	NotifyStep       = "step"        // it reached another step
	NotifyUndecided  = "undecided"   // it waits, or proves nothing, for long
	NotifyRolledBack = "rolled_back" // it was taken back
	NotifyPromoted   = "promoted"    // the new release serves
	NotifyFailed     = "failed"      // nothing of it was started, or there is nothing to go back to
	NotifyAlert      = "alert"       // an alert of the app fires, or is over
	NotifyBurning    = "burning"     // the app fails more than its SLO allows
	NotifyTest       = "test"        // somebody asked for a message
)

// NotifyEvents are all events that a target may ask for.
func NotifyEvents() []string {
	return []string{NotifyStarted, NotifyStep, NotifyUndecided, NotifyRolledBack, NotifyPromoted, NotifyFailed, NotifyAlert, NotifyBurning}
}

// NotifyDefault are those that a person must know of.
func NotifyDefault() []string {
	return []string{NotifyUndecided, NotifyRolledBack, NotifyFailed, NotifyAlert, NotifyBurning}
}

// Wants reports whether the target is told of an event.
func (n Notify) Wants(event string) bool {
	if event == NotifyTest {
		return true
	}
	if len(n.On) == 0 {
		return slices.Contains(NotifyDefault(), event)
	}
	return slices.Contains(n.On, event)
}

// ID is a target's name in the queue and in messages: what kind it is, and its
// address as written.
func (n Notify) ID() string {
	if n.Slack != "" {
		return "slack " + n.Slack
	}
	return "webhook " + n.Webhook
}

// Expand fills in variables of a value as written. It returns the names of
// those that are not set.
func Expand(text string, lookup func(name string) (string, bool)) (out string, missing []string) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		b.WriteString(before)
		name, after, closed := strings.Cut(rest, "}")
		if !found || !closed {
			b.WriteString(text[len(before):]) // nothing, or what was never closed
			return b.String(), missing
		}
		if value, ok := lookup(name); ok {
			b.WriteString(value)
		} else {
			missing = append(missing, name)
		}
		text = after
	}
}
