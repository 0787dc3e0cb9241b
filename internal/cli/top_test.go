package cli

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"

	"gapless"
	"gapless/internal/api"
)

// at is a sample of one app with one instance, t seconds after the start.
func at(t float64, pid int, requests uint64, cpu float64, rel gapless.ReleaseTraffic) topSample {
	rel.Release = "v1"
	rel.Requests = requests
	return topSample{time.Unix(1000, 0).Add(time.Duration(t * float64(time.Second))), []api.AppStatus{{
		Name: "shop", Stable: "v1", Weights: []gapless.Weight{{Release: "v1", Share: 1}},
		Instances: []api.InstanceStatus{{Instance: gapless.Instance{ID: "a", Release: "v1", Process: "web", Slot: 1, PID: pid,
			State: gapless.Ready, Memory: 5 << 20, Restarts: 2}, Requests: requests, CPU: cpu, InFlight: 3, Healthy: true}},
		Releases: []gapless.ReleaseTraffic{rel},
	}}}
}

func slow(n uint64) []uint64 {
	l := make([]uint64, gapless.LatencyBuckets)
	l[gapless.LatencyBucket(1000)] = 99
	l[gapless.LatencyBucket(100000)] = n
	return l
}

func TestMeasure(t *testing.T) {
	none := gapless.ReleaseTraffic{}
	for _, x := range []struct {
		name              string
		samples           []topSample
		rate, errors, cpu float64 // NaN: not known
	}{
		{"nothing to compare with", []topSample{at(0, 7, 100, 1, none)}, math.NaN(), math.NaN(), math.NaN()},
		{"two samples", []topSample{at(0, 7, 100, 1, none), at(2, 7, 120, 2, gapless.ReleaseTraffic{Failed: 3, Status: [6]uint64{5: 1}})}, 10, 2, 50},
		{"idle", []topSample{at(0, 7, 100, 1, none), at(1, 7, 100, 1, none)}, 0, 0, 0},
		{"an edge was replaced: what it counted is gone", []topSample{at(0, 7, 1000, 1, none), at(1, 7, 1010, 1.1, none), at(2, 7, 0, 1.2, none), at(3, 7, 20, 1.3, none)}, 15, 0, 10},
		{"a process was replaced", []topSample{at(0, 7, 10, 50, none), at(1, 8, 20, 0.2, none), at(2, 8, 30, 0.7, none)}, 10, 0, 50},
		{"more than one processor", []topSample{at(0, 7, 0, 0, none), at(1, 7, 0, 2.5, none)}, 0, 0, 250},
	} {
		rows := measure(x.samples)
		if len(rows) != 2 {
			t.Fatalf("%s: %d rows", x.name, len(rows))
		}
		whole, in := rows[0], rows[1]
		for what, pair := range map[string][2]*float64{
			"rate": {whole.Rate, known(x.rate)}, "errors": {whole.Errors, known(x.errors)}, "cpu of the release": {whole.CPU, known(x.cpu)},
			"rate of the instance": {in.Rate, known(x.rate)}, "cpu": {in.CPU, known(x.cpu)},
		} {
			if (pair[0] == nil) != (pair[1] == nil) || pair[0] != nil && math.Abs(*pair[0]-*pair[1]) > 1e-9 {
				t.Errorf("%s: %s is %v, want %v", x.name, what, value(pair[0]), value(pair[1]))
			}
		}
		if whole.Memory != 5<<20 || whole.InFlight != 3 || whole.Restarts != 2 || value(whole.Weight) != 1 || whole.State != "1 of 1 ready" {
			t.Errorf("%s: %+v", x.name, whole)
		}
	}
}

func known(v float64) *float64 {
	if math.IsNaN(v) {
		return nil
	}
	return &v
}

// Latency is that of the last seconds, not of all time.
func TestMeasureLatency(t *testing.T) {
	first, second := at(0, 7, 99, 0, gapless.ReleaseTraffic{Latency: slow(0)}), at(1, 7, 199, 0, gapless.ReleaseTraffic{Latency: slow(100)})
	row := measure([]topSample{first, second})[0]
	if value(row.P50) != gapless.LatencyBucketStart(gapless.LatencyBucket(100000)) {
		t.Errorf("p50 is %d µs", value(row.P50))
	}
	if row = measure([]topSample{second, second})[0]; row.P50 != nil || row.P99 != nil {
		t.Error("there is a latency of no requests")
	}
}

