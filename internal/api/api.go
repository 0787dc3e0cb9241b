// Package api is the daemon's HTTP interface: JSON and server-sent events
// over a unix socket. Server and client of every resource stand side by side,
// so that they cannot drift apart. It holds no logic: it decodes strictly,
// calls the Service and encodes the answer. The daemon serves it, the command
// line is its client.
package api

import (
	"context"
	"iter"
	"time"

	"gapless"
)

// Version of the API; part of every path.
const Version = "v1"

// MaxBody bounds a request body in bytes.
const MaxBody = 4 << 20

// Service is what the API serves.
type Service interface {
	Status(ctx context.Context) (Status, error)
	// Metrics is the traffic of all edges as Prometheus reads it.
	Metrics(ctx context.Context) (string, error)
	Deploy(ctx context.Context, req DeployRequest) (gapless.Rollout, error)
	Restart(ctx context.Context, app string) (gapless.Rollout, error)
	Scale(ctx context.Context, app string, req ScaleRequest) (gapless.Rollout, error)
	Abort(ctx context.Context, app string) (gapless.Rollout, error)
	// Promote gives the candidate all traffic now; Pause and Resume hold and go on.
	Promote(ctx context.Context, app string) (gapless.Rollout, error)
	Pause(ctx context.Context, app string) (gapless.Rollout, error)
	Resume(ctx context.Context, app string) (gapless.Rollout, error)
	// Rollback goes back to an earlier release; "" is the one that served before.
	Rollback(ctx context.Context, app, release string) (gapless.Rollout, error)
	// Plan says what a deploy would do, and changes nothing.
	Plan(ctx context.Context, req DeployRequest) (Plan, error)
	// Rollouts lists an app's rollouts, newest first.
	Rollouts(ctx context.Context, app string) ([]gapless.Rollout, error)
	Down(ctx context.Context, app string) error
	Releases(ctx context.Context, app string) ([]gapless.Release, error)
	Rollout(ctx context.Context, id string) (gapless.Rollout, error)
	// Events yields the events of a rollout after number since, and ends when the rollout has.
	Events(ctx context.Context, rollout string, since int64) (iter.Seq2[gapless.Event, error], error)
	Logs(ctx context.Context, app string, req LogRequest) (iter.Seq2[LogLine, error], error)
	// Shutdown stops every app, then every process of this installation.
	Shutdown(ctx context.Context) error
	SecretService
	TrafficService

	Tokens(ctx context.Context) ([]gapless.Token, error)
	CreateToken(ctx context.Context, req TokenRequest) (NewToken, error)
	RevokeToken(ctx context.Context, name string) error
	// Audit yields what was asked for, oldest first.
	Audit(ctx context.Context, req AuditRequest) (iter.Seq2[gapless.Act, error], error)
	// Network says how the API is reached from elsewhere; zero: it is not.
	Network(ctx context.Context) (Network, error)
	SetNetwork(ctx context.Context, req NetworkRequest) (Network, error)
	CloseNetwork(ctx context.Context) error

	CertificateService
	NotifyService
	AlertService
	MetricService
	// Exec answers with a secret: only on the unix socket.
	Exec(ctx context.Context, app string, req ExecRequest) (Exec, error)
	// RunOnce starts a command of a release that is run once; OnceOutput yields
	// what it prints, and how it ended as the last; StopOnce ends it.
	RunOnce(ctx context.Context, app string, req OnceRequest) (Once, error)
	OnceOutput(ctx context.Context, app, id string) (iter.Seq2[OnceOutput, error], error)
	StopOnce(ctx context.Context, app, id string) error
}

// DeployRequest asks for a new release of an app and its rollout.
type DeployRequest struct {
	Moved         bool              `json:"moved,omitempty"`          // the app's directory is another one than before, and that is meant
	Replace       bool              `json:"replace,omitempty"`        // take a rollout that is under way back first
	DespiteAlerts bool              `json:"despite_alerts,omitempty"` // begin although alerts of the app fire
	UntilDecided  gapless.Duration  `json:"until_decided,omitempty"`  // judged steps wait for a decision for up to so long; 0: as the plan says
	Kind          string            `json:"kind"`                     // "up" or "deploy"
	App           gapless.App       `json:"app"`
	Runtime       gapless.Runtime   `json:"runtime"`       // the node that the caller's PATH names; zero: the daemon looks itself
	Env           map[string]string `json:"env,omitempty"` // values; never logged, stored only in the release's 0600 file
}

// Plan is what a deploy would do.
type Plan struct {
	App     string         `json:"app"`
	From    string         `json:"from,omitempty"` // release that serves now
	Steps   []gapless.Step `json:"steps"`
	Text    []string       `json:"text"`    // Steps for people
	Changes []string       `json:"changes"` // configuration that differs from From; names of variables, never values
}

