package rollout

import (
	"path/filepath"
	"reflect"
	"slices"

	"gapless"
)

// route is what should be served: pure, from state and observation. share is
// the candidate's; fallback is its share when nobody judges any more.
func route(s State, obs Observed, share, fallback float64) *gapless.Route {
	lead := s.Stable
	if lead == "" && s.Rollout != nil {
		lead = s.Rollout.To
	}
	if s.Busy() && share > 0 && !hasWeb(obs.Releases[lead]) {
		lead = s.Rollout.To
	}
	rel := obs.Releases[lead]
	if !hasWeb(rel) {
		return nil
	}
	web := 0
	for i := range s.Members {
		if s.Members[i].Process == gapless.WebProcess {
			web++
		}
	}
	if web == 0 && (s.Down || s.Stable == "") {
		return nil
	}
	r := &gapless.Route{
		App: s.App, Listen: rel.Spec.Listen, Hosts: rel.Spec.Hosts, Path: rel.Spec.Path, TLS: rel.Spec.TLS,
		Stable: lead, Probe: rel.Spec.Health, Hold: rel.Spec.Hold, Balance: rel.Spec.Balance,
		Weights: []gapless.Weight{{Release: lead, Share: 1}},
	}
	r.Limits, r.Timeouts, r.ErrorPages = rel.Spec.Limits, rel.Spec.Timeouts, pages(rel)
	r.Forwarding = rel.Spec.Forwarding
	r.AccessLog = accessLog(rel)
	r.Held, r.Maintenance = s.Held, s.Maintenance
	if s.Down {
		r.Hold = 0
	}
	direct(r, s, obs, share)
	kept := ""
	if s.Busy() && s.Rollout.To != lead && share > 0 {
		r.Weights = []gapless.Weight{{Release: lead, Share: 1 - share}, {Release: s.Rollout.To, Share: share}}
	}
	if r.Mirror = s.mirrored(obs, lead); r.Mirror != nil && share == 0 {
		// Known to every edge, and given nothing: also by one that knows no mirrors.
		r.Weights = append(r.Weights, gapless.Weight{Release: s.Rollout.To})
	}
	if web > 0 {
		r.Targets = make([]gapless.Target, 0, web)
	}
	for i := range s.Members {
		m := &s.Members[i]
		if m.Process != gapless.WebProcess {
			continue
		}
		in, ok := obs.Instances[m.ID]
		if !ok || in.Address == "" || in.State != gapless.Ready {
			continue
		}
		if m.Role == Candidate && m.Release != lead && share == 0 && !s.Preview && r.Mirror == nil {
			continue // not even a fallback before it was given traffic
		}
		t := gapless.Target{Instance: m.ID, Release: m.Release, Address: obs.reach(m.Release, in.Address)}
		if m.Role == Kept && r.Sessions != nil && r.Sessions.Skew && m.Release != lead && (kept == "" || kept == m.Release) {
			kept = m.Release
		} else if m.Role == Leaving || m.Role == Kept {
			t.Draining, t.Drain = true, obs.drain(m.Release, lead)
		}
		r.Targets = append(r.Targets, t)
	}
	if kept != "" && r.Share(kept) == 0 { // its pages may still load from it
		r.Weights, r.Sessions.Kept = append(r.Weights, gapless.Weight{Release: kept}), kept
	}
	s.watchesNow(r)
	if !s.Busy() || s.Rollout.To == lead || s.Back {
		return r
	}
	if to := obs.Releases[s.Rollout.To]; s.Preview && to != nil && to.Spec.Preview != nil {
		r.Preview = &gapless.PreviewRoute{Preview: *to.Spec.Preview, Release: to.Name}
	}
	if share > 0 && share < 1 && s.Judge != nil {
		// Below 1 somebody must be judging: if nobody does, stable carries
		// again as much as its ready instances can.
		r.Lease, r.Fallback = gapless.Duration(LeaseTime), []gapless.Weight{{Release: lead, Share: 1 - fallback}}
		if fallback > 0 {
			r.Fallback = append(r.Fallback, gapless.Weight{Release: s.Rollout.To, Share: fallback})
		}
	}
	return r
}

// reach is how an instance of a release is reached that listens at address.
func (o Observed) reach(release, address string) string {
	if rel := o.Releases[release]; rel != nil {
		return rel.Spec.Reach(address)
	}
	return address
}

// drain is how long instances of a release may take to end their work: its
// own setting, whatever serves now. Where nothing is known of the release any
// more, it is that of another one.
func (o Observed) drain(release, other string) gapless.Duration {
	for _, name := range []string{release, other} {
		if rel := o.Releases[name]; rel != nil {
			return rel.Spec.Drain
		}
	}
	return 0
}

// pages are where the error pages of a release are.
func pages(rel *gapless.Release) map[int]string {
	if len(rel.Spec.ErrorPages) == 0 {
		return nil
	}
	out := make(map[int]string, len(rel.Spec.ErrorPages))
	for status, file := range rel.Spec.ErrorPages {
		out[status] = filepath.Join(rel.Tree, file)
	}
	return out
}

// accessLog is the release's, with the place of the file: among the logs of
// the app, beside the directory of its releases, unless it names another.
func accessLog(rel *gapless.Release) *gapless.AccessLog {
	if rel.Spec.AccessLog == nil {
		return nil
	}
	l := *rel.Spec.AccessLog
	if l.Path == "" {
		l.Path = filepath.Join(filepath.Dir(filepath.Dir(rel.Tree)), "logs", "access.log")
	}
	return &l
}

func hasWeb(rel *gapless.Release) bool {
	return rel != nil && rel.Spec.Process(gapless.WebProcess) != nil
}

// same compares two routes; lists that are empty and lists that are missing
// are the same, as they are after a journey through JSON.
func same(a, b *gapless.Route) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	if !slices.Equal(x.Strip, y.Strip) || !slices.Equal(x.Match, y.Match) {
		return false
	}
	x.Strip, x.Match, y.Strip, y.Match = nil, nil, nil, nil
	if !slices.Equal(x.Listen, y.Listen) || !slices.Equal(x.Hosts, y.Hosts) ||
		!slices.Equal(x.Weights, y.Weights) || !slices.Equal(x.Fallback, y.Fallback) || !slices.Equal(x.Targets, y.Targets) {
		return false
	}
	x.Listen, x.Hosts, x.Weights, x.Targets, x.Fallback = nil, nil, nil, nil, nil
	y.Listen, y.Hosts, y.Weights, y.Targets, y.Fallback = nil, nil, nil, nil, nil
	return reflect.DeepEqual(x, y)
}
