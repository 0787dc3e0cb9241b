package gapless

import "time"

// Release is one immutable version of an app: tree, commands, environment,
// runtime and settings. Nothing of it changes after it was made.
type Release struct {
	App      string              `json:"app"`
	Name     string              `json:"name"` // v1, v2, … per app
	ID       string              `json:"id"`   // hash of what it is made of
	Created  time.Time           `json:"created"`
	Tree     string              `json:"tree"`     // absolute directory
	Spec     App                 `json:"spec"`     // the app's configuration when it was made
	Commands map[string][]string `json:"commands"` // process name → argv, "$PORT" not yet expanded
	Runtime  Runtime             `json:"runtime"`
	EnvNames []string            `json:"env_names,omitempty"` // names only; the values are in EnvFile
	EnvFile  string              `json:"env_file,omitempty"`  // 0600, encrypted
	Secrets  []string            `json:"secrets,omitempty"`   // which of EnvNames are secrets; names only
}

// Runtime is the interpreter that a release is pinned to; zero for plain binaries.
type Runtime struct {
	Name    string `json:"name,omitempty"`    // "node"
	Path    string `json:"path,omitempty"`    // absolute
	Version string `json:"version,omitempty"` // "20.20.2"
}
