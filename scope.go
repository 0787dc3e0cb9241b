package gapless

import (
	"regexp"
	"slices"
	"strings"
	"time"
)

// Scope says what a caller of the API may do; of read, deploy
// and admin each one includes those before it.
type Scope string

const (
	ScopeRead   Scope = "read"   // look at everything but secrets
	ScopeDeploy Scope = "deploy" // move traffic between releases, start and stop instances
	ScopeAdmin  Scope = "admin"  // everything

	// ScopeAlert may only say which alerts fire; it is for Alertmanager. Who
	// may deploy may do that, too.
	ScopeAlert Scope = "alert"
)

// ladder are the scopes that include one another, the smallest first.
func ladder() []Scope { return []Scope{ScopeRead, ScopeDeploy, ScopeAdmin} }

// Scopes are all scopes.
func Scopes() []Scope { return append(ladder(), ScopeAlert) }

// Allows reports whether a caller of scope s may do what needs scope want. An
// unknown scope may nothing, and nobody may what needs an unknown one.
func (s Scope) Allows(want Scope) bool {
	if want == ScopeAlert {
		return s == ScopeAlert || s.Allows(ScopeDeploy)
	}
	have, need := slices.Index(ladder(), s), slices.Index(ladder(), want)
	return need >= 0 && have >= need
}

// Token lets a program use the API over the network. What it is recognised by
// is not kept; only a hash of it is.
type Token struct {
	Name    string    `json:"name"`
	Scope   Scope     `json:"scope"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
}

var tokenName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// Validate checks what is asked for when a token is made at now.
func (t Token) Validate(now time.Time) error {
	switch {
	case !tokenName.MatchString(t.Name):
		return Errorf(Invalid, "token name %q is not 1 to 63 letters, digits, dots, hyphens and underscores", t.Name).
			WithHint("name it after what uses it: --name ci")
	case !slices.Contains(Scopes(), t.Scope):
		return Errorf(Invalid, "unknown scope %q", t.Scope).WithHint("known: %s", strings.Join(scopeNames(), ", "))
	case !t.Expires.IsZero() && !t.Expires.After(now):
		return Errorf(Invalid, "token %s would have expired already", t.Name)
	}
	return nil
}

// Expired reports whether t is not valid any more.
func (t Token) Expired(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

func scopeNames() (names []string) {
	for _, s := range Scopes() {
		names = append(names, string(s))
	}
	return names
}
