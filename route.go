package gapless

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Table is everything that an edge serves: all routes at once, applied
// atomically and acknowledged by Version. Versions only grow.
type Table struct {
	Version uint64  `json:"version"`
	Routes  []Route `json:"routes"`

	SessionKeys SessionKeys `json:"session_keys,omitempty"` // secret
}

// Route says who gets which share of one app's traffic.
type Route struct {
	App     string   `json:"app"`
	Listen  []string `json:"listen"`          // addresses as in App.Listen
	Hosts   []string `json:"hosts,omitempty"` // lower case, no port, or "*.example.com" for all names under example.com; empty: every host
	Path    string   `json:"path"`            // prefix at a segment boundary; "/": all
	Weights []Weight `json:"weights"`         // sum 1
	Stable  string   `json:"stable"`          // release that retries and fallbacks go to
	Targets []Target `json:"targets"`
	Probe   Health   `json:"probe"`
	Hold    Duration `json:"hold"`
	Balance Balance  `json:"balance,omitzero"`

	TLS *TLS `json:"tls,omitempty"` // nil: no address speaks https

	AccessLog *AccessLog `json:"access_log,omitempty"` // nil: none is written

	UpstreamTLS *UpstreamTLS `json:"upstream_tls,omitempty"` // of targets over TLS
	Forwarding  Forwarding   `json:"forwarding,omitzero"`

	Preview  *PreviewRoute `json:"preview,omitempty"`
	Lease    Duration      `json:"lease,omitempty"`    // judged: not renewed for this long, the edge applies Fallback by itself
	Fallback []Weight      `json:"fallback,omitempty"` // with Lease; sum 1

	Strip    []string     `json:"strip,omitempty"`    // releases whose instances get requests without Path
	Match    []MatchRule  `json:"match,omitempty"`    // before Sessions and the coin; the first that holds
	Sessions *Sessions    `json:"sessions,omitempty"` // nil: each request is on its own
	Mirror   *MirrorRoute `json:"mirror,omitempty"`

	Limits      Limits         `json:"limits,omitzero"`
	Timeouts    Timeouts       `json:"timeouts,omitzero"`
	ErrorPages  map[int]string `json:"error_pages,omitempty"` // file per status, absolute; the edge reads it
	Held        bool           `json:"held,omitempty"`        // a person paused the traffic: requests wait up to Hold
	Maintenance *Maintenance   `json:"maintenance,omitempty"`
}

// PreviewRoute sends requests of one host, or with one header, to a release
// without a coin. Such requests are not evidence.
type PreviewRoute struct {
	Preview
	Release string `json:"release"`
}

// Weight is the share of requests that the coin gives to one release.
type Weight struct {
	Release string  `json:"release"`
	Share   float64 `json:"share"` // 0…1
}

// Target is one instance as the edge sees it.
type Target struct {
	Instance string   `json:"instance"`
	Release  string   `json:"release"`
	Address  string   `json:"address"` // "127.0.0.1:31001", "[::1]:31001" or "unix:/path"; see ParseUpstream
	Draining bool     `json:"draining,omitempty"`
	Drain    Duration `json:"drain,omitempty"` // with Draining: deadline counted from when the edge first sees it
}

// Validate checks what must hold for every table: shares in 0…1 that sum to
// 1 per route, unique app names, and no two apps with the same address, host and path.
func (t Table) Validate() error {
	apps := map[string]bool{}
	speakers := map[string]Route{}   // by address
	claims := map[[3]string]string{} // as Collides, but for thousands of routes
	for _, k := range t.SessionKeys {
		if len(k) != SessionKeySize {
			return Errorf(Invalid, "a session key has %d bytes, not %d", len(k), SessionKeySize)
		}
	}
	for _, r := range t.Routes {
		hosts := r.Hosts
		if len(hosts) == 0 {
			hosts = []string{""}
		}
		for _, addr := range r.Listen {
			for _, host := range hosts {
				claim := [3]string{addr, host, bare(r.Path)}
				if other, taken := claims[claim]; taken && other != r.App {
					return Errorf(Invalid, "routes of %s and %s: both claim path %s of one address and host", other, r.App, r.Path)
				}
				claims[claim] = r.App
			}
			if o, taken := speakers[addr]; taken && o.TLS.Secures(addr) != r.TLS.Secures(addr) {
				return Errorf(Invalid, "routes of %s and %s: one speaks https on %s, the other one http", o.App, r.App, addr)
			}
			speakers[addr] = r
		}
		if apps[r.App] {
			return Errorf(Invalid, "route of %s: listed twice", r.App)
		}
		apps[r.App] = true
		if err := r.Validate(); err != nil {
			return err
		}
	}
	return nil
}

