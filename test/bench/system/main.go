// Command system measures what gapless costs beside the app: anonymous memory
// of its processes when idle, CPU of `gapless status`, how long users are
// without an edge after kill -9, and the time of a restart of four instances
// against `pm2 reload` in the same run. It prints a
// table with the limits and exits 1 when one is missed.
//
//	make build && go run ./test/bench/system
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"

	"gapless/internal/api"
	"gapless/internal/load"
)

// limits, as the project promises them.
const (
	keeperMB = 8
	edgeMB   = 20
	daemonMB = 30
	statusMS = 50
)

const app = `
const from = Date.now();
while (Date.now() - from < 300); // boots in 0.3 s
require('http').createServer((q, r) => r.end('ok\n')).listen(process.env.PORT);
`

type row struct {
	what          string
	got, limit    float64
	unit, comment string
}

func main() {
	pm2 := flag.Bool("pm2", true, "also compare a restart with pm2 reload (installs pm2 from npm)")
	idle := flag.Duration("idle", 10*time.Second, "how long the processes are left idle before their memory is read")
	flag.Parse()
	rows, err := measure(*idle)
	if err == nil && *pm2 {
		var more []row
		more, err = restarts()
		rows = append(rows, more...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	missed := false
	fmt.Printf("| what | measured | limit | |\n| --- | ---: | ---: | --- |\n")
	for _, r := range rows {
		verdict := "ok"
		if r.got > r.limit {
			verdict, missed = "MISSED", true
		}
		fmt.Printf("| %s | %.3g %s | %.3g %s | %s %s |\n", r.what, r.got, r.unit, r.limit, r.unit, verdict, r.comment)
	}
	if missed {
		os.Exit(1)
	}
}

// measure starts an app, works it and looks at what gapless needs itself.
func measure(idle time.Duration) (_ []row, err error) {
	exe, err := filepath.Abs("bin/gapless")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "gl-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "server.js"), []byte(app), 0o644); err != nil {
		return nil, err
	}
	gapless := func(args ...string) (*exec.Cmd, *bytes.Buffer) {
		var out bytes.Buffer
		cmd := exec.Command(exe, args...)
		cmd.Dir, cmd.Stdout, cmd.Env = dir, &out, append(os.Environ(), "GAPLESS_HOME="+filepath.Join(dir, "h"))
		return cmd, &out
	}
	up, _ := gapless("up", "server.js", "--name", "bench", "--listen", address, "--instances", "2")
	if err := up.Run(); err != nil {
		return nil, fmt.Errorf("up: %w", err)
	}
	defer func() {
		down, _ := gapless("down", "--all")
		if e := down.Run(); err == nil {
			err = e
		}
	}()
	for range 5000 {
		res, err := http.Get("http://" + address + "/")
		if err != nil {
			return nil, err
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
	http.DefaultClient.CloseIdleConnections()
	time.Sleep(idle)

	var cpu []float64
	var st api.Status
	for range 20 {
		cmd, out := gapless("status", "--json")
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("status: %w", err)
		}
		use := cmd.ProcessState.SysUsage().(*syscall.Rusage)
		cpu = append(cpu, float64(use.Utime.Nano()+use.Stime.Nano())/1e6)
		if err := json.Unmarshal(out.Bytes(), &st); err != nil {
			return nil, fmt.Errorf("status: %w", err)
		}
	}
	sort.Float64s(cpu)
	rows := []row{{"CPU of `gapless status`, median of 20", cpu[len(cpu)/2], statusMS, "ms", ""}}
	more, err := memory(st.Procs)
	if err != nil {
		return nil, err
	}
	away, err := outages(address, func() (api.Status, error) {
		cmd, _ := gapless("status", "--json")
		cmd.Stdout = nil
		return statusOf(cmd)
	}, 50)
	return append(append(rows, more...), away), err
}

// memory compares gapless's own processes with their limits. One that is
// missing, or whose memory cannot be read, is no success.
func memory(procs []api.Proc) ([]row, error) {
	limits := []struct {
		name string
		mb   float64
	}{{"keeper", keeperMB}, {"edge", edgeMB}, {"daemon", daemonMB}}
	var rows []row
	for _, l := range limits {
		found := false
		for _, p := range procs {
			if p.Name != l.name {
				continue
			}
			found = true
			if p.Memory <= 0 {
				return nil, fmt.Errorf("the memory of %s (pid %d) cannot be read", p.Name, p.PID)
			}
			rows = append(rows, row{"anonymous memory of " + p.Name + ", idle", float64(p.Memory) / (1 << 20), l.mb, "MB", ""})
		}
		if !found {
			return nil, fmt.Errorf("no %s runs: %v", l.name, procs)
		}
	}
	if len(rows) != len(procs) {
		return nil, fmt.Errorf("processes without a limit: %v", procs)
	}
	return rows, nil
}

// restarts takes the restart of four instances from the PM2 bench, which runs
// both in turn.
func restarts() ([]row, error) {
	cmd := exec.Command("go", "run", "./test/bench/pm2", "--only", "restart", "--runs", "3", "--json")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("bench pm2: %w", err)
	}
	var results []restart
	if err := json.Unmarshal(out, &results); err != nil {
		return nil, fmt.Errorf("bench pm2: %w\n%s", err, out)
	}
	return compare(results)
}

// restart is what the PM2 bench says of one.
type restart struct {
	Subject string      `json:"subject"`
	App     string      `json:"app"`
	Seconds float64     `json:"seconds"`
	Exit    int         `json:"exit"`
	Down    bool        `json:"down_at_the_end"`
	Load    load.Counts `json:"load"`
}

// compare makes rows of restarts that succeeded. One that failed, or lost
// requests of gapless, is not fast but wrong; what pm2 loses is told beside it.
func compare(results []restart) ([]row, error) {
	took := map[string]map[string][]float64{}
	lost := map[string]int{} // by pm2
	for _, r := range results {
		name := strings.ToLower(strings.Fields(r.Subject)[0])
		switch gone := r.Load.Dropped + r.Load.Bad; {
		case r.Exit != 0 || r.Down:
			return nil, fmt.Errorf("the restart of %s by %s failed: exit %d, nothing answers at the end: %v", r.App, r.Subject, r.Exit, r.Down)
		case r.Load.Requests == 0:
			return nil, fmt.Errorf("the restart of %s by %s was without load", r.App, r.Subject)
		case gone > 0 && name == "gapless":
			return nil, fmt.Errorf("the restart of %s by gapless lost %d of %d requests", r.App, gone, r.Load.Requests)
		case name == "pm2":
			lost[r.App] += gone
		}
		if took[r.App] == nil {
			took[r.App] = map[string][]float64{}
		}
		took[r.App][name] = append(took[r.App][name], r.Seconds)
	}
	var rows []row
	for app, by := range took {
		if len(by["gapless"]) == 0 || len(by["pm2"]) == 0 {
			return nil, fmt.Errorf("the restart of %s was not measured for both: %v", app, by)
		}
		rows = append(rows, row{"restart of 4 instances of " + app + " that boot in 0.3 s, median", median(by["gapless"]), median(by["pm2"]), "s",
			fmt.Sprintf("(limit: pm2 reload in the same run, which lost %d requests)", lost[app])})
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i].what < rows[j].what })
	return rows, nil
}

func median(v []float64) float64 {
	sort.Float64s(v)
	return v[len(v)/2]
}

func freeAddress() (string, error) {
	for port := 17000; port < 18000; port++ {
		address := fmt.Sprintf("127.0.0.1:%d", port)
		if ln, err := net.Listen("tcp", address); err == nil {
			return address, ln.Close()
		}
	}
	return "", fmt.Errorf("no free port")
}
