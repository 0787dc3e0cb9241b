package rollout

import "gapless"

// direct says what sends requests somewhere beside the coin: the candidate's
// matches, and sessions. What instances see of the path is their release's
// business; what sessions do to the coin of a rollout is the candidate's, as
// its strategy is; whether pages stay whole is that of what serves.
func direct(r *gapless.Route, s State, obs Observed, share float64) {
	lead := obs.Releases[r.Stable]
	if lead.Spec.Strip {
		r.Strip = []string{lead.Name}
	}
	if lead.Spec.Skew == gapless.SkewPin {
		r.Sessions = &gapless.Sessions{Skew: true, TTL: gapless.SessionTTL}
	}
	for i := range s.Members {
		if m := &s.Members[i]; m.Role == Kept && m.Release != r.Stable && obs.Releases[m.Release] != nil && obs.Releases[m.Release].Spec.Strip {
			r.Strip = append(r.Strip, m.Release)
			break
		}
	}
	if !s.Busy() || s.Rollout.To == r.Stable || s.Back {
		return
	}
	to := obs.Releases[s.Rollout.To]
	if to == nil || share == 0 && !s.Preview {
		return
	}
	if to.Spec.Strip {
		r.Strip = append(r.Strip, to.Name)
	}
	for _, m := range to.Spec.Match {
		m.Release = to.Name
		r.Match = append(r.Match, m)
	}
	if to.Spec.Sticky > 0 && share > 0 && share < 1 {
		if r.Sessions == nil {
			r.Sessions = &gapless.Sessions{}
		}
		r.Sessions.Sticky, r.Sessions.TTL = true, to.Spec.Sticky
	}
	if r.Sessions != nil {
		r.Sessions.Coin = s.Rollout.ID
	}
}

// shows reports whether people can reach the candidate without the coin.
func shows(r *gapless.Route) bool { return r.Preview != nil || len(r.Match) > 0 }

// uncounted reports whether the candidate may get requests that are no evidence.
func (d *decision) uncounted() bool {
	r := d.obs.Served.Route
	return r != nil && (len(r.Match) > 0 || r.Sessions != nil && r.Sessions.Skew)
}
