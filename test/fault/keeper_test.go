package fault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gapless/internal/api"
	"gapless/test/rig"
)

// slay kills at once and waits for nothing.
func slay(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatalf("kill -9 %d: %v", pid, err)
		}
	}
}

// counting makes the app print numbered lines beside its work, and how many
// they were when it ends in order.
func counting(r *rig.Rig) {
	r.Write("count.js", `
let n = 0;
setInterval(() => { for (let i = 0; i < 5; i++) console.log('count ' + process.pid + ' ' + (++n)); }, 5);
process.on('SIGTERM', () => process.exit(0)); // nothing is in flight then
process.on('exit', () => console.log('last ' + process.pid + ' ' + n));
`)
}

// counted checks the app's log: of every process each numbered line is there.
func counted(t *testing.T, r *rig.Rig) {
	t.Helper()
	line := regexp.MustCompile(`(count|last) (\d+) (\d+)$`)
	seen, last := map[string]map[int]bool{}, map[string]int{}
	lines, twice := 0, 0
	files, err := filepath.Glob(filepath.Join(r.Home, "apps/http/logs/app*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		for _, l := range rig.Lines(t, file) {
			m := line.FindStringSubmatch(l)
			if m == nil {
				continue
			}
			n, _ := strconv.Atoi(m[3])
			if seen[m[2]] == nil {
				seen[m[2]] = map[int]bool{}
			}
			if m[1] == "last" {
				last[m[2]] = n
				continue
			}
			lines++
			if seen[m[2]][n] {
				twice++
			}
			seen[m[2]][n] = true
		}
	}
	for pid, have := range seen {
		most := last[pid]
		for n := range have {
			most = max(most, n)
		}
		if missing := most - len(have); missing > 0 {
			t.Errorf("process %s printed %d lines, %d are missing", pid, most, missing)
		}
	}
	t.Logf("%d lines of %d processes (%d told their end), %d twice", lines, len(seen), len(last), twice)
	if lines < 1000 || len(last) == 0 {
		t.Errorf("void: %d lines, %d ends", lines, len(last))
	}
}

const countingApp = probe + "run: node -r ./count.js server.js\n"

// TestKeeperKilledDuringDeploys kills keeper at random moments of rolling
// deployments. Nobody loses a request, no line of a log is lost, and the
// deployments end as if nothing had been.
func TestKeeperKilledDuringDeploys(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	counting(r)
	configure(r, 2, countingApp)
	r.Rollout(0, "up")
	run := r.Load(mix, "v1")
	settle()
	kills := 0
	for i := range times(2, 10) {
		r.Write("VERSION", strconv.Itoa(i+2))
		r.Allow("v"+strconv.Itoa(i+1), "v"+strconv.Itoa(i+2))
		done := r.Go("deploy", "--json")
		for ended := false; !ended; {
			select {
			case res := <-done:
				ended = true
				if res.Code != 0 {
					t.Errorf("deploy: exit %d\n%s\n%s", res.Code, res.Stdout, res.Stderr)
				}
			case <-time.After(300*time.Millisecond + time.Duration(rand.IntN(1200))*time.Millisecond):
				old := r.Proc("keeper").PID
				began := time.Now()
				slay(t, old)
				rig.Eventually(t, 5*time.Second, "another keeper", func() bool { return r.Proc("keeper").PID != old })
				t.Logf("keeper killed, another one answered after %s", time.Since(began).Round(time.Millisecond))
				kills++
			}
		}
		whole(t, r, "v"+strconv.Itoa(i+2), 2)
		r.Allow("v" + strconv.Itoa(i+2))
	}
	settle()
	if kills < 2 {
		t.Errorf("void: %d kills", kills)
	}
	lossless(t, r, run, 0)
	r.Must(0, "down", "http")
	counted(t, r)
}

// TestKeeperAndDaemonKilled kills both at once. The edge and the instances
// serve on, the next command finds everything as it was, and the edge starts
// keeper again even if no command comes.
func TestKeeperAndDaemonKilled(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	counting(r)
	configure(r, 2, countingApp)
	r.Rollout(0, "up")
	run := r.Load(mix, "v1")
	settle()
	before := running(app(t, r))
	for i := range times(4, 20) {
		keeper, daemon := r.Proc("keeper").PID, r.Proc("daemon").PID
		slay(t, keeper, daemon)
		if i%2 == 1 {
			time.Sleep(2 * time.Second) // nobody asks
		}
		res := r.Must(0, "status")
		t.Logf("status answered after %s", res.Took.Round(time.Millisecond))
		if !strings.Contains(res.Stdout, "v1 100 %") {
			t.Errorf("status: %s", res.Stdout)
		}
		whole(t, r, "v1", 2)
		if now := running(app(t, r)); now != before {
			t.Errorf("instances were %s, are %s", before, now)
		}
	}
	r.Write("VERSION", "2")
	r.Allow("v1", "v2")
	r.Rollout(0, "deploy")
	r.Allow("v2")
	settle()
	lossless(t, r, run, 0)
	r.Must(0, "down", "http")
	counted(t, r)
}

