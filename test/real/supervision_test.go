package real

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/load"
	"gapless/test/rig"
)

// theApp is the one app of the installation.
func theApp(t *testing.T, r *rig.Rig) api.AppStatus {
	t.Helper()
	st := r.Look()
	if len(st.Apps) != 1 {
		t.Fatalf("%d apps", len(st.Apps))
	}
	return st.Apps[0]
}

// of lists the instances of one process of the app.
func of(a api.AppStatus, process string) (out []api.InstanceStatus) {
	for _, in := range a.Instances {
		if in.Process == process {
			out = append(out, in)
		}
	}
	return out
}

// fetch asks once, on a connection of its own.
func fetch(address, path string) (int, string, error) {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + address + path)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), err
}

// TestMemoryLimit lets one of two instances leak long after it was promoted:
// it is replaced, the new one first, and nobody notices.
func TestMemoryLimit(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	r.Write("leaky.js", `require('./server.js');
const kept = [];
process.on('SIGUSR2', () => setInterval(() => { if (kept.length < 12) kept.push(Buffer.alloc(10 << 20, 1)); }, 50));
`)
	configure(r, "http", 2, "run: node leaky.js\nmemory: 140M\n")
	r.Rollout(0, "up")
	m := mix
	m.SSE = 0
	run := r.Load(m, "v1")
	settle()
	victim := theApp(t, r).Instances[0]
	if err := syscall.Kill(victim.PID, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	most, least := 0, 99 // ready at once; together with those that drain
	var drain load.Drain
	rig.Eventually(t, 30*time.Second, "it is replaced", func() bool {
		a := theApp(t, r)
		ready, serving, there := 0, 0, false
		for _, in := range a.Instances {
			there = there || in.ID == victim.ID
			switch in.State {
			case gapless.Ready:
				ready++
				serving++
			case gapless.Draining:
				serving++
				if in.ID == victim.ID && drain.From.IsZero() {
					drain = load.Drain{Instance: in.ID, From: time.Now()}
				}
			}
		}
		most, least = max(most, serving), min(least, ready)
		drain.To = time.Now()
		return !there && len(a.Instances) == 2
	})
	settle()
	if least < 2 || most < 3 {
		t.Errorf("%d instances were ready at least, %d served at most; the new one comes first", least, most)
	}
	if drain.From.IsZero() {
		t.Error("void: its drain was not seen")
	}
	lossless(t, r, run, []load.Drain{drain}, every...)
	for _, in := range theApp(t, r).Instances {
		if in.Restarts > 0 || in.Exit != nil {
			t.Errorf("%s crashed: %v", in.Label(), in.Exit)
		}
	}
}

// life is what one process wrote about itself.
type life struct {
	release, instance string
	pid               int
	start, stop       time.Time
}

// journal reads the lines "<start|stop> <release> <instance> <pid> <ms>" that
// processes append to a file.
func journal(t *testing.T, path string) (lives []life) {
	t.Helper()
	for _, line := range rig.Lines(t, path) {
		var what, release, instance string
		var pid int
		var ms int64
		if n, err := fmt.Sscan(line, &what, &release, &instance, &pid, &ms); n != 5 {
			t.Fatalf("%s: %q: %v", path, line, err)
		}
		if what == "start" {
			lives = append(lives, life{release: release, instance: instance, pid: pid, start: time.UnixMilli(ms)})
			continue
		}
		for i := range lives {
			if lives[i].pid == pid {
				lives[i].stop = time.UnixMilli(ms)
			}
		}
	}
	return lives
}

const diary = `const fs = require('node:fs'), name = process.env.GAPLESS_PROCESS;
const say = (what) => fs.appendFileSync('data/' + name, [what, process.env.GAPLESS_RELEASE, process.env.GAPLESS_INSTANCE, process.pid, Date.now()].join(' ') + '\n');
say('start');
process.on('SIGTERM', () => setTimeout(() => { say('stop'); process.exit(0); }, 400));
setInterval(() => {}, 1000);
`

// TestWorkersAreReleasedTogether deploys an app with workers, a singleton and
// a scheduled process, then a version with a worker that crashes.
func TestWorkersAreReleasedTogether(t *testing.T) {
	t.Parallel()
	r := rig.New(t, "")
	r.App("http")
	r.Write("diary.js", diary)
	configure(r, "http", 1, `shared: data
processes:
  worker: { run: node diary.js, instances: 2 }
  leader: { run: node diary.js, singleton: true }
  nightly: { run: node diary.js, cron: "* * 29 2 *" }
`)
	r.Rollout(0, "up")
	data := filepath.Join(r.Home, "apps", "http", "shared", "data")
	present := func(release string) {
		t.Helper()
		a := theApp(t, r)
		for process, n := range map[string]int{"web": 1, "worker": 2, "leader": 1, "nightly": 1} {
			list := of(a, process)
			if len(list) != n {
				t.Errorf("%s: %d of %s, want %d", release, len(list), process, n)
			}
			for _, in := range list {
				if in.Release != release || in.State != gapless.Ready {
					t.Errorf("%s is of %s and %s, want %s", in.Label(), in.Release, in.State, release)
				}
				if process == "nightly" && (in.PID != 0 || !strings.Contains(in.Reason, "next run at")) {
					t.Errorf("the scheduled process: pid %d, %q", in.PID, in.Reason)
				}
			}
		}
		if res := r.Must(0, "status"); !strings.Contains(res.Stdout, "next run at") {
			t.Errorf("status does not tell the schedule:\n%s", res.Stdout)
		}
	}
	present("v1")
	run := r.Load(load.Mix{KeepAlive: 20, Fresh: 10}, "v1", "v2")
	r.Write("VERSION", "2")
	r.Rollout(0, "deploy")
	r.Allow("v2")
	present("v2")

	r.Write("bad.js", "setTimeout(() => { throw new Error('the queue is not there'); }, 300);\n")
	r.Write("gapless.yaml", strings.Replace(read(t, r, "gapless.yaml"), "worker: { run: node diary.js", "worker: { run: node bad.js", 1))
	res := r.Must(3, "deploy")
	if !strings.Contains(res.Stderr, "v3/worker.") || !strings.Contains(res.Stderr, "the queue is not there") {
		t.Errorf("the report does not name the worker or its last words:\n%s", res.Stderr)
	}
	present("v2")
	r.Write("gapless.yaml", strings.Replace(read(t, r, "gapless.yaml"), "node bad.js", "node diary.js", 1))
	r.Rollout(0, "restart")
	present("v2")
	report := run.Stop()
	if report.Dropped+report.Bad > 0 {
		t.Errorf("%d dropped, %d bad: %v", report.Dropped, report.Bad, report.Errors)
	}
	r.Must(0, "down")

	leaders := journal(t, filepath.Join(data, "leader"))
	if len(leaders) < 3 {
		t.Errorf("void: %d leaders lived", len(leaders))
	}
	for i, l := range leaders {
		if l.stop.IsZero() {
			t.Errorf("leader %s never stopped by itself", l.instance)
		}
		if i > 0 && l.start.Before(leaders[i-1].stop) {
			t.Errorf("two leaders at once: %s started %s before %s stopped", l.instance, leaders[i-1].stop.Sub(l.start), leaders[i-1].instance)
		}
	}
	workers := journal(t, filepath.Join(data, "worker"))
	if len(workers) != 6 { // v1, v2, restart
		t.Errorf("%d workers lived, want 6", len(workers))
	}
	for _, w := range workers {
		if w.stop.IsZero() || rig.Alive(w.pid) {
			t.Errorf("worker %s (pid %d) is not gone", w.instance, w.pid)
		}
	}
	if _, err := os.Stat(filepath.Join(data, "nightly")); err == nil {
		t.Error("the scheduled process ran")
	}
}

const whoami = `const fs = require('node:fs');
require('node:http').createServer((q, r) => r.end(JSON.stringify({
  uid: process.getuid(), gid: process.getgid(), groups: process.getgroups(), user: process.env.USER, home: process.env.HOME,
  own: fs.readFileSync('own.txt', 'utf8'),
  write: (() => { try { fs.writeFileSync('new.txt', ''); return true; } catch (e) { return false; } })(),
  shared: (() => { try { fs.writeFileSync('data/new.txt', ''); return true; } catch (e) { return e.code; } })(),
}))).listen(process.env.PORT);
`

// TestRunAsUser runs instances as nobody: they read their tree, write to their
// shared directories and to nothing else.
func TestRunAsUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can run instances as another user")
	}
	r := rig.New(t, "")
	r.Write("server.js", whoami)
	r.Write("own.txt", "mine")
	r.Write("gapless.yaml", fmt.Sprintf("app: who\nlisten: %q\ninstances: 1\nuser: nobody\nshared: data\n", r.Address))
	r.Rollout(0, "up")
	_, body, err := fetch(r.Address, "/")
	if err != nil {
		t.Fatal(err)
	}
	var is struct {
		UID, GID   int
		Groups     []int
		User, Home string
		Own        string
		Write      bool
		Shared     any
	}
	if err := json.Unmarshal([]byte(body), &is); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if is.UID != 65534 || is.GID == 0 || slices.Contains(is.Groups, 0) || is.User != "nobody" || is.Own != "mine" {
		t.Errorf("it runs as %+v", is)
	}
	if is.Write {
		t.Error("it may write to its release")
	}
	if is.Shared != true {
		t.Errorf("it may not write to its shared directory: %v", is.Shared)
	}
}

