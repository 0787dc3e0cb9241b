// Package notify tells people and programs elsewhere what happened: it writes
// a message as a signed webhook or in Slack's format, sends it by HTTP POST,
// and decides when to try again and what to put together. It keeps nothing and
// knows nothing of releases beyond their names; the daemon, its only caller,
// keeps the queue.
package notify

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"gapless"
)

// Version of the JSON that webhooks get. Fields are only added to it.
const Version = 1

// Message is one thing that happened, and the JSON body of a webhook.
type Message struct {
	Version int       `json:"version"` // 1
	Key     string    `json:"key"`     // of this event: the same one is the same event
	Event   string    `json:"event"`   // gapless.NotifyRolledBack, …
	Time    time.Time `json:"time"`
	App     string    `json:"app"`
	Text    string    `json:"text"`             // one sentence for people
	Reason  string    `json:"reason,omitempty"` // why: the verdict's sentence, or what failed
	Hint    string    `json:"hint,omitempty"`   // what to do
	Link    string    `json:"link,omitempty"`

	Rollout *Rollout `json:"rollout,omitempty"` // nil: it is not about one
	Alert   *Alert   `json:"alert,omitempty"`   // of event alert
	SLO     *SLO     `json:"slo,omitempty"`     // of event burning
	More    *More    `json:"more,omitempty"`    // of event more: messages that came too fast to be sent one by one
}

// Rollout says which rollout a message is about, and how it stood.
type Rollout struct {
	ID      string           `json:"id"`
	Kind    string           `json:"kind"` // deploy, up, restart, …
	From    string           `json:"from,omitempty"`
	To      string           `json:"to,omitempty"`
	Outcome string           `json:"outcome"`        // running, promoted, rolled_back, failed
	Step    int              `json:"step,omitempty"` // 1…Steps
	Steps   int              `json:"steps,omitempty"`
	Doing   string           `json:"doing,omitempty"` // that step, for people
	Weight  float64          `json:"weight"`          // the candidate's share, 0…1
	Verdict *gapless.Verdict `json:"verdict,omitempty"`
}

// Alert is an alert from outside.
type Alert struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Status  string    `json:"status"` // firing, resolved
	Summary string    `json:"summary,omitempty"`
	Since   time.Time `json:"since,omitzero"`
}

// SLO says how fast an error budget burns. Shares are of bad answers, 0…1.
type SLO struct {
	Target    float64  `json:"target"` // 0.999
	Level     string   `json:"level"`  // page, ticket
	Burn      float64  `json:"burn"`   // over the long window: 1 uses the budget up exactly
	Short     float64  `json:"short_burn"`
	Candidate *float64 `json:"candidate,omitempty"` // share of bad answers, while a rollout runs
	Stable    *float64 `json:"stable,omitempty"`
}

// EventMore is the event of a message that stands for several.
const EventMore = "more"

// More says what a message stands for.
type More struct {
	Count  int            `json:"count"`
	Events map[string]int `json:"events"`
	Keys   []string       `json:"keys"` // of the newest of them, at most MostKeys
}

// MostKeys bounds the keys that are listed.
const MostKeys = 50

// mostText bounds texts that come from elsewhere, in bytes.
const mostText = 2000

// cut bounds a text without breaking a letter.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	text = text[:most]
	for !utf8.ValidString(text) && len(text) > 0 {
		text = text[:len(text)-1]
	}
	return text + "…"
}

// Bounded is m with every text at a length that a receiver takes.
func (m Message) Bounded() Message {
	m.Version = Version
	m.Text, m.Reason, m.Hint = cut(m.Text, mostText), cut(m.Reason, mostText), cut(m.Hint, mostText)
	return m
}

// Fold puts messages of one target, oldest first, into one that says how many
// there were and of what kind. Its key follows from theirs.
func Fold(list []Message) Message {
	first, last := list[0], list[len(list)-1]
	more := &More{Count: len(list), Events: map[string]int{}}
	for _, m := range list {
		if m.More != nil { // it stands for several already
			more.Count += m.More.Count - 1
			for event, n := range m.More.Events {
				more.Events[event] += n
			}
			more.Keys = append(more.Keys, m.More.Keys...)
			continue
		}
		more.Events[m.Event]++
		more.Keys = append(more.Keys, m.Key)
	}
	more.Keys = more.Keys[max(0, len(more.Keys)-MostKeys):]
	var parts []string
	for _, event := range append(gapless.NotifyEvents(), gapless.NotifyTest) {
		if n := more.Events[event]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, strings.ReplaceAll(event, "_", " ")))
		}
	}
	return Message{Version: Version, Key: fmt.Sprintf("more/%d/%s/%s", more.Count, first.Key, last.Key), Event: EventMore, Time: last.Time, App: last.App,
		Text: fmt.Sprintf("%d more messages came too fast to be sent one by one: %s; the last: %s", more.Count, strings.Join(parts, ", "), last.Text), More: more}
}

// body is m as webhooks get it.
func (m Message) body() ([]byte, error) { return json.Marshal(m) }
