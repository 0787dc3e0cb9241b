package gapless

import (
	"path/filepath"
	"regexp"
)

// App is the validated configuration of one application: what gapless.yaml,
// package.json and the defaults say together. A release freezes a copy of it.
type App struct {
	Name         string            `json:"name"`
	Source       string            `json:"source"`             // absolute directory that releases are made from
	Build        string            `json:"build,omitempty"`    // command run inside a new release tree
	Listen       []string          `json:"listen"`             // edge addresses: "host:port" or ":port"
	Hosts        []string          `json:"hosts,omitempty"`    // host names served; empty: every host
	Path         string            `json:"path"`               // URL path prefix served; "/": all
	TLS          *TLS              `json:"tls,omitempty"`      // nil: no address speaks https
	Health       Health            `json:"health"`             // readiness and liveness probe of the web process
	Balance      Balance           `json:"balance,omitzero"`   // how the edge spreads requests
	Protocol     string            `json:"protocol,omitempty"` // that instances speak: ProtocolH2C, or "" for HTTP/1.1
	Forwarding   Forwarding        `json:"forwarding,omitzero"`
	Socket       bool              `json:"socket,omitempty"`    // instances listen on a unix socket, whose path is in PORT; else on a TCP port
	SocketFD     bool              `json:"socket_fd,omitempty"` // with Socket: keeper makes it, and hands it over as descriptor 3
	Drain        Duration          `json:"drain"`               // longest wait for in-flight work before an instance is stopped
	Grace        Duration          `json:"grace"`               // between SIGTERM and SIGKILL
	StartTimeout Duration          `json:"start_timeout"`       // an instance must be ready within this time
	Hold         Duration          `json:"hold"`                // longest wait of a request while no release has a ready instance
	Soak         Duration          `json:"soak"`                // how long a rolling rollout watches its first batch
	Strategy     string            `json:"strategy"`            // StrategyRolling, StrategyBlueGreen, StrategyCanary
	Steps        []Step            `json:"steps,omitempty"`     // written by the user, instead of the strategy's own plan
	Judge        JudgeSpec         `json:"judge"`               // what a judged step asks for
	Mirror       Mirror            `json:"mirror,omitzero"`     // how requests are copied to a candidate
	Keep         Duration          `json:"keep,omitempty"`      // blue-green: how long the old set stays warm after promote
	Flip         bool              `json:"flip,omitempty"`      // blue-green: all traffic at once, no judged step before it
	Preview      *Preview          `json:"preview,omitempty"`   // how people reach a candidate before it has traffic
	Strip        bool              `json:"strip,omitempty"`     // instances get the URL without Path
	Sticky       Duration          `json:"sticky,omitempty"`    // the coin of a rollout is tossed once per client for so long; 0: for each request
	Match        []MatchRule       `json:"match,omitempty"`     // requests that go to the candidate whatever the coin
	Skew         string            `json:"skew,omitempty"`      // SkewPin, or "": what a page loads may come from another release
	Shared       []string          `json:"shared,omitempty"`    // directories that outlive releases, relative to the tree
	User         string            `json:"user,omitempty"`      // run instances as this system user
	Env          map[string]string `json:"env,omitempty"`       // set for every process
	EnvFiles     []string          `json:"env_files,omitempty"`
	Assets       []string          `json:"assets,omitempty"`  // directories of the tree whose files outlive their release while it is kept
	Releases     ReleasePolicy     `json:"releases,omitzero"` // how long releases are kept
	Logs         LogPolicy         `json:"logs"`
	AccessLog    *AccessLog        `json:"access_log,omitempty"` // nil: none is written
	Processes    []Process         `json:"processes"`            // the web process first, if there is one
	Limits       Limits            `json:"limits,omitzero"`
	Timeouts     Timeouts          `json:"timeouts,omitzero"`
	ErrorPages   map[int]string    `json:"error_pages,omitempty"` // file of the tree per status
	Notify       []Notify          `json:"notify,omitempty"`      // who is told what happens
	Alerts       AlertPolicy       `json:"alerts,omitzero"`       // what alerts from outside do
	SLO          float64           `json:"slo,omitempty"`         // share of answers that must be good, 0…1; 0: nothing is promised
	Flags        *Flags            `json:"flags,omitempty"`       // given on the command line; the next deploy starts from them
}

