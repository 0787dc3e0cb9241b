//go:build linux

package supervise

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gapless"
)

func onSocket(r *gapless.Release) { r.Spec.Socket = true }

func askSocket(t *testing.T, path, url string) string {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}}
	res, err := c.Get("http://localhost" + url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return string(b)
}

// An instance with socket: is ready at the unix socket that PORT names; only
// its user gets at it, each run has its own, and it goes with the instance.
func TestInstancesOnUnixSockets(t *testing.T) {
	t.Parallel()
	for _, health := range []bool{false, true} {
		b := newBench(t)
		change := []func(*gapless.Release){onSocket}
		if health {
			change = append(change, healthz)
		}
		in := b.start(b.release(goodApp, change...))
		got := b.untilState(in.ID, gapless.Ready)
		path, ok := strings.CutPrefix(got.Address, "unix:")
		if !ok || !filepath.IsAbs(path) {
			t.Fatalf("ready at %q", got.Address)
		}
		wantText(t, "environment", askSocket(t, path, "/env"), `"PORT":"`+path+`"`)
		if dir, err := os.Stat(filepath.Dir(path)); err != nil || dir.Mode().Perm() != 0o700 {
			t.Errorf("the directory: %v, %v", dir.Mode(), err)
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET /exit HTTP/1.1\r\nHost: x\r\n\r\n")
		io.Copy(io.Discard, c)
		c.Close()
		again := b.until(in.ID, "started again", func(i gapless.Instance) bool { return i.State == gapless.Ready && i.Restarts == 1 })
		if again.Address == got.Address {
			t.Errorf("both runs are at %s", again.Address)
		}
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("the socket of the first run: %v", err)
		}
		b.stop(in.ID)
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// The next supervisor takes an instance over at its socket, and removes what
// others left: but not what somebody listens on.
func TestAdoptOnUnixSockets(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	rel := b.release(goodApp, onSocket, healthz)
	in := b.start(rel)
	address := b.untilState(in.ID, gapless.Ready).Address
	dir := filepath.Dir(strings.TrimPrefix(address, "unix:"))
	dead, alive := filepath.Join(dir, "dead"), filepath.Join(dir, "alive")
	l, err := net.Listen("unix", dead)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if l, err = net.Listen("unix", alive); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b.Close()
	b.open()
	if err := b.Adopt(t.Context(), func(string, string, string) (*gapless.Release, map[string]string) { return rel, nil }); err != nil {
		t.Fatal(err)
	}
	if got := b.untilState(in.ID, gapless.Ready); got.Address != address {
		t.Errorf("adopted at %s, was at %s", got.Address, address)
	}
	if _, err := os.Stat(dead); !os.IsNotExist(err) {
		t.Errorf("what a dead one left: %v", err)
	}
	if _, err := os.Stat(alive); err != nil {
		t.Errorf("what somebody listens on: %v", err)
	}
	b.stop(in.ID)
}

func TestWhyNotOnASocket(t *testing.T) {
	t.Parallel()
	const elsewhere = `require('http').createServer((q, s) => s.end('x')).listen(parseInt(process.env.PORT) || 0, '127.0.0.1')`
	const crash = `require('http').createServer().listen(parseInt(process.env.PORT), '127.0.0.1')`
	for name, c := range map[string]struct {
		script string
		want   []string
	}{
		"a number is made of it": {elsewhere, []string{"listens on TCP port", "unix socket"}},
		"no number, it crashes":  {crash, []string{"exited with code"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			in := b.start(b.release(c.script, onSocket))
			got := b.untilState(in.ID, gapless.Crashed)
			wantText(t, "reason", got.Reason, c.want...)
			wantText(t, "hint", got.Hint, "without parseInt", "socket:")
			b.stop(in.ID)
		})
	}
}

// A socket that somebody else listens on is not taken for the instance's own.
func TestASocketOfOthersIsNotReady(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	own := readiness{pid: os.Getpid(), socket: filepath.Join(dir, "s")}
	conn, stolen := own.connectSocket(t.Context(), false)
	if conn == nil || stolen != nil {
		t.Fatalf("our own: %v, %v", conn, stolen)
	}
	conn.Close()
	b := newBench(t)
	in := b.start(b.release(goodApp))
	other := readiness{pid: b.untilState(in.ID, gapless.Ready).PID, socket: own.socket}
	if conn, stolen = other.connectSocket(t.Context(), false); conn != nil || stolen == nil {
		t.Fatalf("of another program: %v, %v", conn, stolen)
	}
	wantText(t, "reason", stolen.reason, "another program", own.socket)
	b.stop(in.ID)
}

func TestSocketPathsThatAreTooLong(t *testing.T) {
	t.Parallel()
	s := &Supervisor{cfg: Config{Home: filepath.Join(t.TempDir(), strings.Repeat("h", 90))}}
	_, err := s.takeSocket("shop", "shop.v1.web.1.1", &User{})
	if gapless.CodeOf(err) != gapless.Invalid || !strings.Contains(gapless.HintOf(err), "GAPLESS_HOME") {
		t.Errorf("%v, hint %q", err, gapless.HintOf(err))
	}
}

// The directory of an app's sockets belongs to who its instances run as, and
// can be reached by them.
func TestSocketsOfAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can run instances as another user")
	}
	home := t.TempDir()
	s := &Supervisor{cfg: Config{Home: home}}
	path, err := s.takeSocket("shop", "shop.v1.web.1.1#2", &User{UID: 65534, GID: 65534})
	if err != nil || path != filepath.Join(home, "sock", "shop", "v1.web.1.1-2") {
		t.Fatalf("%s, %v", path, err)
	}
	for dir, want := range map[string]string{filepath.Dir(path): "-rwx------ 65534 65534", filepath.Join(home, "sock"): "-rwx--x--x 0 0"} {
		st, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		sys := st.Sys().(*syscall.Stat_t)
		if got := fmt.Sprint(st.Mode().Perm(), sys.Uid, sys.Gid); got != want {
			t.Errorf("%s: %s, want %s", dir, got, want)
		}
	}
}

func TestParseSocket(t *testing.T) {
	for line, want := range map[string]string{
		"ffff8: 00000002 00000000 00010000 0001 01 41702 /run/a.sock":       "41702",
		"ffff8: 00000003 00000000 00000000 0001 03 41703 /run/a.sock":       "",
		"ffff8: 00000002 00000000 00010000 0001 01 41704 /other/run/a.sock": "",
		"ffff8: 00000002 00000000 00010000 0001 01 41705":                   "",
		"Num       RefCount Protocol Flags    Type St Inode Path":           "",
	} {
		if got, ok := parseSocket(line, "/run/a.sock"); got != want || ok != (want != "") {
			t.Errorf("%s: %q %v", line, got, ok)
		}
	}
}