// TestKernelLimits looks for the limits of an instance in its cgroups.
func TestKernelLimits(t *testing.T) {
	t.Parallel()
	r := rig.New(t, "")
	r.App("http")
	configure(r, "http", 1, "memory: 200M\ncpu: 0.5\n")
	r.Rollout(0, "up")
	limits := r.Look().Limits
	t.Log(limits)
	in := theApp(t, r).Instances[0]
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", in.PID))
	if err != nil {
		t.Fatal(err)
	}
	file := func(controller, v1, v2 string) string {
		for line := range strings.Lines(string(groups)) {
			f := strings.SplitN(strings.TrimSpace(line), ":", 3)
			for _, path := range []string{filepath.Join("/sys/fs/cgroup", controller, f[2], v1), filepath.Join("/sys/fs/cgroup", f[2], v2)} {
				if slices.Contains(strings.Split(f[1], ","), controller) || f[1] == "" {
					if b, err := os.ReadFile(path); err == nil && strings.Contains(f[2], "gapless-") {
						return strings.TrimSpace(string(b))
					}
				}
			}
		}
		return ""
	}
	for _, c := range []struct{ name, able, v1, v2, want string }{
		{"memory", "hard in the kernel", "memory.limit_in_bytes", "memory.max", strconv.Itoa(300 << 20)}, // half more than 200 MB
		{"cpu", "cpu limit: cgroup", "cpu.cfs_quota_us", "cpu.max", "50000"},                             // half a processor
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(limits, c.able) {
				t.Skipf("no %s cgroup can be made here, as root can where they are writable: %s", c.name, limits)
			}
			if got := file(c.name, c.v1, c.v2); got != c.want && !strings.HasPrefix(got, c.want+" ") {
				t.Errorf("%s limit in the kernel: %q, want %s", c.name, got, c.want)
			}
		})
	}
}