// Flags is what a person gave on the command line and no file says. It is
// remembered, so that a deploy needs no repetition; values of variables are not in it.
type Flags struct {
	Name      string   `json:"name,omitempty"`
	Args      []string `json:"args,omitempty"`
	Exact     bool     `json:"exact,omitempty"` // Args followed a "--"
	Listen    []string `json:"listen,omitempty"`
	Instances int      `json:"instances,omitempty"`
	EnvFiles  []string `json:"env_files,omitempty"`
	Env       []string `json:"env,omitempty"` // names
}

// Strategies that exist.
const (
	StrategyRolling   = "rolling"
	StrategyBlueGreen = "blue-green"
	StrategyCanary    = "canary"
	StrategyDark      = "dark-launch" // mirrored first, then by Mirror.Then
	StrategySteps     = "steps"       // the user's own: App.Steps
)

// JudgeSpec says how a candidate is judged.
type JudgeSpec struct {
	Within      Duration `json:"within"`       // longest judged step; 0: the strategy's default
	OnUndecided string   `json:"on_undecided"` // Continue, Pause, Rollback; "": the strategy's default
	MaxErrors   float64  `json:"max_errors"`   // share of bad answers that is never fine, 0…1; used where there is no control

	Alpha  float64            `json:"alpha,omitempty"`   // false alarms per rollout, 0…1; 0: 1 %
	Errors float64            `json:"errors,omitempty"`  // margin: more of all answers may be bad than with stable, 0…1; 0: 0.5 points
	Slower [Quantiles]float64 `json:"slower,omitzero"`   // margins: stable's quantiles may be exceeded by so much of them; 0: 10, 15, 25 %; below 0: not judged by it when it is to be proven not worse
	Budget float64            `json:"budget,omitempty"`  // ramp: share of all requests that may fail because of the candidate, 0…1; 0: 0.5 %
	Bake   Duration           `json:"bake,omitempty"`    // after promote: the new release is watched and the old one kept warm for so long; 0: the strategy's default
	NoBake bool               `json:"no_bake,omitempty"` // not at all

	Metrics []Metric `json:"metrics,omitempty"` // from outside

	Synthetic Synthetic `json:"synthetic,omitzero"` // requests that are made while a candidate is judged
}

// Validate checks what everything else relies on. Numbers that are 0 take their
// defaults.
func (j JudgeSpec) Validate() error {
	between := func(v, low, high float64) bool { return v == 0 || v >= low && v <= high } // false for NaN
	for _, x := range []struct {
		name      string
		v         float64
		low, high float64
	}{{"max_errors", j.MaxErrors, 1e-6, 0.5}, {"false_alarm", j.Alpha, 1e-6, 0.5}, {"errors", j.Errors, 0.0005, 1}, {"budget", j.Budget, 1e-6, 1}} {
		if !between(x.v, x.low, x.high) {
			return Errorf(Invalid, "judge: %s is %v, but must be a share between %v and %v", x.name, x.v, x.low, x.high).WithHint("0 takes the default; 0.01 is 1 %%")
		}
	}
	for i, test := range QuantileTests() {
		if v := j.Slower[i]; !(v <= 10) {
			return Errorf(Invalid, "judge: the margin of %s is %v, but must be at most 10", test, v).WithHint("0.25 allows a quarter more than stable takes; below 0 it need not be proven")
		}
	}
	if err := j.Synthetic.Validate(); err != nil {
		return err
	}
	return ValidateMetrics(j.Metrics)
}

// Synthetic is how requests are made where too few come by themselves. They go
// through the edge and its coin like all others, and are judged like all others.
type Synthetic struct {
	Path string `json:"path,omitempty"` // with query; "": none are made
	RPS  int    `json:"rps,omitempty"`  // requests per second; 0: the default
}

// SyntheticMost is how many requests per second may be made.
const SyntheticMost = 100

// Validate checks what everything else relies on.
func (s Synthetic) Validate() error {
	switch {
	case s.Path != "" && s.Path[0] != '/':
		return Errorf(Invalid, "the path %q of synthetic requests does not begin with /", shorten(s.Path, 40))
	case s.RPS < 0 || s.RPS > SyntheticMost:
		return Errorf(Invalid, "%d synthetic requests per second are not between 0 and %d", s.RPS, SyntheticMost)
	}
	return nil
}

// Rate is how many requests per second are made.
func (s Synthetic) Rate() int {
	if s.RPS == 0 {
		return 5
	}
	return s.RPS
}

// SyntheticHeader is a header that requests carry that gapless made, with the value 1.
const SyntheticHeader = "Gapless-Synthetic"

// What happens at the end of a judged step that proved nothing.
const (
	OnUndecidedContinue = "continue"
	OnUndecidedPause    = "pause"
	OnUndecidedRollback = "rollback"
)

