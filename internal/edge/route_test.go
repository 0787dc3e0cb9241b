package edge

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"gapless"
)

func testState(specs ...gapless.Route) *state {
	e := &Edge{instances: map[target]*instance{}}
	for i := range specs {
		if specs[i].Weights == nil {
			specs[i].Weights = []gapless.Weight{{Release: "v1", Share: 1}}
		}
		for k := range specs[i].Targets {
			specs[i].Targets[k].Draining = specs[i].Targets[k].Draining || false
		}
	}
	st := &state{listeners: map[string]*hosts{}}
	for _, spec := range specs {
		r := newRoute(spec, Config{}.withDefaults().limitsOf(spec, nil, nil), func(g gapless.Target) *instance {
			k := targetOf(spec.App, g)
			if e.instances[k] == nil {
				e.instances[k] = newInstance(k)
			}
			return e.instances[k]
		}, func(release string) *traffic { return e.count(spec.App, release) })
		for _, l := range spec.Listen {
			if st.listeners[l] == nil {
				st.listeners[l] = newHosts()
			}
			st.listeners[l].add(r, spec.Hosts)
		}
	}
	return st
}

func TestMatch(t *testing.T) {
	on := func(app, path string, hosts ...string) gapless.Route {
		return gapless.Route{App: app, Listen: []string{":80"}, Path: path, Hosts: hosts}
	}
	other := on("other", "/")
	other.Listen = []string{":81"}
	st := testState(on("wide", "/", "*.wild.test"), on("deep", "/", "*.deep.wild.test"), on("wildapi", "/api/v1", "*.wild.test"), on("exact", "/x", "www.wild.test"),
		on("any", "/"), on("anyapi", "/api"), on("shop", "/", "shop.test"), on("cart", "/cart/", "shop.test", "www.shop.test"), on("v6", "/", "[::1]"), other)
	for _, c := range []struct{ listener, host, path, app string }{
		{":80", "x", "/", "any"}, {":80", "x", "/api", "anyapi"}, {":80", "x", "/api/1", "anyapi"}, {":80", "x", "/apis", "any"},
		{":80", "shop.test", "/", "shop"}, {":80", "SHOP.test:8080", "/", "shop"}, {":80", "shop.test.", "/", "shop"},
		{":80", "shop.test", "/cart", "cart"}, {":80", "shop.test", "/cart/1", "cart"}, {":80", "shop.test", "/carts", "shop"},
		{":80", "shop.test", "/api", "shop"}, {":80", "www.shop.test", "/cart", "cart"}, {":80", "www.shop.test", "/", "any"},
		{":80", "a.wild.test:80", "/", "wide"}, {":80", "A.b.WILD.test.", "/api", "wide"}, {":80", "wild.test", "/", "any"}, {":80", ".wild.test", "/", "any"}, {":80", "xwild.test", "/", "any"},
		{":80", "deep.wild.test", "/", "wide"}, {":80", "x.deep.wild.test", "/", "deep"}, {":80", "x.y.deep.wild.test", "/api/v1", "deep"}, {":80", "x.wild.test", "/api/v1/2", "wildapi"},
		{":80", "www.wild.test", "/x/y", "exact"}, {":80", "www.wild.test", "/y", "wide"}, {":80", "www.wild.test", "/api/v1", "wildapi"},
		{":80", strings.Repeat("a.", 200) + "wild.test", "/", "any"}, {":80", "x", "*", "any"}, {":80", "x", "", "any"}, {":80", "x", "//api", "any"}, {":80", "x", "/api//", "anyapi"},
		{":80", "[::1]:80", "/", "v6"}, {":80", "", "/", "any"}, {":81", "shop.test", "/cart", "other"}, {":82", "x", "/", ""},
	} {
		got := ""
		if r := st.match(c.listener, []byte(c.host), []byte(c.path)); r != nil {
			got = r.app
		}
		if got != c.app {
			t.Errorf("%s %s %s: %q, want %q", c.listener, c.host, c.path, got, c.app)
		}
	}
}

// many has n hosts, wildcards among them, and n paths of one host.
func many(n int) *state {
	var specs []gapless.Route
	add := func(path, host string) {
		specs = append(specs, gapless.Route{App: fmt.Sprint(len(specs)), Listen: []string{":80"}, Path: path, Hosts: []string{host}})
	}
	for i := range n {
		add("/", fmt.Sprintf("h%d.test", i))
		add("/", fmt.Sprintf("*.w%d.test", i))
		add(fmt.Sprintf("/team%d/app", i), "paths.test")
	}
	return testState(specs...)
}

var matched = []struct{ host, path string }{
	{"h7.test", "/x"}, {"a.b.w7.test", "/"}, {"paths.test", "/team7/app/1/2/3"}, {"paths.test", "/team/none"}, {"none.test", "/"},
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		st := many(n)
		for _, m := range matched {
			host, path := []byte(m.host), []byte(m.path)
			b.Run(fmt.Sprint(n, " ", m.host, m.path), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					st.match(":80", host, path)
				}
			})
		}
	}
}

