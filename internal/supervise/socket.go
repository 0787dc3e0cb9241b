package supervise

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"gapless"
)

// longestSocket is the longest path that a unix socket can have on every system.
const longestSocket = 103

// socketDir is where the sockets of an app's instances are. The directory above
// it can be passed through by the users that instances run as.
func (s *Supervisor) socketDir(app string) string { return filepath.Join(s.cfg.Home, "sock", app) }

// takeSocket returns the path that one run of an instance is to listen on.
// Its directory belongs to the user of the instance, and nobody else gets in.
func (s *Supervisor) takeSocket(app, hostID string, u *User) (string, error) {
	dir := s.socketDir(app)
	name := strings.ReplaceAll(strings.TrimPrefix(hostID, app+"."), "#", "-")
	path := filepath.Join(dir, name)
	if n := len(path); n > longestSocket {
		return "", gapless.Errorf(gapless.Invalid, "the unix socket %s would have a path of %d bytes, and %d are possible", path, n, longestSocket).
			WithHint("give the app a shorter name, or gapless a shorter home (GAPLESS_HOME), or remove socket: from gapless.yaml")
	}
	err := os.Mkdir(filepath.Dir(dir), 0o711)
	if err == nil {
		err = os.Chmod(filepath.Dir(dir), 0o711) // whatever the umask
	}
	if err == nil || errors.Is(err, fs.ErrExist) {
		err = os.Mkdir(dir, 0o700)
	}
	if err == nil || errors.Is(err, fs.ErrExist) {
		err = os.Chmod(dir, 0o700)
	}
	if err == nil && os.Geteuid() == 0 {
		err = os.Chown(dir, int(u.UID), int(u.GID))
	}
	if err != nil {
		return "", fmt.Errorf("make the directory of the sockets of %s: %w", app, err)
	}
	removeDead(path)
	return path, nil
}

// removeDead removes a socket that nobody listens on any more.
func removeDead(path string) {
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		os.Remove(path)
	}
}

// sweepSockets removes what instances left that are not there any more.
func (s *Supervisor) sweepSockets() {
	files, _ := filepath.Glob(filepath.Join(s.cfg.Home, "sock", "*", "*"))
	if len(files) == 0 {
		return
	}
	used := map[string]bool{}
	s.mu.Lock()
	for _, p := range s.processes {
		used[p.socket] = true
	}
	s.mu.Unlock()
	for _, f := range files {
		if !used[f] {
			removeDead(f)
		}
	}
}

// connectSocket returns a connection to the process on its socket, nil if none
// is accepted, and a fault if it is accepted by somebody else.
func (r readiness) connectSocket(ctx context.Context, owned bool) (net.Conn, *fault) {
	d := net.Dialer{Timeout: time.Second}
	conn, err := d.DialContext(ctx, "unix", r.socket)
	if err != nil {
		return nil, nil
	}
	if owned {
		return conn, nil
	}
	s, err := surveySocket(r.pid, r.socket)
	if errors.Is(err, errors.ErrUnsupported) || err == nil && (s.own || !s.complete) {
		return conn, nil
	}
	conn.Close()
	if err != nil {
		return nil, nil
	}
	who := "another program"
	if h := holder(s.others); h != "" {
		who += " (" + h + ")"
	}
	return nil, &fault{publish: time.Second, fail: 2 * time.Second, why: why{
		who + " listens on " + r.socket,
		"if it is this app's own process, it must not leave the process tree of its instance",
	}}
}

// socketSurvey is who listens on a unix socket, seen from one instance.
type socketSurvey struct {
	own      bool
	complete bool // every process of the tree could be looked into
	others   []string
}

// asNumber is the hint for programs that take PORT for a number.
const asNumber = "with socket: true PORT is the path of a unix socket: pass process.env.PORT to listen() as it is, without parseInt or Number and without a host; or remove socket: from gapless.yaml"

// asDescriptor is the hint for programs that do not take what they are handed.
const asDescriptor = "with socket: fd the program is to accept on descriptor 3 (LISTEN_FDS=1, GAPLESS_SOCKET_FD=3): server.listen({ fd: 3 }) in Node; or remove socket: from gapless.yaml"

// notAccepted is why a process is not ready that was handed its socket.
var notAccepted = why{"accepts nothing on the socket that it was handed as descriptor 3", asDescriptor}

// notTaken explains why nobody answers on a socket that the process was handed.
func (r readiness) notTaken() fault {
	if s, err := surveyTree(r.pid); err == nil {
		if f := r.notOnSocket(s); f.confirm != nil {
			return f
		}
	}
	return fault{why: notAccepted, publish: 2 * time.Second}
}

// handed is a recipe of a process that is handed its socket as descriptor 3, as
// systemd does it. LISTEN_PID names the process itself, so that a shell has to
// put it in, where there is one: libraries for that believe nothing without.
func (r recipe) handed() recipe {
	r.env = append(r.env, "LISTEN_FDS=1", "GAPLESS_SOCKET_FD=3")
	if sh := "/bin/sh"; executable(sh) {
		r.argv = append([]string{sh, "-c", `LISTEN_PID=$$; export LISTEN_PID; exec "$@"`, "sh"}, r.argv...)
	}
	return r
}

// notOnSocket explains, from where the process does listen, why nothing
// accepts on its socket.
func (r readiness) notOnSocket(s survey) fault {
	ports := map[string]bool{}
	var names []string
	for _, l := range s.own {
		if p := fmt.Sprint(l.Port()); !ports[p] && (l.Port() != inspector || !l.Addr().IsLoopback()) {
			ports[p] = true
			names = append(names, p)
		}
	}
	if len(names) == 0 {
		return r.nowhere()
	}
	elsewhere := s.own
	w := why{fmt.Sprintf("listens on TCP port %s, and was given the unix socket %s in PORT", strings.Join(names, " and "), r.socket), asNumber}
	if r.handed {
		w = why{fmt.Sprintf("listens on TCP port %s, and was handed a unix socket as descriptor 3", strings.Join(names, " and ")), asDescriptor}
	}
	return fault{publish: 3 * time.Second, fail: 5 * time.Second,
		why:     w,
		confirm: func(ctx context.Context) bool { return r.serves(ctx, elsewhere) },
	}
}

// addressOf is how an edge reaches the other end of a connection.
func addressOf(c net.Conn) string {
	if a, ok := c.RemoteAddr().(*net.UnixAddr); ok {
		return "unix:" + a.Name
	}
	return c.RemoteAddr().String()
}
