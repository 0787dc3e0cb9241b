//go:build linux

package supervise

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gapless"
)

func TestExpand(t *testing.T) {
	env := map[string]string{"PORT": "24001", "A_1": "x y", "EMPTY": ""}
	for in, want := range map[string]string{
		"":                  "",
		"plain":             "plain",
		"$PORT":             "24001",
		"--port=${PORT}":    "--port=24001",
		"$PORT$PORT":        "2400124001",
		"${PORT}0":          "240010",
		"$A_1-":             "x y-",
		"[$EMPTY]":          "[]",
		"$$PORT":            "$PORT",
		"$$$PORT":           "$24001",
		"^a$":               "^a$",
		"$1 ${} ${PORT $.":  "$1 ${} ${PORT $.",
		"host:$PORT/${A_1}": "host:24001/x y",
	} {
		if got, missing := expand(in, env); got != want || missing != "" {
			t.Errorf("expand(%q) = %q, missing %q; want %q", in, got, missing, want)
		}
	}
	if _, missing := expand("$PORT $Nope ${Neither}", env); missing != "Nope" {
		t.Errorf("missing is %q, want Nope", missing)
	}
}

func TestRecipe(t *testing.T) {
	t.Setenv("SECRET_OF_THE_DAEMON", "1")
	tree := t.TempDir()
	node := filepath.Join(t.TempDir(), "node")
	for _, f := range []string{node, filepath.Join(tree, "node_modules/.bin/next"), filepath.Join(tree, "serve")} {
		if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	rel := &gapless.Release{App: "shop", Name: "v2", Tree: tree, Runtime: gapless.Runtime{Name: "node", Path: node},
		Spec: gapless.App{Env: map[string]string{"A": "app", "B": "app", "PORT": "1"},
			Processes: []gapless.Process{{Name: "web", Env: map[string]string{"B": "process", "NODE_ENV": "staging"}}}}}
	in := gapless.Instance{ID: "shop.v2.web.1.q", App: "shop", Release: "v2", Process: "web", Slot: 1}
	u := &User{Name: "deploy", Home: "/home/deploy"}
	for _, c := range []struct{ argv, want []string }{
		{[]string{"node", "s.js", "--port", "$PORT"}, []string{node, "s.js", "--port", "24001"}},
		{[]string{"/usr/bin/node", "s.js"}, []string{node, "s.js"}},
		{[]string{"next", "start", "-p${PORT}"}, []string{tree + "/node_modules/.bin/next", "start", "-p24001"}},
		{[]string{"./serve", "$GAPLESS_RELEASE"}, []string{tree + "/serve", "v2"}},
		{[]string{"sh", "-c", "echo $UNSET $$ $PORT"}, []string{"/bin/sh", "-c", "echo $UNSET $$ $PORT"}},
	} {
		rel.Commands = map[string][]string{"web": c.argv}
		r, err := makeRecipe(in, rel, map[string]string{"A": "file"}, u, "24001", "Europe/Berlin")
		if err != nil {
			t.Errorf("%v: %v", c.argv, err)
			continue
		}
		if filepath.Base(r.argv[0]) == "sh" {
			r.argv[0] = "/bin/sh"
		}
		if !slices.Equal(r.argv, c.want) || r.dir != tree {
			t.Errorf("%v: argv %v in %s, want %v", c.argv, r.argv, r.dir, c.want)
		}
		want := []string{
			"A=file", "B=process", "GAPLESS_APP=shop", "GAPLESS_INSTANCE=shop.v2.web.1.q", "GAPLESS_PROCESS=web", "GAPLESS_RELEASE=v2",
			"HOME=/home/deploy", "LANG=C.UTF-8", "LOGNAME=deploy", "NODE_ENV=staging",
			"PATH=" + filepath.Dir(node) + ":" + tree + "/node_modules/.bin:" + standardPath,
			"PORT=24001", "TMPDIR=/tmp", "TZ=Europe/Berlin", "USER=deploy",
		}
		if !slices.Equal(r.env, want) {
			t.Errorf("environment is\n%s\nwant\n%s", strings.Join(r.env, "\n"), strings.Join(want, "\n"))
		}
	}
}

func TestBackoff(t *testing.T) {
	want := []time.Duration{0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000}
	for n, w := range want {
		if got := backoff(n); got != w*time.Millisecond {
			t.Errorf("backoff(%d) = %s, want %s", n, got, w*time.Millisecond)
		}
	}
	if got := backoff(1 << 40); got != 30*time.Second {
		t.Errorf("backoff of many is %s", got)
	}
}

func TestPortsSkipWhatIsTakenOrHeld(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "0.0.0.0", "[::1]", "[::]", "127.0.0.9"} {
		p := newPorts()
		free, err := p.take()
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", addr+":"+strconv.Itoa(free))
		if err != nil {
			continue // no IPv6 here
		}
		p.give(free)
		p.next = free
		if got, err := p.take(); err != nil || got == free {
			t.Errorf("took %d (%v), which somebody listens on at %s", got, err, addr)
		}
		l.Close()
		p.next = free
		if got, _ := p.take(); got != free {
			t.Errorf("did not take the free port %d, but %d", free, got)
		}
		p.next = free
		if got, _ := p.take(); got == free {
			t.Errorf("took port %d twice", free)
		}
	}
}