// free reports whether nobody listens on a port.
func free(address string) bool {
	ln, err := net.Listen("tcp", address)
	if err == nil {
		_ = ln.Close()
	}
	return err == nil
}

// TestUnprivilegedPorts runs everything as nobody on ports 80 and 443, which
// takes one capability of the binary; without it the error says so.
func TestUnprivilegedPorts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a binary capabilities and become nobody")
	}
	setcap, err := exec.LookPath("setcap")
	if err != nil {
		t.Skip("there is no setcap here")
	}
	if first, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err == nil && strings.TrimSpace(string(first)) != "1024" {
		t.Skipf("ports from %s on are for everybody here", first)
	}
	for _, port := range []string{":80", ":443"} {
		if !free(port) {
			t.Skipf("somebody listens on %s", port)
		}
	}
	r := rig.New(t, "")
	base := filepath.Dir(r.Home)
	if err := os.Chown(base, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	r.App("http")
	r.Write("gapless.yaml", "app: low\nlisten: [\"127.0.0.1:80\", \"127.0.0.1:443\"]\ninstances: 1\nsoak: 500ms\nbuild: false\n")
	r.User = &syscall.Credential{Uid: 65534, Gid: 65534}
	r.Env = []string{"HOME=" + base, "USER=nobody"}

	plain := filepath.Join(base, "plain")
	able := filepath.Join(base, "able")
	for _, to := range []string{plain, able} {
		if out, err := exec.Command("cp", r.Exe, to).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if out, err := exec.Command(setcap, "cap_net_bind_service=+ep", able).CombinedOutput(); err != nil {
		t.Skipf("setcap does not work here: %v\n%s", err, out)
	}

	r.Exe = plain
	res := r.Run("up")
	if res.Code != gapless.NotAllowed.Exit() {
		t.Errorf("without the capability: exit %d\n%s", res.Code, res.Stderr)
	}
	for _, want := range []string{"cannot listen on 127.0.0.1:80", "setcap", plain, "net.ipv4.ip_unprivileged_port_start=80"} {
		if !strings.Contains(res.Stderr, want) {
			t.Errorf("without the capability the error does not say %q:\n%s", want, res.Stderr)
		}
	}
	r.Must(0, "down", "--all")

	r.Exe = able
	r.Rollout(0, "up")
	r.Write("VERSION", "2")
	r.Rollout(0, "deploy")
	for _, port := range []string{"80", "443"} {
		if status, body, err := fetch("127.0.0.1:"+port, "/"); err != nil || status != 200 || body != "hello v2\n" {
			t.Errorf("port %s: %d %q %v", port, status, body, err)
		}
	}
	for _, p := range r.Look().Procs {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
		if err != nil || !strings.Contains(string(status), "\nUid:\t65534\t65534") {
			t.Errorf("%s does not run as nobody: %v", p.Name, err)
		}
	}
	// The capability is the edge's and keeper's, not the app's.
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", theApp(t, r).Instances[0].PID))
	if err != nil || !strings.Contains(string(status), "\nCapEff:\t0000000000000000") {
		t.Errorf("the instance has capabilities: %v\n%s", err, status)
	}
	r.Must(0, "down", "--all")
}

// TestPortOfSomebodyElse names the program that holds the wanted port.
func TestPortOfSomebodyElse(t *testing.T) {
	t.Parallel()
	r := rig.New(t, "")
	r.App("http")
	configure(r, "http", 1, "")
	_, port, err := net.SplitHostPort(r.Address)
	if err != nil {
		t.Fatal(err)
	}
	other := exec.Command("node", "-e", "require('node:net').createServer().listen("+port+", '127.0.0.1', () => console.log('here'))")
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	}()
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	res := r.Must(1, "up")
	if want := fmt.Sprintf("(pid %d)", other.Process.Pid); !strings.Contains(res.Stderr, want) || !strings.Contains(res.Stderr, "node") || !strings.Contains(res.Stderr, port) {
		t.Errorf("the error does not name node %s:\n%s", want, res.Stderr)
	}
}

