package gapless

// Balance is how an edge spreads requests among the instances of a release,
// and what keeps one release from taking what the others need. The zero value
// is safe: candidates have their limit, and instances that fail are left alone
// for a while.
type Balance struct {
	SlowStart Duration `json:"slow_start,omitempty"` // a new instance beside old ones of its release gets its full share after this; 0: at once
	Stable    int      `json:"stable,omitempty"`     // most requests in flight with the stable release; more are refused with 503; 0: no limit
	Candidate int      `json:"candidate,omitempty"`  // most in flight with a candidate; more go to stable and count against it; 0: by its share
	Retries   float64  `json:"retries,omitempty"`    // requests that may be repeated, beside three per second, as a share of all: 0…1; 0: a fifth
	NoEject   bool     `json:"no_eject,omitempty"`   // instances that fail are not left alone
}

// Validate checks the limits of a balance.
func (b Balance) Validate() error {
	switch {
	case b.SlowStart < 0:
		return Errorf(Invalid, "slow start of %s is below 0", b.SlowStart)
	case b.Stable < 0 || b.Candidate < 0:
		return Errorf(Invalid, "%d and %d requests in flight are not limits", b.Stable, b.Candidate)
	case !(b.Retries >= 0 && b.Retries <= 1):
		return Errorf(Invalid, "%v is no share of requests that may be repeated", b.Retries)
	}
	return nil
}