func TestParseListener(t *testing.T) {
	for line, want := range map[string]string{
		"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 4711 1 0 100 0 0 10 0":                                                 "127.0.0.1:8080",
		"   1: 00000000000000000000000001000000:5DC1 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 4711 1 0 100 0 0 10 0": "[::1]:24001",
		"   2: 00000000000000000000000000000000:5DC1 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 4711 1 0 100 0 0 10 0": "[::]:24001",
	} {
		l, listening, ok := parseListener(line)
		if !ok || !listening || l.addr.String() != want || l.inode != "4711" {
			t.Errorf("%s: %v %v %v, want %s", line, l, listening, ok, want)
		}
	}
	if _, listening, ok := parseListener("   3: 0100007F:1F90 0100007F:A001 01 00000000:00000000 00:00000000 00000000  0 0 4712 1"); !ok || listening {
		t.Error("a connected socket counts as listening")
	}
	if _, _, ok := parseListener("  sl  local_address"); ok {
		t.Error("the header counts as a socket")
	}
}

func TestReachable(t *testing.T) {
	for _, c := range []struct {
		listener, addr string
		want           bool
	}{
		{"127.0.0.1:1", "127.0.0.1:1", true}, {"0.0.0.0:1", "127.0.0.1:1", true}, {"[::]:1", "127.0.0.1:1", true},
		{"[::]:1", "[::1]:1", true}, {"[::1]:1", "[::1]:1", true},
		{"127.0.0.1:2", "127.0.0.1:1", false}, {"0.0.0.0:1", "[::1]:1", false}, {"[::1]:1", "127.0.0.1:1", false}, {"127.0.0.9:1", "127.0.0.1:1", false},
	} {
		if got := reachable([]netip.AddrPort{netip.MustParseAddrPort(c.listener)}, netip.MustParseAddrPort(c.addr)); got != c.want {
			t.Errorf("listening on %s reaches %s: %v, want %v", c.listener, c.addr, got, c.want)
		}
	}
}

func TestOwners(t *testing.T) {
	table := procTable{}
	for _, p := range []procStat{
		{pid: 1}, {pid: 10, parent: 1, group: 10, session: 10},
		{pid: 100, parent: 10, group: 100, session: 10}, // an instance
		{pid: 101, parent: 100, group: 100, session: 10},
		{pid: 102, parent: 101, group: 102, session: 102}, // left the group, but descends
		{pid: 103, parent: 1, group: 100, session: 10},    // orphaned, but in the group
		{pid: 104, parent: 103, group: 104, session: 104}, // child of that one
		{pid: 200, parent: 10, group: 200, session: 10},   // another instance
		{pid: 300, parent: 10, group: 300, session: 10},
	} {
		table[p.pid] = p
	}
	of := table.owners(map[int]bool{100: true, 200: true})
	for pid, want := range map[int]int{100: 100, 101: 100, 102: 100, 103: 100, 104: 100, 200: 200, 300: 0, 10: 0, 1: 0} {
		if of[pid] != want {
			t.Errorf("process %d belongs to %d, want %d", pid, of[pid], want)
		}
	}
}

func TestWhyExited(t *testing.T) {
	for _, c := range []struct {
		exit gapless.Exit
		want string
	}{
		{gapless.Exit{Code: 1}, "exited with code 1 after 0.2 s"},
		{gapless.Exit{Code: 0}, "ended by itself after 0.2 s (exit code 0)"},
		{gapless.Exit{Code: 127}, "exited with code 127 after 0.2 s"},
		{gapless.Exit{Code: -1, Signal: "SIGSEGV"}, "was killed by SIGSEGV after 0.2 s"},
		{gapless.Exit{Code: -1, Signal: "SIGKILL", OOM: true}, "was killed after 0.2 s for using more than 300 MiB of memory"},
		{gapless.Exit{Code: -1}, "ended after 0.2 s, exit code unknown"},
	} {
		if got := whyExited(c.exit, 200*time.Millisecond, 200<<20); got.reason != c.want {
			t.Errorf("%v: %q, want %q", c.exit, got.reason, c.want)
		}
	}
}
