package real

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"gapless/internal/load"
	"gapless/test/rig"
)

// demo is `gapless demo` under way, with a temporary directory of its own.
type demo struct {
	t      *testing.T
	dir    string
	cmd    *exec.Cmd
	stdout bytes.Buffer

	mu    sync.Mutex
	story bytes.Buffer
}

// Write takes what it says on stderr.
func (d *demo) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.story.Write(b)
}

func (d *demo) said() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.story.String()
}

func startDemo(t *testing.T, args ...string) *demo {
	t.Helper()
	exe, err := rig.Binary("")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "gd-") // short: unix sockets live in it
	if err != nil {
		t.Fatal(err)
	}
	d := &demo{t: t, dir: dir, cmd: exec.Command(exe, append([]string{"demo"}, args...)...)}
	d.cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	d.cmd.Stdout, d.cmd.Stderr = &d.stdout, d
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if d.cmd.ProcessState == nil { // the test gave up: as Ctrl-C
			_ = d.cmd.Process.Signal(os.Interrupt)
			_ = d.cmd.Wait()
		}
		_ = os.RemoveAll(dir)
	})
	return d
}

// wait returns the exit code.
func (d *demo) wait() int {
	d.t.Helper()
	var exit *exec.ExitError
	if err := d.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		d.t.Fatal(err)
	}
	return d.cmd.ProcessState.ExitCode()
}

// until waits for something that it says.
func (d *demo) until(text string) {
	d.t.Helper()
	rig.Eventually(d.t, 2*time.Minute, "the demo says "+text, func() bool { return strings.Contains(d.said(), text) })
}

// gone checks that no file and no process is left.
func (d *demo) gone() {
	d.t.Helper()
	if left, err := os.ReadDir(d.dir); err != nil || len(left) > 0 {
		d.t.Errorf("files are left: %v %v", left, err)
	}
	rig.Eventually(d.t, 10*time.Second, "no process is left", func() bool { return len(d.processes()) == 0 })
}

// processes lists those that know the demo's directory.
func (d *demo) processes() (out []string) {
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		env, _ := os.ReadFile(filepath.Join(name, "environ"))
		cwd, _ := os.Readlink(filepath.Join(name, "cwd"))
		cmdline, _ := os.ReadFile(filepath.Join(name, "cmdline"))
		if (bytes.Contains(env, []byte(d.dir)) || strings.HasPrefix(cwd, d.dir)) && len(cmdline) > 0 {
			out = append(out, filepath.Base(name)+": "+strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
	return out
}

// demoAnswer is what `gapless demo --json` prints.
type demoAnswer struct {
	Requests, Dropped int
	Bad               int `json:"bad_responses"`
	Retried, Held     *int
	HeldMax           *string `json:"held_max"`
	Releases          []struct {
		Name, Outcome     string
		Requests, Dropped int
		Bad               int `json:"bad_responses"`
		Weights           []string
	}
	Load load.Report
}

// TestDemo: the demo is true. A good version goes out in four steps, one that
// fails on one path comes back, nothing is dropped, all in a minute, and
// nothing is left.
func TestDemo(t *testing.T) {
	began := time.Now()
	d := startDemo(t, "--json")
	code := d.wait()
	took := time.Since(began)
	t.Logf("%s after %s\n%s", d.cmd.ProcessState, took, d.said())
	if code != 0 {
		t.Errorf("exit %d\n%s", code, d.stdout.String())
	}
	if took > time.Minute {
		t.Errorf("the minute took %s", took)
	}
	var answer demoAnswer
	dec := json.NewDecoder(&d.stdout)
	if err := dec.Decode(&answer); err != nil {
		t.Fatal(err)
	}
	if err := dec.Decode(&struct{}{}); err != io.EOF {
		t.Errorf("there is more than one object on stdout: %v", err)
	}
	if answer.Dropped != 0 || answer.Requests < 1000 || answer.Load.Dropped != 0 {
		t.Errorf("%d of %d dropped", answer.Dropped, answer.Requests)
	}
	if len(answer.Releases) != 2 {
		t.Fatalf("releases: %+v", answer.Releases)
	}
	v2, v3 := answer.Releases[0], answer.Releases[1]
	if got := strings.Join(v2.Weights, ", "); v2.Name != "v2" || v2.Outcome != "promoted" || v2.Bad != 0 || got != "5 %, 25 %, 50 %, 100 %" {
		t.Errorf("v2: %+v", v2)
	}
	if v3.Name != "v3" || v3.Outcome != "rolled_back" || v3.Bad == 0 || v3.Bad != answer.Bad {
		t.Errorf("v3: %+v; %d bad answers in all", v3, answer.Bad)
	}
	for _, want := range []string{`(?s)v2 serves 5 %.*v2 serves 25 %.*v2 serves 50 %.*v2 serves 100 %.*v3 serves 5 %.*v3 was taken back`,
		`rolled back after \d+ failed candidate requests \(stable: 0 of \d+\): evidence \d+:1, false-alarm guarantee 1 %`} {
		if !regexp.MustCompile(want).MatchString(d.said()) {
			t.Errorf("it does not say %s", want)
		}
	}
	if answer.Retried == nil || answer.Held == nil || answer.HeldMax == nil {
		t.Fatal("it does not tell what was retried and held")
	}
	// A held or repeated request is no loss, but it may hide one.
	if *answer.Retried > stale || *answer.Held > 0 {
		t.Errorf("%d retried, %d held, for %s at most", *answer.Retried, *answer.Held, *answer.HeldMax)
	}
	d.gone()
}

// TestDemoCleansUp runs three demos at once, in which only the end matters:
// Ctrl-C while the good version goes out, Ctrl-C while the broken one comes
// back, and one that is to stay.
func TestDemoCleansUp(t *testing.T) {
	var demos []*demo
	for _, args := range [][]string{{"--keep"}, nil, nil} {
		d := startDemo(t, args...)
		d.until("v1 serves") // it has its port
		demos = append(demos, d)
	}
	kept, deploying, back := demos[0], demos[1], demos[2]
	for _, c := range []struct {
		*demo
		when string
	}{{deploying, "v2 serves 5 %"}, {back, "v3 serves 5 %"}} {
		d, when := c.demo, c.when
		d.until(when)
		if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if code := d.wait(); code != 130 {
			t.Errorf("Ctrl-C after %q: exit %d\n%s", when, code, d.said())
		}
		d.gone()
	}

	kept.wait() // 1 if this machine is too slow for three: TestDemo counts what is lost
	address := regexp.MustCompile(`answers on http://([0-9.:]+)`).FindStringSubmatch(kept.said())
	home := regexp.MustCompile(`GAPLESS_HOME=(\S+) \S+ down --all`).FindStringSubmatch(kept.said())
	if address == nil || home == nil {
		t.Fatalf("--keep does not say where the app answers and how to end it:\n%s", kept.said())
	}
	status, body, err := fetch(address[1], "/")
	if err != nil || status != 200 || body != "hello v2\n" {
		t.Errorf("kept: %d %q %v", status, body, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	down := exec.CommandContext(ctx, kept.cmd.Path, "down", "--all")
	down.Env = append(os.Environ(), "GAPLESS_HOME="+home[1])
	if out, err := down.CombinedOutput(); err != nil {
		t.Errorf("down: %v\n%s", err, out)
	}
	rig.Eventually(t, 10*time.Second, "no process is left", func() bool { return len(kept.processes()) == 0 })
}
