package daemon

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/keeper"
	"gapless/internal/rollout"
)

// Status implements api.Service.
func (d *Daemon) Status(ctx context.Context) (api.Status, error) {
	st := api.Status{Version: d.version, Home: string(d.home), Limits: d.sup.Capabilities(), Notes: d.notes()}
	procs, err := d.keeper.List(ctx)
	if err != nil {
		return st, err
	}
	info, err := d.keeper.Hello(ctx)
	if err != nil {
		return st, err
	}
	st.Procs = append(st.Procs, api.Proc{Name: "keeper", PID: info.PID, Memory: anonymous(info.PID)})
	for _, p := range procs {
		if p.Kind != keeper.KindInstance && p.Running {
			st.Procs = append(st.Procs, api.Proc{Name: p.Kind, PID: p.PID, Generation: p.Generation, Memory: anonymous(p.PID)})
		}
	}
	traffic, certs := d.router.totals.sum(d.router.reports(ctx), d.router.present()), d.certificates(time.Now())
	cpu := d.sup.CPU()
	d.mu.Lock()
	apps := make([]*app, 0, len(d.apps))
	for _, a := range d.apps {
		apps = append(apps, a)
	}
	d.mu.Unlock()
	sort.Slice(apps, func(i, j int) bool { return apps[i].name < apps[j].name })
	for _, a := range apps {
		as := d.appStatus(a, traffic, cpu)
		as.Certificates = certificatesOf(certs, a.name)
		st.Apps = append(st.Apps, as)
	}
	return st, nil
}

func (d *Daemon) appStatus(a *app, traffic gapless.EdgeReport, cpu map[string]float64) api.AppStatus {
	s := a.runner.State()
	seen := map[string]gapless.Instance{} // after the state: nobody drains for a successor that does not look ready yet
	for _, in := range d.sup.Observe() {
		seen[in.ID] = in
	}
	out := api.AppStatus{Name: a.name, Stable: s.Stable, Down: s.Down, Counts: s.Counts, Rollout: s.Rollout}
	a.mu.Lock()
	if a.preparing != nil && !s.Busy() {
		r := a.preparing.rollout
		out.Rollout = &r
	}
	a.mu.Unlock()
	if spec := d.specOf(a.name, s.Stable); spec != nil {
		out.Source, out.Listen, out.Hosts, out.Path, out.TLS = spec.Source, spec.Listen, spec.Hosts, spec.Path, spec.TLS
	}
	if last := d.lastRelease(s); last != nil {
		out.Source, out.Flags = last.Spec.Source, last.Spec.Flags
	}
	d.router.mu.Lock()
	for _, r := range d.router.table.Routes {
		if r.App == a.name {
			out.Weights, out.Match, out.Sessions = r.Weights, r.Match, r.Sessions
		}
	}
	d.router.mu.Unlock()
	if s.Held || s.Maintenance != nil {
		t := trafficOf(s)
		out.Traffic = &t
	}
	if b := s.Bake; b != nil {
		out.Watch = &api.Watch{Release: b.Release, Before: b.Before, Until: b.Until}
	}
	out.SLO = d.sloStatus(a.name, s, time.Now())
	out.Alerts = d.presentAlerts().Of(a.name, d.alertPolicy(a.name, s))
	for _, m := range s.Members {
		in, known := seen[m.ID]
		if !known {
			in = gapless.Instance{ID: m.ID, App: a.name, Release: m.Release, Process: m.Process, Slot: m.Slot, State: gapless.Starting}
		}
		is := api.InstanceStatus{Instance: in, Role: string(m.Role), Healthy: true, CPU: cpu[m.ID]}
		for _, t := range traffic.Instances {
			if t.Instance == m.ID {
				is.InFlight, is.Requests, is.Healthy = t.InFlight, t.Requests, t.Healthy
			}
		}
		if m.Role == "leaving" && in.State == gapless.Ready {
			is.State = gapless.Draining
		}
		out.Instances = append(out.Instances, is)
	}
	out.Releases = releasesOf(a.name, traffic.Releases)
	return out
}

// lastRelease is the release that serves, or of an app that is down the last
// one that did or tried to; nil if there is none.
func (d *Daemon) lastRelease(s rollout.State) *gapless.Release {
	name := s.Stable
	if name == "" && s.Rollout != nil {
		name = s.Rollout.To
	}
	if name == "" {
		return nil
	}
	rel, err := d.release(s.App, name)
	if err != nil {
		return nil
	}
	return rel
}

// releasesOf are those of an app.
func releasesOf(app string, all []gapless.ReleaseTraffic) []gapless.ReleaseTraffic {
	out := []gapless.ReleaseTraffic{}
	for _, x := range all {
		if x.App == app {
			out = append(out, x)
		}
	}
	return out
}

// anonymous is the memory in bytes that a process has for itself, 0 if unknown.
func anonymous(pid int) int64 {
	f, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if rest, ok := strings.CutPrefix(sc.Text(), "Anonymous:"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10
		}
	}
	return 0
}
