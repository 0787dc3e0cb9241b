package gapless

import "time"

// AlertPolicy says what an alert from outside does to an app.
type AlertPolicy struct {
	OnFiring string   `json:"on_firing,omitempty"` // to a rollout that it began in: AlertAbort (also ""), AlertPause, AlertIgnore
	NoBlock  bool     `json:"no_block,omitempty"`  // deploys begin all the same while it fires
	Label    string   `json:"label,omitempty"`     // whose value names the app; "": app
	Expire   Duration `json:"expire,omitempty"`    // it is over when nothing was heard of it for so long; 0: AlertExpire
}

// What a firing alert does to a rollout.
const (
	AlertAbort  = "abort"
	AlertPause  = "pause"
	AlertIgnore = "ignore"
)

// AlertExpire is how long an alert fires without news: three of Alertmanager's
// usual group intervals.
const AlertExpire = Duration(15 * time.Minute)

// Alert is an alert from outside that fires.
type Alert struct {
	ID       string    `json:"id"`
	App      string    `json:"app"`
	Name     string    `json:"name"`
	Summary  string    `json:"summary,omitempty"`
	Severity string    `json:"severity,omitempty"`
	Since    time.Time `json:"since"` // when it began to fire, by who sent it
	Seen     time.Time `json:"seen"`  // when it was last heard of
	Until    time.Time `json:"until"` // when it is over if nothing more is heard of it
	Cleared  bool      `json:"cleared,omitempty"`
	Acted    string    `json:"acted,omitempty"` // rollout that it ended or paused
	Blocks   bool      `json:"blocks"`          // deploys of the app are refused; told, not saved
}

// AlertWebhook is what Alertmanager sends, version "4" of it.
// Source: prometheus.io/docs/alerting/latest/configuration, "webhook_config".
type AlertWebhook struct {
	Version         string            `json:"version"`
	GroupKey        string            `json:"groupKey"`
	TruncatedAlerts uint64            `json:"truncatedAlerts"`
	Status          string            `json:"status"`
	Receiver        string            `json:"receiver"`
	GroupLabels     map[string]string `json:"groupLabels"`
	CommonLabels    map[string]string `json:"commonLabels"`
	Annotations     map[string]string `json:"commonAnnotations"`
	ExternalURL     string            `json:"externalURL"`
	Alerts          []WebhookAlert    `json:"alerts"`
}

// WebhookAlert is one alert of it.
type WebhookAlert struct {
	Status       string            `json:"status"`
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"` // zero: it fires
	GeneratorURL string            `json:"generatorURL"`
	Fingerprint  string            `json:"fingerprint"`
}