// TestCrashRestart lets a promoted instance exit again and again: it is
// started again with a growing pause, and requests are held meanwhile.
func TestCrashRestart(t *testing.T) {
	t.Parallel()
	r := rig.New(t, "")
	r.Write("server.js", `require('node:fs').appendFileSync('data/starts', Date.now() + '\n');
require('node:http').createServer((q, r) => {
  r.end('fine\n');
  if (q.url === '/exit') r.on('finish', () => setTimeout(() => process.exit(9), 50));
}).listen(process.env.PORT);
`)
	r.Write("gapless.yaml", fmt.Sprintf("app: brittle\nlisten: %q\ninstances: 1\nshared: data\nhold: 10s\n", r.Address))
	r.Rollout(0, "up")
	var gaps []time.Duration
	for n := 1; n <= 4; n++ {
		pid := theApp(t, r).Instances[0].PID
		if status, _, err := fetch(r.Address, "/exit"); err != nil || status != 200 {
			t.Fatalf("%d %v", status, err)
		}
		rig.Eventually(t, 5*time.Second, "it exits", func() bool { return !rig.Alive(pid) })
		gone := time.Now()
		errs := make(chan error, 8)
		for range cap(errs) {
			go func() {
				status, body, err := fetch(r.Address, "/")
				if err == nil && (status != 200 || body != "fine\n") {
					err = fmt.Errorf("%d %q", status, body)
				}
				errs <- err
			}()
		}
		for range cap(errs) {
			if err := <-errs; err != nil {
				t.Errorf("crash %d: a request begun after it: %v", n, err)
			}
		}
		gaps = append(gaps, time.Since(gone))
		in := theApp(t, r).Instances[0]
		if in.Restarts != n || in.State != gapless.Ready || in.Exit == nil || in.Exit.Code != 9 {
			t.Errorf("after crash %d: %s, %d restarts, exit %v", n, in.State, in.Restarts, in.Exit)
		}
	}
	t.Logf("served again after %v", gaps)
	starts := rig.Lines(t, filepath.Join(r.Home, "apps/brittle/shared/data/starts"))
	if len(starts) != 5 {
		t.Errorf("%d starts", len(starts))
	}
	for i, wait := range []time.Duration{100, 200, 400, 800} {
		if gaps[i] < wait*time.Millisecond-50*time.Millisecond {
			t.Errorf("pause %d was %s, less than %s", i+1, gaps[i], wait*time.Millisecond)
		}
	}
	var held uint64
	for _, rel := range theApp(t, r).Releases {
		held += rel.Held
	}
	if held == 0 {
		t.Error("void: no request was held")
	}
}

