package gapless

import (
	"strings"
	"testing"
)

// Whoever asks for a deploy without the configuration file cannot have secrets
// stored as text either.
func TestNotifyIsValidated(t *testing.T) {
	for name, c := range map[string]struct {
		list []Notify
		ok   bool
	}{
		"none":               {nil, true},
		"variables":          {[]Notify{{Slack: "${SLACK}"}, {Webhook: "https://x.example/${HOOK}", Secret: "${KEY}"}}, true},
		"the address":        {[]Notify{{Slack: "https://hooks.slack.com/services/T0/B0/topsecret"}}, false},
		"part of an address": {[]Notify{{Slack: "${A}/topsecret"}}, false},
		"a key":              {[]Notify{{Webhook: "https://x.example/", Secret: "topsecret"}}, false},
		"no address":         {[]Notify{{Secret: "${KEY}"}}, false},
		"two addresses":      {[]Notify{{Slack: "${A}", Webhook: "${B}"}}, false},
		"too many":           {make([]Notify, MostNotify+1), false},
	} {
		err := validateNotify(c.list)
		if (err == nil) != c.ok || err != nil && strings.Contains(err.Error(), "topsecret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