// ScaleRequest asks for a number of instances of one process.
type ScaleRequest struct {
	Process   string `json:"process"`
	Instances int    `json:"instances"`
}

// RollbackRequest asks for an earlier release.
type RollbackRequest struct {
	Release string `json:"release"` // "": the one that served before
}

// LogRequest selects log lines.
type LogRequest struct {
	Lines    int    `json:"lines"`              // how many of the last ones
	Follow   bool   `json:"follow"`             // go on with new ones
	Instance string `json:"instance,omitempty"` // label or part of it before "/": "v3", "v3/1", "v3/worker.1"
	Stream   string `json:"stream,omitempty"`   // "out", "err"
	Access   bool   `json:"access,omitempty"`   // the access log instead: of stream "access" and no instance
}

// LogLine is one line that an instance printed.
type LogLine struct {
	Time   time.Time `json:"time"`
	Label  string    `json:"instance"`
	Stream string    `json:"stream"`
	Text   string    `json:"text"`
}

// Status is everything that runs in one installation.
type Status struct {
	Version string      `json:"version"`
	Home    string      `json:"home"`
	Limits  string      `json:"limits,omitempty"` // what this system can enforce
	Procs   []Proc      `json:"processes"`        // keeper, daemon, edges
	Apps    []AppStatus `json:"apps"`
	Notes   []Note      `json:"notes,omitempty"` // what a person should know of the installation itself
}

// Note is something that a person should know, and what to do about it.
type Note struct {
	Level   string `json:"level"` // "warn", "error"
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// Proc is one of gapless's own processes.
type Proc struct {
	Name       string `json:"name"`
	PID        int    `json:"pid"`
	Generation int    `json:"generation,omitempty"`
	Memory     int64  `json:"memory"` // anonymous resident bytes
}

// AppStatus is one app at one moment.
type AppStatus struct {
	Name      string                   `json:"name"`
	Stable    string                   `json:"stable,omitempty"`
	Down      bool                     `json:"down"`
	Source    string                   `json:"source,omitempty"`
	Flags     *gapless.Flags           `json:"flags,omitempty"` // of the last release
	Listen    []string                 `json:"listen,omitempty"`
	Hosts     []string                 `json:"hosts,omitempty"`
	Path      string                   `json:"path,omitempty"`
	Weights   []gapless.Weight         `json:"weights,omitempty"`  // as served
	Match     []gapless.MatchRule      `json:"match,omitempty"`    // as served: requests that the coin is not asked for
	Sessions  *gapless.Sessions        `json:"sessions,omitempty"` // as served: who stays where it is
	TLS       *gapless.TLS             `json:"tls,omitempty"`      // nil: no address speaks https
	Counts    map[string]int           `json:"counts,omitempty"`
	Instances []InstanceStatus         `json:"instances"`
	Releases  []gapless.ReleaseTraffic `json:"releases,omitempty"`
	Rollout   *gapless.Rollout         `json:"rollout,omitempty"` // the running or the last one
	Traffic   *Traffic                 `json:"traffic,omitempty"` // nil: nobody holds it or keeps it away

	Certificates []Certificate   `json:"certificates,omitempty"`
	Alerts       []gapless.Alert `json:"alerts,omitempty"` // that fire
	SLO          *SLO            `json:"slo,omitempty"`    // nil: nothing is promised
	Watch        *Watch          `json:"watch,omitempty"`  // nil: nothing was promoted just now
}

// Watch is over a release that was promoted: until then the one before it stays
// warm, and serves again if this one breaks.
type Watch struct {
	Release string    `json:"release"`
	Before  string    `json:"before"`
	Until   time.Time `json:"until"`
}

// SLO is how an app stands to the share of good answers that it promises.
type SLO struct {
	Target   float64  `json:"target"`   // 0.999
	Requests uint64   `json:"requests"` // of the last hour
	Bad      uint64   `json:"bad"`
	Burn     float64  `json:"burn"`              // of that hour: 1 uses up exactly what is allowed
	Burning  []string `json:"burning,omitempty"` // levels that are exceeded: page, ticket
}

// InstanceStatus is an instance with its traffic.
type InstanceStatus struct {
	gapless.Instance
	Role     string  `json:"role"`
	InFlight int     `json:"in_flight"`
	Requests uint64  `json:"requests"`
	Healthy  bool    `json:"healthy"`
	CPU      float64 `json:"cpu,omitempty"` // seconds of processor time so far, of the process tree
}

// SecretService is the part of Service that is about secrets. Values go in and
// never come out.
type SecretService interface {
	// Secrets lists an app's secrets by name.
	Secrets(ctx context.Context, app string) ([]gapless.Secret, error)
	// SetSecret takes effect with the next deploy; the app need not exist yet.
	SetSecret(ctx context.Context, app, name, value string) error
	RemoveSecret(ctx context.Context, app, name string) error
}

// SecretRequest sets a secret.
type SecretRequest struct {
	Value string `json:"value"`
}
