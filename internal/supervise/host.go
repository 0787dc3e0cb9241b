package supervise

import (
	"context"
	"errors"
	"syscall"
	"time"

	"gapless"
)

// Host starts, signals and remembers processes. It is asked by ID, so that
// asking twice is safe. An error with code gapless.Unavailable (or an ended
// context) means that the host could not be asked and that nothing is known;
// any other error is its final answer.
type Host interface {
	// Start starts s in a process group of its own and returns its pid. For an
	// ID that it knows it starts nothing and returns the pid of that process.
	// An error wraps the cause (fs.ErrNotExist, fs.ErrPermission, ENOEXEC …).
	Start(ctx context.Context, s Spec) (pid int, err error)
	// Signal reaches the whole process group, SIGKILL every descendant too; also
	// when the first process has exited already and others are left.
	Signal(ctx context.Context, id string, sig syscall.Signal) error
	// List returns every process that was started and not forgotten.
	List(ctx context.Context) ([]Proc, error)
	// Forget drops the record of a process that exited.
	Forget(ctx context.Context, id string) error
}

// Spec is everything a Host needs to start one process.
type Spec struct {
	ID          string
	Argv        []string // Argv[0] is an absolute path
	Env         []string // complete: nothing of the host's own environment is added
	Dir         string
	User        *User // nil: the user that the host runs as
	Log         Log
	Cgroups     []string // cgroup directories that the process is put into before it runs
	OOMScoreAdj int
	Grace       time.Duration // for when the host has to stop it by itself
	Meta        string        // given back by List; holds no secrets
	Listen      string        // path of a unix socket that the host makes and the process gets as descriptor 3; "": none
}

// User is a resolved system user.
type User struct {
	Name   string
	Home   string
	UID    uint32
	GID    uint32
	Groups []uint32
}

// Log says where the output of a process goes.
type Log struct {
	Path    string // one file per app
	Label   string // of the instance: "v3/1"
	MaxSize int64
	MaxAge  time.Duration
	Keep    int
}

// Proc is what a Host knows about one process.
type Proc struct {
	ID      string
	PID     int
	Started time.Time
	Running bool
	Exit    *gapless.Exit // nil while Running
	Meta    string
}

// unreachable reports whether err means that the host could not be asked.
func unreachable(err error) bool {
	return gapless.CodeOf(err) == gapless.Unavailable ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}
