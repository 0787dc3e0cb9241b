package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"gapless"
	"gapless/internal/api"
)

// What top shows is made here from what the daemon said: nothing in this file
// asks, reads a clock or draws.

// topSample is the state of all apps at one moment.
type topSample struct {
	at   time.Time
	apps []api.AppStatus
}

// topRow is one release of an app, or one instance of it, over the last
// seconds. What could not be measured is nil.
type topRow struct {
	App      string   `json:"app"`
	Release  string   `json:"release,omitempty"`
	Instance string   `json:"instance,omitempty"` // label; "": the release as a whole
	State    string   `json:"state"`
	Weight   *float64 `json:"weight,omitempty"` // share of the traffic, 0…1; releases only
	Rate     *float64 `json:"requests_per_second,omitempty"`
	Errors   *float64 `json:"errors_per_second,omitempty"` // 5xx and no answer; releases only
	P50      *uint64  `json:"p50_us,omitempty"`            // releases only
	P99      *uint64  `json:"p99_us,omitempty"`
	CPU      *float64 `json:"cpu_percent,omitempty"` // 100 is one processor
	Memory   int64    `json:"memory"`                // bytes
	InFlight int      `json:"in_flight"`
	Restarts int      `json:"restarts"`
}

// id names the row as long as it is there.
func (r topRow) id() string { return r.App + " " + r.Release + " " + r.Instance }

// measure makes rows of the last sample, releases each followed by their
// instances. Rates are from what the counters rose between samples. Counters
// that fell, because a process or an edge was replaced, say nothing about the
// time in between, which is left out.
func measure(samples []topSample) []topRow {
	if len(samples) == 0 {
		return nil
	}
	var rows []topRow
	for _, app := range samples[len(samples)-1].apps {
		if len(app.Instances) == 0 {
			state := "down"
			if !app.Down {
				state = "nothing serves yet"
			}
			rows = append(rows, topRow{App: app.Name, State: state})
			continue
		}
		for _, release := range releasesOf(app) {
			whole := traffic(samples, app.Name, release)
			var parts []topRow
			for _, in := range app.Instances {
				if in.Release != release {
					continue
				}
				part := instanceRow(samples, in)
				part.App = app.Name
				parts = append(parts, part)
				whole.Memory += part.Memory
				whole.InFlight += part.InFlight
				whole.Restarts += part.Restarts
				whole.CPU = plus(whole.CPU, part.CPU)
			}
			whole.State = stateOf(app, release, parts)
			for _, w := range app.Weights {
				if w.Release == release {
					whole.Weight = &w.Share
				}
			}
			rows = append(append(rows, whole), parts...)
		}
	}
	return rows
}

