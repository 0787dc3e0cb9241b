package edge

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"gapless"
)

// What the judge counts of a request is told in its line: `gapless judge
// record` makes a stream of it that the judge can be tried on.
func TestAccessLogTellsTheCoin(t *testing.T) {
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }))
	defer broken.Close()
	r, addr, path := logging(t, gapless.AccessLog{}, saying(t, "hello"))
	send(t, addr, get("/", "Connection: close"))
	next := func(change func(*gapless.Route)) {
		table := r.last
		table.Version++
		table.SessionKeys = secrets
		table.Routes = append([]gapless.Route(nil), table.Routes...)
		change(&table.Routes[0])
		r.apply(table)
	}
	next(func(route *gapless.Route) {
		route.Weights = []gapless.Weight{{Release: "v1", Share: 0.75}, {Release: "v2", Share: 0.25}}
		route.Targets = append(route.Targets, gapless.Target{Instance: "i2", Release: "v2", Address: broken.Listener.Addr().String()})
	})
	for range 40 {
		send(t, addr, get("/", "Connection: close"))
	}
	next(func(route *gapless.Route) {
		route.Sessions = &gapless.Sessions{Sticky: true, TTL: gapless.SessionTTL, Coin: "c"}
	})
	send(t, addr, get("/", "Connection: close", "Sec-Fetch-Mode: navigate"))

	bad := map[string]int{}
	for i, line := range written(t, path, 42) {
		var e struct {
			Release, Session string
			Weight           float64
			Bad              bool
			Status           int
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		want := 0.25
		if i == 0 {
			want = 0 // there was no coin
		}
		if e.Weight != want || e.Bad != (e.Status >= 500) || (e.Session != "") != (i == 41) {
			t.Errorf("line %d: %s", i, line)
		}
		if e.Bad {
			bad[e.Release]++
		}
	}
	if bad["v1"] != 0 || bad["v2"] == 0 {
		t.Errorf("bad answers by release: %v", bad)
	}
}