// SkewPin keeps what a page loads at the release that the page came from.
const SkewPin = "pin"

// Preview lets people reach the candidate by a host name, a header or a
// cookie while the coin does not send anybody there. At least one is set.
type Preview struct {
	Host   string `json:"host,omitempty"`
	Header string `json:"header,omitempty"`
	Value  string `json:"value,omitempty"` // of Header

	Cookie  string `json:"cookie,omitempty"`  // name; an address with ?name=content sets it
	Content string `json:"content,omitempty"` // of Cookie, exactly
}

// WebProcess is the name of the process that serves HTTP.
const WebProcess = "web"

// Process is one kind of process of an app; instances of it run the same command.
type Process struct {
	Name      string            `json:"name"`
	Run       string            `json:"run"`                 // command line; $PORT and other variables are expanded
	Instances int               `json:"instances"`           // how many run at once
	Singleton bool              `json:"singleton,omitempty"` // never two at once: the old one stops before the new one starts
	Cron      string            `json:"cron,omitempty"`      // five fields, local time; empty: runs all the time
	Memory    int64             `json:"memory,omitempty"`    // bytes per instance; over it: replaced; 0: no limit
	CPU       float64           `json:"cpu,omitempty"`       // cores per instance; 0: no limit
	Env       map[string]string `json:"env,omitempty"`
}

// Web reports whether p serves HTTP.
func (p Process) Web() bool { return p.Name == WebProcess }

// Health is the probe of the web process.
type Health struct {
	Path     string   `json:"path,omitempty"` // "": an accepted connection is enough
	Interval Duration `json:"interval"`
	Timeout  Duration `json:"timeout"`

	Healthy   int `json:"healthy,omitempty"`   // good answers in a row that put an instance back; 0: 2
	Unhealthy int `json:"unhealthy,omitempty"` // bad ones in a row that take it out; 0: 3
}

// LogPolicy bounds the logs of one app on disk.
type LogPolicy struct {
	MaxSize int64    `json:"max_size"` // bytes of one file before it is rotated
	MaxAge  Duration `json:"max_age"`  // age of the current file before it is rotated
	Keep    int      `json:"keep"`     // rotated files kept
}

// ReleasePolicy says how many old releases are kept for going back.
type ReleasePolicy struct {
	Keep   int      `json:"keep,omitempty"`    // that served, beside those in use; 0: the default
	MaxAge Duration `json:"max_age,omitempty"` // since they last served; 0: no limit
}

// Process returns the process of that name, or nil.
func (a *App) Process(name string) *Process {
	for i := range a.Processes {
		if a.Processes[i].Name == name {
			return &a.Processes[i]
		}
	}
	return nil
}

var appName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)

// Validate checks what everything else relies on, whoever made the App. The
// configuration file is checked more closely where it is read.
func (a *App) Validate() error {
	switch {
	case !appName.MatchString(a.Name):
		return Errorf(Invalid, "app name %q is not 1 to 40 lower-case letters, digits and inner hyphens", a.Name)
	case !filepath.IsAbs(a.Source):
		return Errorf(Invalid, "source directory %q of %s is not absolute", a.Source, a.Name)
	case len(a.Processes) == 0:
		return Errorf(Invalid, "%s has no process to run", a.Name)
	case a.Process(WebProcess) != nil && len(a.Listen) == 0:
		return Errorf(Invalid, "%s has a web process and no address to listen on", a.Name)
	}
	for _, dir := range a.Shared {
		if !filepath.IsLocal(dir) || dir == "." {
			return Errorf(Invalid, "shared directory %q of %s is not inside the app", dir, a.Name)
		}
	}
	for _, dir := range a.Assets {
		if !filepath.IsLocal(dir) || dir == "." {
			return Errorf(Invalid, "assets directory %q of %s is not inside the app", dir, a.Name)
		}
	}
	for _, file := range a.ErrorPages {
		if !filepath.IsLocal(file) {
			return Errorf(Invalid, "error page %q of %s is not inside the app", file, a.Name)
		}
	}
	seen := map[string]bool{}
	for _, p := range a.Processes {
		if !appName.MatchString(p.Name) || seen[p.Name] {
			return Errorf(Invalid, "process name %q of %s is taken twice or not usable", p.Name, a.Name)
		}
		if p.Instances < 0 || p.Instances > 1000 {
			return Errorf(Invalid, "%d instances of %s are not between 0 and 1000", p.Instances, p.Name)
		}
		seen[p.Name] = true
	}
	if err := validateNotify(a.Notify); err != nil {
		return err
	}
	return a.Judge.Validate()
}