func running(a api.AppStatus) (out string) {
	for _, in := range a.Instances {
		out += fmt.Sprintf("%s %d; ", in.Label(), in.PID)
	}
	return out
}

// TestOnlyInstancesLeft kills everything of gapless at once: what is left
// cannot be reached by anyone. The next up ends it and starts the app anew.
func TestOnlyInstancesLeft(t *testing.T) {
	r := rig.New(t, "")
	serve(t, r, 2, probe)
	st := r.Look()
	var all []int
	for _, p := range st.Procs {
		all = append(all, p.PID)
	}
	slay(t, all...)
	if up := r.Must(0, "up"); !strings.Contains(up.Stdout, "v1 serves again") {
		t.Errorf("up: %s", up.Stdout)
	}
	a := whole(t, r, "v1", 2)
	if len(r.Strays()) != len(r.Look().Procs)+len(a.Instances) {
		t.Errorf("processes:\n%s", strings.Join(r.Strays(), "\n"))
	}
	if status, _, _, err := get(r.Address, "/", 5*time.Second); err != nil || status != 200 {
		t.Errorf("%d %v", status, err)
	}
}

// TestKeeperTerminated stops an installation as systemd would. Everything
// ends in order, what is in flight is answered, and what was up comes up
// again: by `gapless keeper` in the foreground and by `gapless up`.
func TestKeeperTerminated(t *testing.T) {
	t.Parallel()
	r := rig.New(t, "")
	serve(t, r, 2, probe)
	r.Write("VERSION", "2")
	r.Rollout(0, "deploy")

	terminate(t, r, r.Proc("keeper").PID)
	res := r.Must(0, "status")
	if !strings.Contains(res.Stdout, "nothing runs here") {
		t.Errorf("status: %s", res.Stdout)
	}

	log, err := os.CreateTemp(t.TempDir(), "keeper")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(r.Exe, "keeper")
	cmd.Env = append(os.Environ(), "GAPLESS_HOME="+r.Home)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	rig.Eventually(t, 10*time.Second, "the daemon answers", func() bool {
		_, err := r.Client().Status(context.Background())
		return err == nil
	})
	whole(t, r, "v2", 2)
	if status, body, _, err := get(r.Address, "/", 5*time.Second); err != nil || status != 200 || body != "hello v2\n" {
		t.Errorf("%d %q %v", status, body, err)
	}
	if pid := r.Proc("keeper").PID; pid != cmd.Process.Pid {
		t.Errorf("keeper has pid %d, not %d", pid, cmd.Process.Pid)
	}
	terminate(t, r, cmd.Process.Pid)
	if err := <-ended; err != nil {
		t.Errorf("keeper: %v", err)
	}

	if up := r.Must(0, "up"); !strings.Contains(up.Stdout, "v2 serves again") {
		t.Errorf("up: %s", up.Stdout)
	}
	whole(t, r, "v2", 2)
	if status, body, _, err := get(r.Address, "/", 5*time.Second); err != nil || status != 200 || body != "hello v2\n" {
		t.Errorf("%d %q %v", status, body, err)
	}
	r.Must(0, "restart")
}

// terminate sends SIGTERM to keeper while requests are in flight.
func terminate(t *testing.T, r *rig.Rig, keeper int) {
	t.Helper()
	type answer struct {
		status int
		body   string
		err    error
	}
	const n = 6
	answers := make(chan answer, n)
	for range n {
		go func() {
			status, body, _, err := get(r.Address, "/slow?ms=1500", 10*time.Second)
			answers <- answer{status, body, err}
		}()
	}
	rig.Eventually(t, 5*time.Second, "they are in flight", func() bool {
		sum := 0
		for _, in := range app(t, r).Instances {
			sum += in.InFlight
		}
		return sum == n
	})
	began := time.Now()
	if err := syscall.Kill(keeper, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for range n {
		if a := <-answers; a.err != nil || a.status != 200 || a.body != "slow 1500 v2\n" {
			t.Errorf("in flight at SIGTERM: %d %q %v", a.status, a.body, a.err)
		}
	}
	rig.Eventually(t, 10*time.Second, "everything ends", func() bool { return len(r.Strays()) == 0 })
	t.Logf("ended %s after SIGTERM", time.Since(began).Round(time.Millisecond))
	if status, _, _, err := get(r.Address, "/", time.Second); err == nil {
		t.Errorf("somebody answers %d", status)
	}
	for _, name := range []string{"api.sock", "keeper.sock"} {
		if c, err := os.Stat(fmt.Sprintf("%s/run/%s", r.Home, name)); err == nil {
			t.Logf("left: %s", c.Name())
		}
	}
}
