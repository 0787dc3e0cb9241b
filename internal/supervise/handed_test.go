//go:build linux

package supervise

import (
	"os"
	"strings"
	"testing"
	"time"

	"gapless"
)

func handed(r *gapless.Release) { r.Spec.Socket, r.Spec.SocketFD = true, true }

// lateApp accepts on descriptor 3 after a while: until then connections to the
// socket succeed, and mean nothing.
const lateApp = `
const http = require('http');
const server = http.createServer((q, s) => q.url === '/env' ? s.end(JSON.stringify({ ...process.env, me: String(process.pid) })) :
  q.url === '/exit' ? process.exit(7) : q.url === '/healthz' ? s.end('ok') : (s.statusCode = 404, s.end()));
setTimeout(() => { console.log('accepts'); server.listen({ fd: Number(process.env.GAPLESS_SOCKET_FD) }); }, 700);`

// An instance with socket: fd is ready when it answers on the socket that it
// was handed, and not before; the environment is that of systemd.
func TestHandedSockets(t *testing.T) {
	t.Parallel()
	for _, health := range []bool{false, true} {
		b := newBench(t)
		change := []func(*gapless.Release){handed}
		if health {
			change = append(change, healthz)
		}
		began := time.Now()
		in := b.start(b.release(lateApp, change...))
		got := b.untilState(in.ID, gapless.Ready)
		if took := time.Since(began); took < 700*time.Millisecond {
			t.Errorf("ready after %s, before it accepts", took)
		}
		path, ok := strings.CutPrefix(got.Address, "unix:")
		if !ok {
			t.Fatalf("ready at %q", got.Address)
		}
		env := askSocket(t, path, "/env")
		wantText(t, "environment", env, `"LISTEN_FDS":"1"`, `"GAPLESS_SOCKET_FD":"3"`)
		if strings.Contains(env, `"PORT"`) {
			t.Errorf("PORT is set: %s", env)
		}
		_, pid, _ := strings.Cut(env, `"LISTEN_PID":"`)
		_, me, _ := strings.Cut(env, `"me":"`)
		if pid, _, _ = strings.Cut(pid, `"`); pid == "" || !strings.HasPrefix(me, pid+`"`) {
			t.Errorf("LISTEN_PID is %q: %s", pid, env)
		}
		b.stop(in.ID)
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("the socket is left: %v", err)
		}
	}
}

func TestWhyNothingAcceptsOnAHandedSocket(t *testing.T) {
	t.Parallel()
	const elsewhere = `require('http').createServer((q, s) => s.end('x')).listen(0, '127.0.0.1')`
	const crash = `throw new Error('no port')`
	const deaf = `setInterval(() => {}, 1000)`
	for name, c := range map[string]struct {
		script string
		want   []string
	}{
		"it listens on TCP": {elsewhere, []string{"listens on TCP port", "descriptor 3"}},
		"it crashes":        {crash, []string{"exited with code"}},
		"it accepts nobody": {deaf, []string{"not ready within", "accepts nothing", "descriptor 3"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			in := b.start(b.release(c.script, handed, func(r *gapless.Release) { r.Spec.StartTimeout = gapless.Duration(12 * time.Second) }))
			got := b.untilState(in.ID, gapless.Crashed)
			wantText(t, "reason", got.Reason, c.want...)
			if name != "it crashes" {
				wantText(t, "hint", got.Hint, "listen({ fd: 3 })", "socket:")
			}
			b.stop(in.ID)
		})
	}
}