// Validate checks one route; see Table.Validate.
func (r Route) Validate() error {
	sum := 0.0
	known := map[string]bool{}
	for _, w := range r.Weights {
		if !(w.Share >= 0 && w.Share <= 1) {
			return Errorf(Invalid, "route of %s: share %v of %s is not between 0 and 1", r.App, w.Share, w.Release)
		}
		if known[w.Release] {
			return Errorf(Invalid, "route of %s: release %s has two weights", r.App, w.Release)
		}
		known[w.Release] = true
		sum += w.Share
	}
	if math.Abs(sum-1) > 1e-9 {
		return Errorf(Invalid, "route of %s: weights sum to %v, not 1", r.App, sum)
	}
	if err := r.Balance.Validate(); err != nil {
		return Errorf(Invalid, "route of %s: %w", r.App, err)
	}
	if r.Lease > 0 {
		sum := 0.0
		for _, w := range r.Fallback {
			sum += w.Share
		}
		if math.Abs(sum-1) > 1e-9 {
			return Errorf(Invalid, "route of %s: fallback weights sum to %v, not 1", r.App, sum)
		}
	}
	if err := r.Forwarding.Validate(); err != nil {
		return Errorf(Invalid, "route of %s: %w", r.App, err)
	}
	if err := r.UpstreamTLS.validate(r.App); err != nil {
		return err
	}
	if err := r.Sessions.validate(r.App); err != nil {
		return err
	}
	if len(r.Match) > MaxMatch {
		return Errorf(Invalid, "route of %s: %d match rules, more than %d", r.App, len(r.Match), MaxMatch)
	}
	for _, m := range r.Match {
		if err := m.validate(r.App); err != nil {
			return err
		}
	}
	for _, h := range r.Hosts {
		if strings.Contains(strings.TrimPrefix(h, "*."), "*") || h == "*." {
			return Errorf(Invalid, "route of %s: host %q is neither a name nor *.name", r.App, h)
		}
	}
	if m := r.Mirror; m != nil {
		if err := m.Validate(); err != nil {
			return Errorf(Invalid, "route of %s: %w", r.App, err)
		}
		if m.Release == r.Stable {
			return Errorf(Invalid, "route of %s: stable %s cannot be mirrored to itself", r.App, r.Stable)
		}
	}
	if err := r.validateLimits(); err != nil {
		return err
	}
	if r.TLS != nil {
		if err := r.TLS.validate(r.App, r.Listen); err != nil {
			return err
		}
	}
	if r.AccessLog != nil {
		if err := r.AccessLog.Validate(); err != nil {
			return err
		}
	}
	seen := map[string]bool{}
	for _, t := range r.Targets {
		if seen[t.Instance] {
			return Errorf(Invalid, "route of %s: instance %s is listed twice", r.App, t.Instance)
		}
		seen[t.Instance] = true
		if _, err := ParseUpstream(t.Address); err != nil {
			return Errorf(Invalid, "route of %s: instance %s: %w", r.App, t.Instance, err)
		}
	}
	return nil
}

// Share returns the weight of a release, 0 if it has none.
func (r Route) Share(release string) float64 {
	for _, w := range r.Weights {
		if w.Release == release {
			return w.Share
		}
	}
	return 0
}

// Collides reports whether two routes claim the same requests: one address,
// one host (or both every host) and one path. A name and a wildcard that has
// it do not collide, and neither do a wildcard and a narrower one: the more
// exact one is asked first.
func (r Route) Collides(o Route) bool {
	overlap := func(a, b []string) bool {
		return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
	}
	return bare(r.Path) == bare(o.Path) && overlap(r.Listen, o.Listen) &&
		(len(r.Hosts) == 0 && len(o.Hosts) == 0 || overlap(r.Hosts, o.Hosts))
}

// bare is a path without the slash at its end, which means nothing.
func bare(path string) string { return strings.TrimRight(path, "/") }

// Percent writes a share for people: "25 %".
func Percent(share float64) string {
	return fmt.Sprintf("%.4g %%", share*100)
}
