package keeper

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"gapless"
)

// Config is what Run needs.
type Config struct {
	RunDir   string        // keeper.sock and keeper.lock live here; edges make edge-<generation>.sock in it
	Children []Child       // restarted at once when they die
	Version  string        // of the binary, told by Hello
	Grace    time.Duration // between SIGTERM and SIGKILL when keeper is told to stop by a signal; default 30 s
	Log      *slog.Logger  // nil: discarded
	LogTo    *Log          // what keeper itself says goes there, and not to Log; nil: to Log
}

// Names of the children that Run knows.
const (
	DaemonChild = "daemon"
	EdgeChild   = "edge"
)

// GenerationEnv tells an edge its generation.
const GenerationEnv = "GAPLESS_EDGE_GENERATION"

// BinaryEnv names the binary that a person started, where keeper itself runs
// from a copy of it. It is for hints only.
const BinaryEnv = "GAPLESS_BINARY"

// InstanceEnv is in the environment of every process of an instance, with
// the instance's ID; descendants that left the process group are found by it.
const InstanceEnv = "GAPLESS_INSTANCE"

// RunEnv is in the environment of every process that keeper starts, with the
// run directory: a keeper that knows nothing of them finds them by it.
const RunEnv = "GAPLESS_RUN"

// Child is a process that keeper itself starts and restarts. It gets keeper's
// environment; an edge also GAPLESS_EDGE_GENERATION.
type Child struct {
	Name string   // DaemonChild or EdgeChild
	Argv []string // Argv[0] is an absolute path
	Log  *Log     // nil: keeper's own stdout and stderr
}

// Log says where the output of a process goes and how that file is rotated.
// Processes with the same Path share one file; the newest rotation settings win.
type Log struct {
	Path    string        `json:"path"`                 // absolute; rotated files lie beside it
	Label   string        `json:"label"`                // names the process in every line; no spaces
	MaxSize int64         `json:"max_size,omitempty"`   // bytes before the file is rotated; 0: never by size
	MaxAge  time.Duration `json:"max_age_ns,omitempty"` // age of the first line before the file is rotated; 0: never by age
	Keep    int           `json:"keep,omitempty"`       // rotated files that stay
}

// Spec is what to start. ID makes Start idempotent.
type Spec struct {
	ID          string        `json:"id"`
	Argv        []string      `json:"argv"` // Argv[0]: a path, or a name looked up in the PATH of Env
	Env         []string      `json:"env,omitempty"`
	Dir         string        `json:"dir,omitempty"`
	UID         *uint32       `json:"uid,omitempty"` // run as; nil: as keeper
	GID         *uint32       `json:"gid,omitempty"`
	Groups      []uint32      `json:"groups,omitempty"`
	Log         *Log          `json:"log,omitempty"` // nil: output is discarded
	Cgroups     []string      `json:"cgroups,omitempty"`
	OOMScoreAdj int           `json:"oom_score_adj,omitempty"`
	Grace       time.Duration `json:"grace_ns,omitempty"` // between SIGTERM and SIGKILL at keeper's own shutdown
	Meta        string        `json:"meta,omitempty"`     // opaque, returned by List and Watch

	// Listen is the absolute path of a unix socket that keeper makes and the
	// process gets as descriptor 3. A keeper of protocol 2 does not know it.
	Listen string `json:"listen,omitempty"`
}

// LogValue keeps environment and arguments out of logs.
func (s Spec) LogValue() slog.Value { return slog.StringValue(s.ID) }

// reserved reports whether the ID is one that keeper gives to its children.
func (s Spec) reserved() bool {
	_, edge := edgeGeneration(s.ID)
	return edge || s.ID == DaemonChild
}

func (s Spec) validate() error {
	switch {
	case s.ID == "" || strings.ContainsAny(s.ID, "\x00\n"):
		return gapless.Errorf(gapless.Invalid, "start: instance ID %q is not usable", s.ID)
	case s.reserved():
		return gapless.Errorf(gapless.Invalid, "start: ID %s belongs to a child of keeper", s.ID)
	case len(s.Argv) == 0 || s.Argv[0] == "":
		return gapless.Errorf(gapless.Invalid, "start %s: no command", s.ID)
	case s.Dir != "" && !filepath.IsAbs(s.Dir):
		return gapless.Errorf(gapless.Invalid, "start %s: directory %s is not absolute", s.ID, s.Dir)
	case s.Listen != "" && (!filepath.IsAbs(s.Listen) || strings.ContainsRune(s.Listen, 0)):
		return gapless.Errorf(gapless.Invalid, "start %s: socket %q is not an absolute path", s.ID, s.Listen)
	}
	return s.Log.validate()
}

func (l *Log) validate() error {
	switch {
	case l == nil:
		return nil
	case !filepath.IsAbs(l.Path):
		return gapless.Errorf(gapless.Invalid, "log path %q is not absolute", l.Path)
	case l.Label == "" || strings.ContainsFunc(l.Label, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return gapless.Errorf(gapless.Invalid, "log label %q is empty or has spaces", l.Label)
	}
	return nil
}

// Kinds of processes.
const (
	KindInstance = "instance"
	KindDaemon   = "daemon"
	KindEdge     = "edge"
)

// Proc is what keeper knows about one process.
type Proc struct {
	ID           string        `json:"id"`
	Kind         string        `json:"kind"`                 // KindInstance, KindDaemon, KindEdge
	Generation   int           `json:"generation,omitempty"` // edges only
	PID          int           `json:"pid"`
	Started      time.Time     `json:"started"`
	Running      bool          `json:"running"`
	Exit         *gapless.Exit `json:"exit,omitempty"` // set when it no longer runs
	Meta         string        `json:"meta,omitempty"`
	DroppedLines uint64        `json:"dropped_lines,omitempty"` // log lines lost because the disk was full
}

// edgeGeneration reads "edge-<generation>".
func edgeGeneration(id string) (n int, ok bool) {
	s, ok := strings.CutPrefix(id, "edge-")
	n, err := strconv.Atoi(s)
	return n, ok && err == nil
}

// SocketPath is where the keeper of a run directory listens.
func SocketPath(runDir string) string { return filepath.Join(runDir, "keeper.sock") }

// notify tells systemd about state changes, if systemd started us.
func notify(ctx context.Context, state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unixgram", path)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte(state))
	return err
}
