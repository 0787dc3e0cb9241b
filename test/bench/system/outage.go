package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"sort"
	"syscall"
	"time"

	"gapless/internal/api"
)

// outageMS is the most that users may be without an edge after it was killed,
// in 99 of 100 cases.
const outageMS = 100

// outages kills the edge again and again and measures how long it takes from
// the signal until the next one answers. A connection that is refused
// meanwhile is an error: the socket is never closed, whoever dies.
func outages(address string, status func() (api.Status, error), n int) (row, error) {
	var took []float64
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for range n {
		pid, err := edge(status)
		if err != nil {
			return row{}, err
		}
		began := time.Now()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return row{}, fmt.Errorf("kill the edge: %w", err)
		}
		if err := answered(&client, address); err != nil {
			return row{}, err
		}
		took = append(took, float64(time.Since(began))/float64(time.Millisecond))
		time.Sleep(1200 * time.Millisecond) // one that dies young is started later
	}
	sort.Float64s(took)
	return row{fmt.Sprintf("without an edge after kill -9, p99 of %d", n), took[(len(took)-1)*99/100], outageMS, "ms",
		fmt.Sprintf("(median %.3g ms, longest %.3g ms, no connection refused)", took[len(took)/2], took[len(took)-1])}, nil
}

// answered asks until there is an answer. A connection that the dying edge had
// accepted is lost with it; only one that nobody accepts is an error.
func answered(client *http.Client, address string) error {
	for end := time.Now().Add(10 * time.Second); ; {
		res, err := client.Get("http://" + address + "/")
		var refused *net.OpError
		switch {
		case err == nil:
			return res.Body.Close()
		case errors.As(err, &refused) && errors.Is(refused.Err, syscall.ECONNREFUSED):
			return fmt.Errorf("nobody listens while the edge is away: %w", err)
		case time.Now().After(end):
			return fmt.Errorf("no edge came: %w", err)
		}
	}
}

// edge is the pid of the newest one.
func edge(status func() (api.Status, error)) (int, error) {
	st, err := status()
	if err != nil {
		return 0, err
	}
	newest := api.Proc{}
	for _, p := range st.Procs {
		if p.Name == "edge" && p.Generation >= newest.Generation {
			newest = p
		}
	}
	if newest.PID == 0 {
		return 0, errors.New("no edge runs")
	}
	return newest.PID, nil
}

// statusOf reads what a `gapless status --json` command prints.
func statusOf(cmd *exec.Cmd) (st api.Status, err error) {
	out, err := cmd.Output()
	if err != nil {
		return st, fmt.Errorf("status: %w", err)
	}
	if err := json.Unmarshal(out, &st); err != nil {
		return st, fmt.Errorf("status: %w", err)
	}
	return st, nil
}
