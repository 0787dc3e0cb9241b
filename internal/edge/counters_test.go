package edge

import (
	"fmt"
	"testing"

	"gapless"
)

func key(release string, version uint64, kind string) CounterKey {
	return CounterKey{App: "shop", Release: release, Version: version, Instance: release + ".1", Weight: 0.25, Kind: kind}
}

func find(list []gapless.Counter, k CounterKey) *gapless.Counter {
	for i, c := range list {
		if c.App == k.App && c.Release == k.Release && c.Version == k.Version && c.Instance == k.Instance && c.Kind == k.Kind {
			return &list[i]
		}
	}
	return nil
}

// What is acknowledged and can grow no more is freed, and nothing else.
func TestCountersAreFreedWhenAcknowledged(t *testing.T) {
	var c Counters
	c.Serve(map[string]uint64{"shop": 1})
	old, present := key("v2", 1, ""), key("v2", 2, "5xx")
	c.Add(old, false)
	seq, list := c.Report()
	if len(list) != 1 || list[0].Requests != 1 {
		t.Fatalf("%+v", list)
	}
	number := list[0].Number
	c.Acknowledge("shop", seq)
	if _, list = c.Report(); len(list) != 1 {
		t.Fatal("a counter of the present route is freed")
	}
	c.Serve(map[string]uint64{"shop": 2})
	c.Add(present, false)
	c.Add(old, false) // it was in flight, and is not acknowledged
	seq, list = c.Report()
	if x := find(list, old); x == nil || x.Requests != 2 || x.Number != number {
		t.Fatalf("%+v", list)
	}
	c.Acknowledge("till", seq)
	c.Acknowledge("shop", seq-1) // an old word
	if _, list = c.Report(); find(list, old) == nil {
		t.Fatal("freed although its last value is not acknowledged")
	}
	c.Acknowledge("shop", seq)
	if _, list = c.Report(); find(list, old) != nil || find(list, present) == nil {
		t.Fatalf("not only what is acknowledged and over is freed: %+v", list)
	}
	c.Add(old, false) // the last one in flight
	if _, list = c.Report(); find(list, old) == nil || find(list, old).Requests != 1 || find(list, old).Number == number {
		t.Fatalf("what came after is lost, or has a number that was used: %+v", list)
	}
	c.Acknowledge("shop", 1<<60) // of another process
	c.Add(old, false)
	if _, list = c.Report(); find(list, old).Requests != 2 {
		t.Fatalf("%+v", list)
	}
}

// At the bound counting gets coarser; not one request is lost.
func TestCountersAreBounded(t *testing.T) {
	var c Counters
	const n = 3 * mostCells
	for i := range n {
		k := key(fmt.Sprintf("v%d", 1+i%2), uint64(i), []string{"", "5xx", "reset"}[i%3])
		c.Add(k, false)
	}
	_, list := c.Report()
	if len(list) > mostCells+4 {
		t.Errorf("%d counters", len(list))
	}
	var requests, bad uint64
	numbers := map[uint64]bool{}
	for _, x := range list {
		requests, bad = requests+x.Requests, bad+x.Bad
		if numbers[x.Number] {
			t.Errorf("number %d is there twice", x.Number)
		}
		numbers[x.Number] = true
	}
	if requests != n || bad != n*2/3 {
		t.Errorf("%d requests and %d bad ones of %d and %d", requests, bad, n, n*2/3)
	}
}
