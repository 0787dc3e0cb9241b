package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"gapless"
)

// Home is the one directory in which an installation keeps everything. Two
// homes are two independent installations.
type Home string

// DefaultHome is $GAPLESS_HOME, else /var/lib/gapless for root and the user's
// state directory otherwise.
func DefaultHome() (Home, error) {
	dir := os.Getenv("GAPLESS_HOME")
	switch {
	case dir != "":
	case os.Geteuid() == 0:
		dir = "/var/lib/gapless"
	case os.Getenv("XDG_STATE_HOME") != "":
		dir = filepath.Join(os.Getenv("XDG_STATE_HOME"), "gapless")
	default:
		user, err := os.UserHomeDir()
		if err != nil {
			return "", gapless.Errorf(gapless.Invalid, "find a place for state: %w", err).WithHint("set GAPLESS_HOME to a directory")
		}
		dir = filepath.Join(user, ".local", "state", "gapless")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", gapless.Errorf(gapless.Invalid, "GAPLESS_HOME %s: %w", dir, err)
	}
	h := Home(abs)
	// sun_path holds 108 bytes with its NUL; the longest name is edge-<generation>.sock
	if n := len(h.EdgeSocket(999999)); n > 107 {
		return "", gapless.Errorf(gapless.Invalid, "GAPLESS_HOME %s is too long for unix sockets by %d bytes", abs, n-107).
			WithHint("use a shorter directory")
	}
	return h, nil
}

func (h Home) path(elem ...string) string {
	return filepath.Join(append([]string{string(h)}, elem...)...)
}

func (h Home) DB() string        { return h.path("gapless.db") }
func (h Home) Key() string       { return h.path("release.key") }
func (h Home) Log() string       { return h.path("gapless.log") }
func (h Home) Run() string       { return h.path("run") }
func (h Home) APISocket() string { return h.path("run", "api.sock") }
func (h Home) EdgeSocket(generation int) string {
	return h.path("run", "edge-"+strconv.Itoa(generation)+".sock")
}
func (h Home) AppLog(app string) string { return h.path("apps", app, "logs", "app.log") }
func (h Home) AccessLog(app string) string {
	return h.path("apps", app, "logs", "access.log")
}
func (h Home) Shared(app string) string { return h.path("apps", app, "shared") }
func (h Home) EnvFile(app, release string) string {
	return h.path("apps", app, "env", release+".json")
}

// Content is where files lie that releases share.
func (h Home) Content() string { return h.path("content") }

// Scan is what the last release of an app found in its source.
func (h Home) Scan(app string) string { return h.path("apps", app, "env", "scan.cache") }

// Carried lists the assets that a release has from former ones.
func (h Home) Carried(app, release string) string {
	return h.path("apps", app, "env", release+".carried.json")
}

func (h Home) Tree(app, release string) string { return h.path("apps", app, "releases", release) }

// Make creates the directories. Release trees must be reachable for run-as
// users, so the upper directories can be passed through but not listed.
func (h Home) Make() error {
	err := os.MkdirAll(filepath.Dir(h.path()), 0o755)
	if err == nil {
		err = makeDirs(h.path(), []dir{{"", 0o711}, {"run", 0o700}, {"apps", 0o711}})
	}
	if err != nil {
		return gapless.Errorf(gapless.Unavailable, "make %s: %w", h.path(), err).
			WithHint("set GAPLESS_HOME to a directory that you may write to")
	}
	return nil
}

type dir struct {
	name string
	mode os.FileMode
}

// makeDirs makes those that are not there, parents first, with just that mode
// whatever the umask.
func makeDirs(base string, dirs []dir) error {
	for _, d := range dirs {
		path := filepath.Join(base, d.name)
		err := os.Mkdir(path, d.mode)
		if err == nil {
			err = os.Chmod(path, d.mode)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// Exists reports whether something was ever started here.
func (h Home) Exists() bool {
	_, err := os.Stat(h.DB())
	return err == nil
}

// makeApp creates the directories of one app.
func (h Home) makeApp(app string) error {
	err := makeDirs(h.path("apps", app), []dir{{"", 0o711}, {"releases", 0o700}, {"shared", 0o711}, {"logs", 0o700}, {"env", 0o700}})
	if err != nil {
		return gapless.Errorf(gapless.Unavailable, "make the directories of %s: %w", app, err)
	}
	return nil
}