// TestNothingOutlivesDown runs a command whose children ignore SIGTERM, leave
// the process group, lose their parent and hide their environment.
func TestNothingOutlivesDown(t *testing.T) {
	t.Parallel()
	r := rig.New(t, "")
	r.App("http")
	r.Write("wild.sh", `trap '' TERM
(trap '' TERM; exec sleep 1001) &
setsid sh -c "trap '' TERM; exec sleep 1002" &
(setsid sh -c "trap '' TERM; sleep 1003 & sleep 1004" &)
env -i /usr/bin/setsid /bin/sh -c "trap '' TERM; exec /bin/sleep 1005" &
node server.js
`)
	configure(r, "http", 2, "run: sh wild.sh\n")
	r.Rollout(0, "up")
	rig.Eventually(t, 5*time.Second, "the wild ones run", func() bool { return strings.Count(strings.Join(r.Strays(), "\n"), "sleep 100") >= 2*4 })
	ours := theApp(t, r)
	began := time.Now()
	r.Must(0, "down")
	t.Logf("down took %s (grace 2 s)", time.Since(began).Round(time.Millisecond))
	for _, s := range r.Strays() {
		if strings.Contains(s, "sleep 1005") {
			continue // nothing tells whose it is; only the end of everything gets it
		}
		if strings.Contains(s, "sleep") || strings.Contains(s, "sh ") || strings.Contains(s, "node") {
			t.Errorf("outlived down: %s", s)
		}
	}
	for _, in := range ours.Instances {
		if rig.Alive(in.PID) {
			t.Errorf("%s lives on as %d", in.Label(), in.PID)
		}
	}
	r.Must(0, "down", "--all")
	rig.Eventually(t, 3*time.Second, "nothing of this home is left", func() bool { return len(r.Strays()) == 0 })
	if _, err := r.Client().Status(context.Background()); err == nil {
		t.Error("a daemon answers")
	}
}

// TestUpAgainAtOnce goes down and up without a breath between, and starts two
// apps at the same moment in an installation where nothing runs.
func TestUpAgainAtOnce(t *testing.T) {
	t.Parallel()
	r := rig.New(t, "")
	r.App("http")
	configure(r, "http", 1, "")
	for range 5 {
		r.Must(0, "up")
		r.Must(0, "down", "--all")
	}
	other := filepath.Join(filepath.Dir(r.Home), "other")
	if out, err := exec.Command("cp", "-a", r.Dir, other).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	second := make(chan rig.Result, 1)
	go func() { second <- r.RunIn(other, "up", "--name", "other", "--listen", rig.FreeAddress(t)) }()
	r.Must(0, "up")
	if res := <-second; res.Code != 0 {
		t.Errorf("the second app: exit %d\n%s", res.Code, res.Stderr)
	}
	if st := r.Look(); len(st.Apps) != 2 {
		t.Errorf("%d apps", len(st.Apps))
	}
}
