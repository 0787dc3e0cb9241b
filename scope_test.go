package gapless

import "testing"

func TestScopes(t *testing.T) {
	for _, c := range []struct {
		have, want Scope
		ok         bool
	}{
		{ScopeRead, ScopeRead, true}, {ScopeRead, ScopeDeploy, false}, {ScopeDeploy, ScopeRead, true},
		{ScopeDeploy, ScopeAdmin, false}, {ScopeAdmin, ScopeDeploy, true}, {ScopeAdmin, ScopeAdmin, true},
		{"", ScopeRead, false}, {"root", ScopeRead, false}, {ScopeAdmin, "", false}, {ScopeAdmin, "root", false}, {"", "", false},
		{ScopeAlert, ScopeAlert, true}, {ScopeAlert, ScopeRead, false}, {ScopeAlert, ScopeAdmin, false}, {ScopeRead, ScopeAlert, false},
		{ScopeDeploy, ScopeAlert, true}, {ScopeAdmin, ScopeAlert, true}, {"", ScopeAlert, false}, {"root", ScopeAlert, false},
	} {
		if c.have.Allows(c.want) != c.ok {
			t.Errorf("%q allows %q: %v", c.have, c.want, !c.ok)
		}
	}
}

func TestCallerForPeople(t *testing.T) {
	uid := 1000
	for want, c := range map[string]Caller{
		"alice": {User: "alice", UID: &uid}, "uid 1000": {UID: &uid}, "token ci (10.0.0.7)": {Token: "ci", Peer: "10.0.0.7"}, "token ci": {Token: "ci"}, "unknown": {},
	} {
		if c.String() != want {
			t.Errorf("%+v is %q, want %q", c, c.String(), want)
		}
	}
}
