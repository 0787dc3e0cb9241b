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