// releasesOf are the releases that have instances, by number.
func releasesOf(app api.AppStatus) []string {
	var names []string
	for _, in := range app.Instances {
		if !slices.Contains(names, in.Release) {
			names = append(names, in.Release)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	return names
}

// stateOf says in a few words how a release is.
func stateOf(app api.AppStatus, release string, parts []topRow) string {
	ready := 0
	for _, p := range parts {
		if p.State == string(gapless.Ready) {
			ready++
		}
	}
	word := fmt.Sprintf("%d of %d ready", ready, len(parts))
	if r := app.Rollout; r != nil && r.Outcome == gapless.Running && r.From != r.To {
		switch release {
		case r.To:
			word += ", new"
		case r.From:
			word += ", old"
		}
	}
	return word
}

func instanceRow(samples []topSample, last api.InstanceStatus) topRow {
	row := topRow{Release: last.Release, Instance: last.Label(), State: string(last.State),
		Memory: last.Memory, InFlight: last.InFlight, Restarts: last.Restarts}
	if !last.Healthy {
		row.State += ", unhealthy"
	}
	var requests, cpu, seconds, cpuSeconds float64
	var before *api.InstanceStatus
	var at time.Time
	for _, s := range samples {
		now := instanceIn(s, last.ID)
		if now != nil && before != nil {
			passed := s.at.Sub(at).Seconds()
			if now.Requests >= before.Requests {
				requests += float64(now.Requests - before.Requests)
				seconds += passed
			}
			if now.CPU >= before.CPU && now.PID == before.PID {
				cpu += now.CPU - before.CPU
				cpuSeconds += passed
			}
		}
		before, at = now, s.at
	}
	if last.Process == gapless.WebProcess {
		row.Rate = over(requests, seconds)
	}
	if last.PID > 0 {
		row.CPU = over(100*cpu, cpuSeconds)
	}
	return row
}

func instanceIn(s topSample, id string) *api.InstanceStatus {
	for _, a := range s.apps {
		for i := range a.Instances {
			if a.Instances[i].ID == id {
				return &a.Instances[i]
			}
		}
	}
	return nil
}

// traffic measures what the edge counted of one release.
func traffic(samples []topSample, app, release string) topRow {
	row := topRow{App: app, Release: release}
	var requests, errors, seconds float64
	latency := make([]uint64, gapless.LatencyBuckets)
	var before *gapless.ReleaseTraffic
	var at time.Time
	for _, s := range samples {
		now := trafficIn(s, app, release)
		if now != nil && before != nil && rose(before, now) {
			requests += float64(now.Requests - before.Requests)
			errors += float64(now.Failed + now.Status[5] - before.Failed - before.Status[5])
			seconds += s.at.Sub(at).Seconds()
			for i := range min(len(latency), len(now.Latency), len(before.Latency)) {
				latency[i] += now.Latency[i] - before.Latency[i]
			}
		}
		before, at = now, s.at
	}
	row.Rate, row.Errors = over(requests, seconds), over(errors, seconds)
	if requests > 0 {
		p50, p99 := gapless.Quantile(latency, .5), gapless.Quantile(latency, .99)
		row.P50, row.P99 = &p50, &p99
	}
	return row
}

func trafficIn(s topSample, app, release string) *gapless.ReleaseTraffic {
	for _, a := range s.apps {
		for i := range a.Releases {
			if a.Name == app && a.Releases[i].Release == release {
				return &a.Releases[i]
			}
		}
	}
	return nil
}

// rose reports whether no counter fell.
func rose(before, now *gapless.ReleaseTraffic) bool {
	if now.Requests < before.Requests || now.Failed < before.Failed || now.Status[5] < before.Status[5] {
		return false
	}
	for i := range min(len(now.Latency), len(before.Latency)) {
		if now.Latency[i] < before.Latency[i] {
			return false
		}
	}
	return true
}

// over is n per second, nil where no time was measured.
func over(n, seconds float64) *float64 {
	if seconds <= 0 {
		return nil
	}
	n /= seconds
	return &n
}

func plus(a, b *float64) *float64 {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	sum := *a + *b
	return &sum
}

// topSorts are the orders that s goes through: the greatest first, but names.
var topSorts = []struct {
	name string
	of   func(topRow) float64
}{
	{"name", nil},
	{"requests", func(r topRow) float64 { return value(r.Rate) }},
	{"errors", func(r topRow) float64 { return value(r.Errors) }},
	{"p99", func(r topRow) float64 { return float64(value(r.P99)) }},
	{"cpu", func(r topRow) float64 { return value(r.CPU) }},
	{"memory", func(r topRow) float64 { return float64(r.Memory) }},
	{"restarts", func(r topRow) float64 { return float64(r.Restarts) }},
}

func value[T float64 | uint64](p *T) T {
	if p == nil {
		return 0
	}
	return *p
}

// arrange sorts releases, and in each its instances, and leaves out what does
// not match: a release stays while one of its instances does.
func arrange(rows []topRow, sort int, filter string) []topRow {
	var groups [][]topRow
	for _, r := range rows {
		if r.Instance == "" {
			groups = append(groups, nil)
		}
		last := len(groups) - 1
		groups[last] = append(groups[last], r)
	}
	if of := topSorts[sort].of; of != nil {
		down := func(a, b topRow) int { return cmp.Compare(of(b), of(a)) }
		slices.SortStableFunc(groups, func(a, b []topRow) int { return down(a[0], b[0]) })
		for _, g := range groups {
			slices.SortStableFunc(g[1:], down)
		}
	}
	var out []topRow
	for _, g := range groups {
		if matches(g[0], filter) {
			out = append(out, g...)
			continue
		}
		first := true
		for _, r := range g[1:] {
			if matches(r, filter) {
				if first {
					out, first = append(out, g[0]), false
				}
				out = append(out, r)
			}
		}
	}
	return out
}

func matches(r topRow, filter string) bool {
	text := r.App + " " + r.Release + " " + r.State
	if r.Instance != "" {
		text = r.Instance + " " + r.State
	}
	return strings.Contains(strings.ToLower(text), strings.ToLower(filter))
}

// topSheet is the table of top.
var topSheet = sheet{"top", []column{
	{head: "NAME"},
	{head: "STATE", drop: 6},
	{head: "WEIGHT", drop: 5, right: true},
	{head: "REQ/S", drop: 1, right: true},
	{head: "ERR/S", drop: 3, right: true},
	{head: "P50", drop: 10, right: true},
	{head: "P99", drop: 2, right: true},
	{head: "CPU", drop: 4, right: true},
	{head: "MEMORY", drop: 7, right: true},
	{head: "IN FLIGHT", drop: 8, right: true},
	{head: "RESTARTS", drop: 9, right: true},
}}

// cells are a row as topSheet shows it.
func (r topRow) cells() []string {
	name := r.App
	if r.Release != "" {
		name += " " + r.Release
	}
	if r.Instance != "" {
		name = "  " + r.Instance
	}
	some := func(known bool, text string) string {
		if !known {
			return "-"
		}
		return text
	}
	weight := ""
	if r.Weight != nil {
		weight = gapless.Percent(*r.Weight)
	}
	perRelease := func(known bool, text string) string {
		if r.Instance != "" {
			return ""
		}
		return some(known, text)
	}
	return []string{name, r.State, weight,
		some(r.Rate != nil, figure(value(r.Rate))),
		perRelease(r.Errors != nil, figure(value(r.Errors))),
		perRelease(r.P50 != nil, milliseconds(value(r.P50))),
		perRelease(r.P99 != nil, milliseconds(value(r.P99))),
		some(r.CPU != nil, fmt.Sprintf("%.0f %%", value(r.CPU))),
		megabytes(r.Memory), fmt.Sprint(r.InFlight), fmt.Sprint(r.Restarts)}
}

// figure is a rate for people: with a digit after the point where that says something.
func figure(v float64) string {
	if v == 0 || v >= 10 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f", v)
}
