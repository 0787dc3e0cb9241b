package api

import (
	"time"

	"gapless"
)

// TokenRequest asks for a token.
type TokenRequest struct {
	Name    string           `json:"name"`
	Scope   gapless.Scope    `json:"scope"`
	Expires gapless.Duration `json:"expires,omitempty"` // from now; 0: never
}

// NewToken is a token with its secret, which is told once.
type NewToken struct {
	gapless.Token
	Secret string `json:"secret"`
}

// AuditRequest selects entries of the audit.
type AuditRequest struct {
	App   string    `json:"app,omitempty"`  // "": every app
	Since time.Time `json:"since,omitzero"` // zero: all there is
}

// NetworkRequest asks for the API over the network.
type NetworkRequest struct {
	Listen string `json:"listen"`         // host:port
	Cert   string `json:"cert,omitempty"` // absolute file, PEM; "": one that the installation signs itself
	Key    string `json:"key,omitempty"`  // absolute file, PEM
}

// Network is how the API is reached over the network.
type Network struct {
	Listen      string `json:"listen,omitempty"` // "": it is not
	Cert        string `json:"cert,omitempty"`   // file, for GAPLESS_CA
	Own         bool   `json:"own,omitempty"`    // the certificate is signed by itself
	Fingerprint string `json:"fingerprint,omitempty"`
	Problem     string `json:"problem,omitempty"` // why it is not served now
}

// ExecRequest asks what a command needs to run as if it were an instance. At
// most one of Release and Instance is given; none: the release that serves.
type ExecRequest struct {
	Release  string `json:"release,omitempty"`  // "v3"
	Instance string `json:"instance,omitempty"` // label: "v3/1"
	Process  string `json:"process,omitempty"`  // whose environment; "": web, or that of Instance
	Program  string `json:"program,omitempty"`  // for the audit: the first word of the command
}

// Exec is where and as whom a command runs. The environment is secret.
type Exec struct {
	Release string   `json:"release"`
	Dir     string   `json:"dir"`
	Env     []string `json:"env"`
	User    string   `json:"user,omitempty"` // "": the one that gapless runs as
	UID     uint32   `json:"uid"`
	GID     uint32   `json:"gid"`
	Groups  []uint32 `json:"groups,omitempty"`
}

// OnceRequest asks for a command that is run once.
type OnceRequest struct {
	Release string           `json:"release,omitempty"` // "": the one that serves
	Process string           `json:"process,omitempty"` // whose environment; "": web
	Command []string         `json:"command"`
	Timeout gapless.Duration `json:"timeout,omitempty"` // it is ended then; 0: an hour
}

// Once is a command that is run once.
type Once struct {
	ID      string    `json:"id"`
	App     string    `json:"app"`
	Label   string    `json:"instance"` // in the log: "v3/once.1"
	Started time.Time `json:"started"`
}

// OnceOutput is a line that it printed or, at last, how it ended.
type OnceOutput struct {
	Line *LogLine      `json:"line,omitempty"`
	Exit *gapless.Exit `json:"exit,omitempty"`
	Over bool          `json:"over,omitempty"` // Exit: because its time was over
}
