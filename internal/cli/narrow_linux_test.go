package cli

import (
	"strings"
	"testing"
	"time"

	"gapless/internal/api"
)

func TestTablesOnTerminals(t *testing.T) {
	for _, x := range []struct {
		args    string
		width   int
		there   []string
		missing []string
	}{
		{"status", 40, []string{"INSTANCE", "STATE", "MEMORY"}, []string{"RESTARTS", "IN FLIGHT", "FOR"}},
		{"status", 80, []string{"INSTANCE", "STATE", "FOR", "IN FLIGHT", "REQUESTS", "MEMORY", "RESTARTS"}, []string{"ADDRESS"}},
		{"status", 200, []string{"RESTARTS"}, []string{"ADDRESS"}},
		{"status", 80, []string{"v41  12031 requests", "v42  630 requests"}, []string{"v7"}},
		{"status --wide", 200, []string{"v41  12031 requests", "v42  630 requests", "v7  3 requests"}, nil},
		{"status --columns instance,address,id", 200, []string{"ADDRESS", "ID"}, []string{"STATE"}},
		{"releases shop", 40, []string{"RELEASE", "MADE"}, []string{"RUNS"}},
		{"releases shop", 80, []string{"RELEASE", "ID", "MADE", "RUNTIME", "RUNS"}, []string{"--port"}},
		{"releases shop", 200, []string{"--port $PORT"}, []string{"…"}},
		{"releases shop --wide", 120, []string{"--port $PORT"}, []string{"…"}},
		{"history shop", 40, []string{"ROLLOUT", "OUTCOME", "RELEASES"}, []string{"WHY", "TOOK"}},
		{"history shop", 200, []string{"ROLLOUT", "KIND", "RELEASES", "OUTCOME", "BEGAN", "TOOK", "WHY"}, nil},
		{"top --once", 40, []string{"NAME", "REQ/S", "P99"}, []string{"P50", "RESTARTS"}},
		{"top --once", 200, []string{"NAME", "STATE", "WEIGHT", "REQ/S", "ERR/S", "P50", "P99", "CPU", "MEMORY", "IN FLIGHT", "RESTARTS"}, nil},
	} {
		t.Run(strings.Fields(x.args)[0], func(t *testing.T) {
			t.Parallel()
			p := runIn(t, newFake(), x.width, 24, x.args)
			if code := p.exit(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			screen := p.screen() // fails where a line is wider than the terminal
			for _, text := range x.there {
				if !strings.Contains(screen, text) {
					t.Errorf("%q is missing in\n%s", text, screen)
				}
			}
			for _, text := range x.missing {
				if strings.Contains(screen, text) {
					t.Errorf("%q should not be there:\n%s", text, screen)
				}
			}
		})
	}
}

func TestASCIIMarksOnATerminal(t *testing.T) {
	t.Parallel()
	s := newFake()
	x := watchIn(t, s, 80, 30, "LANG=C")
	x.shows("v41 ####")
	x.hit("q")
	x.exit()
	for _, r := range x.output() {
		if r > 0x7f {
			t.Fatalf("%q in a locale that is not UTF-8:\n%s", r, x.screen())
		}
	}
}

func TestKeysOfTop(t *testing.T) {
	t.Parallel()
	s := newFake()
	for i := range s.app.Instances {
		s.app.Instances[i].ID, s.app.Instances[i].PID = s.app.Instances[i].Label(), i+1
	}
	s.asked = func(a *api.AppStatus) { // ten requests between two looks, one of them bad
		in, rel := append([]api.InstanceStatus(nil), a.Instances...), append(a.Releases[:0:0], a.Releases...)
		in[0].Requests += 10
		rel[0].Requests += 10
		rel[0].Failed++
		a.Instances, a.Releases = in, rel
	}
	x := runIn(t, s, 100, 20, "top")
	x.shows("▸ shop v41")
	x.shows("1 app · 2 releases · 3 instances · by name")
	x.shows("v42/2")
	x.hit("j")
	x.shows("▸   v41/1")
	x.hit("\x1b[B")
	x.shows("▸ shop v42")
	x.hit("\x1bOA")
	x.shows("▸   v41/1")
	x.hit("s")
	x.shows("by requests")
	x.hit("d")
	x.shows("details of shop v41/1")
	x.hit("\x1b") // escape by itself
	x.shows("by requests")
	x.hit("/crash\r")
	x.shows("/crash")
	x.gone("v41/1")
	x.shows("v42/2")
	x.hit("G")
	x.shows("▸   v42/2")
	x.hit("l")
	x.shows("logs of shop v42/2")
	x.shows("TypeError: x is not a function zzz")
	x.hit("q")
	x.hit("?")
	x.shows("100 % CPU is one processor")
	x.hit("q\x1b")
	x.shows("v41/1")
	x.hit("q")
	if code := x.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if screen := x.screen(); strings.TrimSpace(screen) != "" {
		t.Errorf("it should leave the terminal as it was, this is left:\n%s", screen)
	}
}

// Every frame is whole, so the last one alone must fit the size of now.
func TestTopFollowsTheSize(t *testing.T) {
	t.Parallel()
	x := runIn(t, newFake(), 120, 30, "top")
	x.shows("q leave")
	x.resize(40, 10)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		out := x.output()
		rows, err := emulate(out[strings.LastIndex(out, "\x1b[H"):], 40, 10)
		if err == nil && len(rows) == 10 && strings.HasPrefix(rows[9], "/ filter") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it does not fit 40 × 10: %v\n%s", err, strings.Join(rows, "\n"))
		}
	}
	x.hit("q")
	if code := x.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A daemon that is away is told, and what it said last stays; when it is back
// the view goes on.
func TestTopWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	s := newFake()
	x := runIn(t, s, 100, 20, "top --columns name,req/s")
	x.shows("shop v42")
	if screen := x.screen(); strings.Contains(screen, "MEMORY") || !strings.Contains(screen, "REQ/S") {
		t.Errorf("not the columns that were asked for:\n%s", screen)
	}
	s.mu.Lock() // Status waits for it
	x.shows("! the daemon does not answer")
	x.shows("shop v42")
	s.mu.Unlock()
	x.gone("does not answer")
	x.hit("q")
	if code := x.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestCtrlCLeavesTop(t *testing.T) {
	t.Parallel()
	x := runIn(t, newFake(), 80, 20, "top shop")
	x.shows("shop v42")
	x.hit("\x03")
	if code := x.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if !strings.HasSuffix(x.output(), "\x1b[?25h\x1b[?1049l") {
		t.Error("the cursor and the screen were not given back")
	}
}
