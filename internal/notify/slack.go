package notify

import (
	"encoding/json"
	"strings"

	"gapless"
)

// Slack's incoming webhooks take {"text", "blocks"}; a section's text is at
// most 3000 characters, and &, < and > are written as entities.
// Source: docs.slack.dev, "Sending messages using incoming webhooks", "Formatting message text", "Section block".
const slackText = 2900

type slackMessage struct {
	Text   string       `json:"text"` // what notifications show, and who cannot show blocks
	Blocks []slackBlock `json:"blocks"`
}

type slackBlock struct {
	Type     string         `json:"type"`
	Text     *slackWords    `json:"text,omitempty"`
	Elements []slackElement `json:"elements,omitempty"`
}

type slackWords struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// slackElement is a text of a context block.
type slackElement struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// slackBody is m as an incoming webhook of Slack takes it.
func (m Message) slackBody() ([]byte, error) {
	mark := map[string]string{gapless.NotifyRolledBack: ":rewind:", gapless.NotifyFailed: ":x:", gapless.NotifyPromoted: ":white_check_mark:",
		gapless.NotifyUndecided: ":hourglass_flowing_sand:", gapless.NotifyBurning: ":fire:", gapless.NotifyAlert: ":rotating_light:"}[m.Event]
	head := "*" + escape(m.Text) + "*"
	if mark != "" {
		head = mark + " " + head
	}
	words := []string{head}
	if m.Reason != "" && !strings.Contains(m.Text, m.Reason) {
		words = append(words, escape(m.Reason))
	}
	if m.Hint != "" {
		words = append(words, "_hint:_ "+escape(m.Hint))
	}
	if m.Link != "" {
		words = append(words, "<"+escapeLink(m.Link)+"|read on>")
	}
	foot := []string{"app " + m.App}
	if r := m.Rollout; r != nil {
		if r.From != "" && r.From != r.To {
			foot = append(foot, r.From+" → "+r.To)
		}
		foot = append(foot, r.Kind+" "+r.ID)
	}
	return json.Marshal(slackMessage{Text: escape(m.Text), Blocks: []slackBlock{
		{Type: "section", Text: &slackWords{Type: "mrkdwn", Text: cut(strings.Join(words, "\n"), slackText)}},
		{Type: "context", Elements: []slackElement{{Type: "mrkdwn", Text: escape(strings.Join(foot, " · "))}}},
	}})
}

var entities = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func escape(text string) string { return entities.Replace(text) }

// escapeLink also keeps what ends a link in Slack's format.
func escapeLink(text string) string { return escape(strings.ReplaceAll(text, "|", "%7C")) }