func TestMeasureOtherProcessesAndDown(t *testing.T) {
	s := at(0, 7, 0, 0, gapless.ReleaseTraffic{})
	s.apps[0].Instances = append(s.apps[0].Instances, api.InstanceStatus{Instance: gapless.Instance{ID: "w", Release: "v1", Process: "worker", Slot: 1, State: gapless.Crashed}, Healthy: true})
	s.apps = append(s.apps, api.AppStatus{Name: "gone", Down: true})
	later := s
	later.at = s.at.Add(time.Second)
	rows := measure([]topSample{s, later})
	if len(rows) != 4 || rows[2].Rate != nil || rows[2].CPU != nil || rows[0].State != "1 of 2 ready" || rows[3].State != "down" {
		t.Errorf("%+v", rows)
	}
}

func TestArrange(t *testing.T) {
	rate := func(v float64) *float64 { return &v }
	rows := []topRow{
		{App: "blog", Release: "v1", State: "1 of 1 ready", Rate: rate(1)}, {App: "blog", Release: "v1", Instance: "v1/1", State: "ready", Rate: rate(1)},
		{App: "shop", Release: "v2", State: "1 of 2 ready", Rate: rate(9)}, {App: "shop", Release: "v2", Instance: "v2/1", State: "crashed", Rate: rate(2)},
		{App: "shop", Release: "v2", Instance: "v2/2", State: "ready", Rate: rate(7)},
	}
	for _, x := range []struct {
		sort   int
		filter string
		want   string
	}{
		{0, "", "blog v1|blog v1/1|shop v2|shop v2/1|shop v2/2"},
		{1, "", "shop v2|shop v2/2|shop v2/1|blog v1|blog v1/1"},
		{0, "BLOG", "blog v1|blog v1/1"},
		{0, "crash", "shop v2|shop v2/1"},
		{0, "v2/2", "shop v2|shop v2/2"},
		{0, "nothing", ""},
	} {
		var got []string
		for _, r := range arrange(rows, x.sort, x.filter) {
			got = append(got, r.App+" "+cmpOr(r.Instance, r.Release))
		}
		if s := strings.Join(got, "|"); s != x.want {
			t.Errorf("sort %d, filter %q: %s, want %s", x.sort, x.filter, s, x.want)
		}
	}
}

// The view is as high as the terminal and never wider, whatever is on it.
func TestTopFitsEveryTerminal(t *testing.T) {
	s := at(0, 7, 0, 0, gapless.ReleaseTraffic{Latency: slow(1)})
	for i := range 30 {
		in := s.apps[0].Instances[0]
		in.ID, in.Slot, in.Reason = fmt.Sprint(i), i+2, strings.Repeat("because ", 30)
		s.apps[0].Instances = append(s.apps[0].Instances, in)
	}
	columns, err := tableFlags{}.pick(topSheet)
	if err != nil {
		t.Fatal(err)
	}
	v := &topView{columns: columns, rows: measure([]topSample{s, s}), apps: s.apps, note: strings.Repeat("trouble ", 20)}
	for _, keys := range []string{"", "j", "G", "d", "l", "?", "q", "/zz"} {
		for _, k := range strings.Split(keys, "") {
			v.key(k)
		}
		for _, size := range [][2]int{{20, 3}, {40, 10}, {80, 24}, {200, 60}} {
			lines := v.frame(size[0], size[1])
			if len(lines) != size[1] {
				t.Errorf("after %q %v: %d lines", keys, size, len(lines))
			}
			for _, line := range lines {
				if ansi.StringWidth(line) >= size[0] {
					t.Errorf("after %q %v: a line of %d: %q", keys, size, ansi.StringWidth(line), line)
				}
			}
			if keys == "G" && !strings.Contains(ansi.Strip(strings.Join(lines, "\n")), "▸   v1/31") && size[1] > 3 {
				t.Errorf("the chosen row is not to be seen at %v:\n%s", size, strings.Join(lines, "\n"))
			}
		}
	}
}

func TestKeysOfATerminal(t *testing.T) {
	var k keyReader
	for in, want := range map[string]string{"j": "j", "\x1b[A": "up", "\x1bOB": "down", "\r": "enter", "\x7f": "backspace", "\x1b[1;5Cx": "x", "/": "/"} {
		var got string
		for _, b := range []byte(in) {
			got += k.feed(b)
		}
		if got != want || k.rest() != "" {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
	if got := k.feed(0x1b); got != "" || k.rest() != "esc" {
		t.Error("escape by itself is not seen")
	}
}