// What a match costs does not depend on how many hosts and paths there are:
// as much is looked up among 10,000 as among 10.
func TestMatchingCostsTheSameAmongMany(t *testing.T) {
	few, lots := many(10).listeners[":80"], many(10_000).listeners[":80"]
	for _, m := range append(matched, struct{ host, path string }{"paths.test", "/team7/app" + strings.Repeat("/x", 20_000)},
		struct{ host, path string }{strings.Repeat("a.", 100) + "w7.test", "/"}) {
		host, path := []byte(m.host), []byte(m.path)
		a, x := few.find(host, path)
		b, y := lots.find(host, path)
		if (a == nil) != (b == nil) || a != nil && a.path != b.path {
			t.Errorf("%.40v: %v among few, %v among many", m, a, b)
		}
		if x+2 < y || y > 8 { // a longer wildcard lets two more ends be looked up: w9999.test instead of w9.test
			t.Errorf("%.40v: %d looks among few, %d among many", m, x, y)
		}
		if raceEnabled {
			continue
		}
		if n := testing.AllocsPerRun(100, func() { lots.find(host, path) }); n > 0 {
			t.Errorf("%.40v: %v allocations", m, n)
		}
	}
}

func picking(weights map[string]float64, targets ...gapless.Target) *route {
	spec := gapless.Route{App: "a", Listen: []string{"l"}, Path: "/", Stable: "v1", Targets: targets}
	for _, r := range []string{"v1", "v2", "v3"} {
		if w, ok := weights[r]; ok {
			spec.Weights = append(spec.Weights, gapless.Weight{Release: r, Share: w})
		}
	}
	return testState(spec).match("l", nil, []byte("/"))
}

func at(release string, n int) gapless.Target {
	return gapless.Target{Instance: fmt.Sprintf("%s/%d", release, n), Release: release, Address: fmt.Sprintf("127.0.0.1:%d", n)}
}

func TestTheCoinIsFair(t *testing.T) {
	r := picking(map[string]float64{"v1": 0.9, "v2": 0, "v3": 0.1}, at("v1", 1))
	n := map[string]int{}
	rng := rand.New(rand.NewPCG(1, 2))
	const tosses = 200_000
	for range tosses {
		n[r.toss(rng.Float64()).release]++
	}
	if n["v2"] != 0 {
		t.Errorf("a release of weight 0 got %d", n["v2"])
	}
	if got, dev := float64(n["v3"]), 4*math.Sqrt(tosses*0.1*0.9); math.Abs(got-tosses*0.1) > dev {
		t.Errorf("%v of %d, want 10 %% ± %.0f", got, tosses, dev)
	}
	if s := r.toss(1 - 1e-17); s.release != "v3" {
		t.Errorf("the end of the range is %s", s.release)
	}
}

func TestPick(t *testing.T) {
	later := int64(time.Hour)
	r := picking(map[string]float64{"v1": 0.5, "v2": 0.5, "v3": 0}, at("v1", 1), at("v1", 2), at("v2", 3), at("v2", 4), at("v3", 5))
	v1, v2, v3 := r.share("v1"), r.share("v2"), r.share("v3")
	expect := func(what string, want *instance, tried ...*instance) {
		t.Helper()
		for range 20 {
			if got := r.pick(v2, later, tried); got != want {
				t.Errorf("%s: got %+v", what, got.target)
				return
			}
		}
	}
	v2.instances[0].inFlight.Store(3)
	v2.instances[1].inFlight.Store(2)
	expect("the least loaded", v2.instances[1])
	expect("another of the same release", v2.instances[0], v2.instances[1])
	v2.instances[1].unhealthy.Store(true)
	expect("not the unhealthy one", v2.instances[0])
	v2.instances[0].refused.Store(later - int64(time.Millisecond))
	v1.instances[1].inFlight.Store(1)
	expect("stable, if none is well", v1.instances[0])
	v1.instances[0].leaving.Store(true)
	v1.instances[1].unhealthy.Store(true)
	expect("the chosen release, if nobody is well", v2.instances[0], v2.instances[1])
	v2.instances[0].leaving.Store(true)
	v2.instances[1].leaving.Store(true)
	expect("stable, even if it is not well", v1.instances[1])
	v1.instances[1].leaving.Store(true)
	if got := r.pick(v2, later, nil); got != nil {
		t.Errorf("a release of weight 0 was picked: %v", got.target)
	}
	if got := r.pick(v3, later, nil); got != v3.instances[0] {
		t.Error("the chosen release's own instance")
	}
}

func TestEqualInstancesShare(t *testing.T) {
	for _, n := range []int{2, 5, 20} {
		var list []*instance
		for i := range n {
			list = append(list, newInstance(target{id: fmt.Sprint(i)}))
		}
		got := map[*instance]int{}
		for range 1000 * n {
			i, _ := least(list, int64(time.Hour), nil, wary)
			got[i]++
		}
		for _, i := range list {
			if got[i] < 800 || got[i] > 1200 {
				t.Errorf("of %d, %s got %d of %d", n, i.id, got[i], 1000*n)
			}
		}
	}
}
