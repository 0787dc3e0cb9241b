package gapless

import "time"

// Event is one thing that happened. The same stream feeds the live view,
// plain lines, JSON and the audit log.
type Event struct {
	Seq        int64     `json:"seq"`
	Time       time.Time `json:"time"`
	App        string    `json:"app,omitempty"`
	Rollout    string    `json:"rollout,omitempty"`
	Kind       string    `json:"kind"` // "rollout.started", "instance.ready", "weight", "drained", …
	Release    string    `json:"release,omitempty"`
	Instance   string    `json:"instance,omitempty"` // label
	InstanceID string    `json:"instance_id,omitempty"`
	Message    string    `json:"message"`        // one line for people
	Step       int       `json:"step,omitempty"` // 1…Steps
	Steps      int       `json:"steps,omitempty"`
	Level      string    `json:"level,omitempty"` // "", "warn", "error"

	Verdict *Verdict `json:"verdict,omitempty"` // of EventEvidence
	Count   int      `json:"count,omitempty"`   // of EventComplaint: how often
	Failing *Failing `json:"failing,omitempty"` // of EventFailing
}

// EventComplaint is the kind of events that tell what a release that was taken
// back wrote most often.
const EventComplaint = "instance.complaint"

// EventFailing is the kind of events that tell which requests failed most often
// at a release that was taken back.
const EventFailing = "release.failing"

// EventEvidence is the kind of events that tell a verdict as evidence comes
// in. Only those who follow a rollout at that moment hear them: they are not
// kept, and have no number.
const EventEvidence = "evidence"
