//go:build linux

package keeper

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gapless"
)

// TestMain runs the tests, or, as "role:<name> args…", one of the processes
// that the tests need.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if name, ok := strings.CutPrefix(os.Args[1], "role:"); ok {
			os.Exit(role(name, os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

// noRaceSleep keeps processes under the race detector from sleeping a second
// when they exit.
const noRaceSleep = "GORACE=atexit_sleep_ms=0"

func role(name string, args []string) int {
	switch name {
	case "keeper":
		var cfg Config
		if err := json.Unmarshal([]byte(args[0]), &cfg); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
		if err := Run(context.Background(), cfg); err != nil {
			fmt.Fprintln(os.Stderr, gapless.CodeOf(err), err)
			return 1
		}
		return 0
	case "wait": // until SIGTERM
		ch := make(chan os.Signal, 1)
		signal.Notify(ch, syscall.SIGTERM)
		<-ch
		return 0
	case "lines": // lines <n> <pad>: numbered lines
		n, _ := strconv.Atoi(args[0])
		pad, _ := strconv.Atoi(args[1])
		w := bufio.NewWriter(os.Stdout)
		for i := range n {
			fmt.Fprintf(w, "%06d %s\n", i, strings.Repeat("x", pad))
		}
		w.Flush()
		return 0
	case "serve": // serve <addr>: prints a line per request and answers it
		http.ListenAndServe(args[0], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Println("request", r.URL.Path, strings.Repeat("y", 1000))
			io.WriteString(w, "ok")
		}))
		return 1
	case "accept": // accept <socket> <addr>: takes a listener from keeper, says its pid to each connection
		ctx := context.Background()
		c, err := Dial(ctx, args[0])
		if err != nil {
			return 1
		}
		ln, err := c.Listener(ctx, args[1])
		if err != nil {
			return 1
		}
		for {
			conn, err := ln.Accept()
			if err != nil {
				return 1
			}
			fmt.Fprintln(conn, os.Getpid())
			conn.Close()
		}
	case "handed": // accepts on descriptor 3, and says its pid to each connection
		ln, err := net.FileListener(os.NewFile(3, "handed"))
		if err != nil {
			return 1
		}
		for {
			conn, err := ln.Accept()
			if err != nil {
				return 1
			}
			fmt.Fprintln(conn, os.Getpid())
			conn.Close()
		}
	case "eat": // memory, until killed
		var all [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = 1
			}
			all = append(all, b)
			fmt.Fprintln(io.Discard, len(all))
			time.Sleep(time.Millisecond)
		}
	}
	fmt.Fprintln(os.Stderr, "unknown role", name)
	return 2
}

// rig is a keeper in a process of its own.
type rig struct {
	*Client
	t   *testing.T
	dir string
	cmd *exec.Cmd
	log string
}

func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

func start(t *testing.T, children ...Child) *rig {
	t.Helper()
	return startIn(t, func(string) Config { return Config{Children: children} })
}

// startIn starts a keeper with what configure says for its directory.
func startIn(t *testing.T, configure func(dir string) Config) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "keeper") // short: socket paths are limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	config := configure(dir)
	config.RunDir, config.Version, config.Grace = dir, "test", 5*time.Second
	cfg, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir, log: filepath.Join(dir, "keeper.log")}
	out, err := os.Create(r.log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	r.cmd = exec.Command(self(t), "role:keeper", string(cfg))
	r.cmd.Stdout, r.cmd.Stderr = out, out
	r.cmd.Env = append(os.Environ(), "KEEPER_TEST_SECRET=hush-hush", noRaceSleep)
	r.cmd.ExtraFiles = []*os.File{out} // something that a shell may leave open
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.end)
	eventually(t, "keeper answers", func() bool {
		r.Client, err = Dial(t.Context(), SocketPath(dir))
		return err == nil
	})
	if _, err := r.Hello(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) end() {
	if r.cmd.ProcessState == nil { // the test did not end it
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if r.Client != nil {
			defer r.Client.Close()
			if err := r.Shutdown(ctx, time.Second); err != nil {
				r.t.Errorf("shutdown: %v", err)
				r.cmd.Process.Kill()
			}
		}
		if err := r.cmd.Wait(); err != nil {
			r.t.Errorf("keeper ended: %v", err)
		}
	}
	text, _ := os.ReadFile(r.log)
	if strings.Contains(string(text), "hush-hush") {
		r.t.Error("the environment is in keeper's log")
	}
	if strings.Contains(string(text), "DATA RACE") || r.t.Failed() {
		r.t.Errorf("end of keeper's log:\n%s", text[max(0, len(text)-4000):])
	}
}

// run starts an instance.
func (r *rig) run(id string, log *Log, argv ...string) Proc {
	r.t.Helper()
	p, err := r.Start(r.t.Context(), Spec{ID: id, Argv: argv, Log: log,
		Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin", "SECRET=hush-hush", noRaceSleep, rigEnv + r.dir}})
	if err != nil {
		r.t.Fatalf("start %s: %v (%s)", id, err, gapless.HintOf(err))
	}
	return p
}

func (r *rig) sh(id, script string) Proc {
	r.t.Helper()
	return r.run(id, nil, "/bin/sh", "-c", script)
}

// exit waits until an instance has ended.
func (r *rig) exit(id string) Proc {
	r.t.Helper()
	var p Proc
	eventually(r.t, id+" ends", func() bool {
		p = r.proc(id)
		return p.ID != "" && !p.Running
	})
	return p
}

func (r *rig) proc(id string) Proc {
	r.t.Helper()
	list, err := r.List(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, p := range list {
		if p.ID == id {
			return p
		}
	}
	return Proc{}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// rigEnv tells the processes of one test from those of another.
const rigEnv = "KEEPER_TEST_RIG="

// marks returns the living processes that carry an instance's name.
func (r *rig) marks(id string) (pids []int) {
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		pid, _ := strconv.Atoi(filepath.Base(name))
		if m, ok := readMember(pid); ok && !m.zombie &&
			marked(pid, []byte(InstanceEnv+"="+id)) && marked(pid, []byte(rigEnv+r.dir)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func alive(pid int) bool {
	m, ok := readMember(pid)
	return ok && !m.zombie
}

func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
