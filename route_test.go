package gapless

import "testing"

func TestTableRefusesTwoAppsOnOneRoute(t *testing.T) {
	route := func(app, path string, listen []string, hosts ...string) Route {
		return Route{App: app, Listen: listen, Path: path, Hosts: hosts, Stable: "v1", Weights: []Weight{{"v1", 1}}}
	}
	a := []string{":80", ":81"}
	for _, c := range []struct {
		name string
		b    Route
		ok   bool
	}{
		{"the same", route("b", "/", a, "x.org"), false},
		{"one address of two", route("b", "/", []string{":81"}, "x.org"), false},
		{"one host of two", route("b", "/", a, "y.org", "x.org"), false},
		{"another address", route("b", "/", []string{":82"}, "x.org"), true},
		{"another host", route("b", "/", a, "y.org"), true},
		{"every other host", route("b", "/", a), true},
		{"another path", route("b", "/b", a, "x.org"), true},
	} {
		if err := (Table{Routes: []Route{route("a", "/", a, "x.org"), c.b}}).Validate(); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := (Table{Routes: []Route{route("a", "/", a), route("b", "/", a)}}).Validate(); err == nil {
		t.Error("two apps serve every host")
	}
}

func TestWildcardsAndPathsThatCollide(t *testing.T) {
	route := func(app, path string, hosts ...string) Route {
		return Route{App: app, Listen: []string{":80"}, Path: path, Hosts: hosts, Stable: "v1", Weights: []Weight{{"v1", 1}}}
	}
	for _, c := range []struct {
		name string
		a, b Route
		ok   bool
	}{
		{"the same wildcard", route("a", "/", "*.x.org"), route("b", "/", "y.org", "*.x.org"), false},
		{"a name under it", route("a", "/", "*.x.org"), route("b", "/", "a.x.org"), true},
		{"a narrower one", route("a", "/", "*.x.org"), route("b", "/", "*.a.x.org"), true},
		{"a wildcard and every host", route("a", "/", "*.x.org"), route("b", "/"), true},
		{"a slash at the end", route("a", "/p", "x.org"), route("b", "/p/", "x.org"), false},
		{"another path of the wildcard", route("a", "/p", "*.x.org"), route("b", "/q", "*.x.org"), true},
		{"a star inside", route("a", "/", "x.*.org"), route("b", "/q", "y.org"), false},
		{"nothing behind the star", route("a", "/", "*."), route("b", "/q", "y.org"), false},
	} {
		if err := (Table{Routes: []Route{c.a, c.b}}).Validate(); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if err := (Table{Routes: []Route{c.b, c.a}}).Validate(); (err == nil) != c.ok {
			t.Errorf("%s, the other way round: %v", c.name, err)
		}
		if star := c.a.Hosts[0] == "x.*.org" || c.a.Hosts[0] == "*."; !star && (c.a.Collides(c.b) == c.ok || c.b.Collides(c.a) == c.ok) {
			t.Errorf("%s: collides %v", c.name, c.a.Collides(c.b))
		}
	}
}

func TestSessionsAndMatchesAreChecked(t *testing.T) {
	for name, change := range map[string]func(*Table){
		"a short key":             func(t *Table) { t.SessionKeys = SessionKeys{make([]byte, 31)} },
		"sessions of no kind":     func(t *Table) { t.Routes[0].Sessions = &Sessions{TTL: SessionTTL} },
		"no time":                 func(t *Table) { t.Routes[0].Sessions = &Sessions{Sticky: true} },
		"a rule that is empty":    func(t *Table) { t.Routes[0].Match = []MatchRule{{Release: "v1"}} },
		"a rule without a target": func(t *Table) { t.Routes[0].Match = []MatchRule{{Cookie: "a", Content: "b"}} },
		"too many rules":          func(t *Table) { t.Routes[0].Match = make([]MatchRule, MaxMatch+1) },
	} {
		table := Table{Routes: []Route{{App: "a", Path: "/", Stable: "v1", Weights: []Weight{{"v1", 1}}}}}
		if err := table.Validate(); err != nil {
			t.Fatal(err)
		}
		if change(&table); table.Validate() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestObjective(t *testing.T) {
	for share, want := range map[float64]string{.999: "99.9 %", .99999: "99.999 %", .5: "50 %", .9995: "99.95 %"} {
		if have := Objective(share); have != want {
			t.Errorf("%g is %q, want %q", share, have, want)
		}
	}
}
