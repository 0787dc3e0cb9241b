package rollout

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"gapless"
)

func counter(n uint64, release, kind string, requests, bad, late uint64) gapless.Counter {
	return gapless.Counter{Number: n, App: simApp, Release: release, Weight: 0.25, Kind: kind, Requests: requests, Bad: bad, Late: late}
}

func TestFold(t *testing.T) {
	report := func(start string, seq uint64, list ...gapless.Counter) gapless.EdgeReport {
		return gapless.EdgeReport{Start: start, Seq: seq, Counters: list}
	}
	good, bad := counter(1, "v2", "", 9, 0, 0), counter(2, "v2", "5xx", 2, 2, 0)
	other := good
	other.App = "till"
	for _, c := range []struct {
		name    string
		cursor  Cursor
		reports []gapless.EdgeReport
		want    []gapless.Tally
		next    Cursor
	}{
		{"the present place only", nil, []gapless.EdgeReport{report("a", 3, good, bad)}, nil,
			Cursor{"a": {3, 0}, "a/1": {9, 0}, "a/2": {2, 2}}},
		{"nothing was counted yet", Cursor{}, []gapless.EdgeReport{report("a", 3, good, bad)},
			[]gapless.Tally{{Release: "v2", Weight: 0.25, Requests: 11, Bad: 2}}, Cursor{"a": {3, 0}, "a/1": {9, 0}, "a/2": {2, 2}}},
		{"only what is new", Cursor{"a": {2, 0}, "a/1": {4, 0}}, []gapless.EdgeReport{report("a", 3, good)},
			[]gapless.Tally{{Release: "v2", Weight: 0.25, Requests: 5}}, Cursor{"a": {3, 0}, "a/1": {9, 0}}},
		{"twice, and an older one after it", Cursor{}, []gapless.EdgeReport{report("a", 3, good), report("a", 3, good), report("a", 2, counter(1, "v2", "", 5, 0, 0))},
			[]gapless.Tally{{Release: "v2", Weight: 0.25, Requests: 9}}, Cursor{"a": {3, 0}, "a/1": {9, 0}}},
		{"a newer one after it", Cursor{}, []gapless.EdgeReport{report("a", 2, counter(1, "v2", "", 5, 0, 0)), report("a", 3, good)},
			[]gapless.Tally{{Release: "v2", Weight: 0.25, Requests: 9}}, Cursor{"a": {3, 0}, "a/1": {9, 0}}},
		{"two edges that number alike", Cursor{"a": {3, 0}, "a/1": {9, 0}}, []gapless.EdgeReport{report("a", 4, good), report("b", 1, good)},
			[]gapless.Tally{{Release: "v2", Weight: 0.25, Requests: 9}}, Cursor{"a": {4, 0}, "a/1": {9, 0}, "b": {1, 0}, "b/1": {9, 0}}},
		{"freed, the rest stays", Cursor{"a": {3, 0}, "a/1": {9, 0}, "a/2": {2, 2}, "b/1": {7, 7}}, []gapless.EdgeReport{report("a", 4, bad)}, nil,
			Cursor{"a": {4, 0}, "a/2": {2, 2}, "b/1": {7, 7}}},
		{"found bad after it had been counted", Cursor{"a": {3, 0}, "a/1": {9, 0}}, []gapless.EdgeReport{report("a", 4, good, counter(3, "v2", "cut", 0, 2, 2))},
			[]gapless.Tally{{Release: "v2", Weight: 0.25, Bad: 2, Late: 2}}, Cursor{"a": {4, 0}, "a/1": {9, 0}, "a/3": {0, 2}}},
		{"of another app", Cursor{}, []gapless.EdgeReport{report("a", 4, other)}, nil, Cursor{"a": {4, 0}}},
		{"of nobody", Cursor{}, []gapless.EdgeReport{{Counters: []gapless.Counter{good}}}, nil, Cursor{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			was := maps.Clone(c.cursor)
			got, next := Fold(simApp, c.cursor, c.reports)
			if !slices.Equal(got, c.want) || !reflect.DeepEqual(next, c.next) {
				t.Errorf("%+v %v\nwant %+v %v", got, next, c.want, c.next)
			}
			if !was.same(c.cursor) {
				t.Error("the cursor that it was given changed")
			}
			for _, x := range got {
				if err := x.Validate(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestFoldCountsOnce plays random histories: edges that count, report, free
// and die; reports that are lost, late, repeated and out of order; a daemon
// that dies and goes on from what it saved. What was taken in along the cursor
// is never more than what happened, and in the end all of it that any report
// of a living edge has.
func TestFoldCountsOnce(t *testing.T) {
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 11))
		var edges, dead []*counters
		n := 0
		start := func() {
			n++
			edges = append(edges, &counters{start: string(rune('a' + n))})
		}
		start()
		weight := 0.25
		happened := map[string]uint64{}
		var pile []gapless.EdgeReport // on their way, or kept by whoever repeats them
		var cursor, saved Cursor = Cursor{}, Cursor{}
		sum, savedSum := map[string][2]uint64{}, map[string][2]uint64{}
		take := func(reports []gapless.EdgeReport) {
			tallies, next := Fold(simApp, cursor, reports)
			cursor = next
			for _, x := range tallies {
				s := sum[x.Release]
				sum[x.Release] = [2]uint64{s[0] + x.Requests, s[1] + x.Bad}
			}
		}
		for range 120 {
			e := edges[rng.IntN(len(edges))]
			switch rng.IntN(9) {
			case 0, 1, 2:
				for range rng.IntN(5) {
					release := []string{"v1", "v2"}[rng.IntN(2)]
					e.add(release, weight, []string{"", "5xx", "reset"}[rng.IntN(3)])
					happened[release]++
				}
			case 3, 4:
				e.report(weight)
				pile = append(pile, e.told)
			case 5: // some of them arrive, in any order
				var some []gapless.EdgeReport
				for range rng.IntN(4) {
					if len(pile) > 0 {
						some = append(some, pile[rng.IntN(len(pile))])
					}
				}
				take(some)
			case 6:
				saved, savedSum = cursor, clone(sum)
				for _, e := range edges {
					if rng.IntN(2) == 0 {
						e.acked = max(e.acked, saved.Seq(e.start))
					}
				}
			case 7:
				switch rng.IntN(4) {
				case 0: // the daemon dies
					cursor, sum = saved, clone(savedSum)
				case 1:
					start()
				case 2:
					if len(edges) > 1 {
						k := rng.IntN(len(edges))
						dead = append(dead, edges[k])
						edges = slices.Delete(edges, k, k+1)
					}
				}
			case 8:
				weight = []float64{0.1, 0.25, 0.5}[rng.IntN(3)]
			}
		}
		var all []gapless.EdgeReport
		for _, e := range edges {
			e.report(weight)
			all = append(all, e.told)
		}
		for _, e := range dead { // a daemon keeps their last word
			all = append(all, e.told)
		}
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		take(all)
		take(all)
		lost := map[string]uint64{} // what died before it was reported
		for _, e := range dead {
			for _, x := range e.cells {
				told := uint64(0)
				for _, c := range e.told.Counters {
					if c.Number == x.Number {
						told = c.Requests
					}
				}
				lost[x.Release] += x.Requests - told
			}
		}
		for _, release := range []string{"v1", "v2"} {
			if got := sum[release][0]; got != happened[release]-lost[release] {
				t.Fatalf("seed %d: %d requests of %s were taken in; %d happened, %d were never reported", seed, got, release, happened[release], lost[release])
			}
		}
	}
}

func clone(m map[string][2]uint64) map[string][2]uint64 {
	out := map[string][2]uint64{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

// Paces are evidence as requests are: each is taken in once, and a cursor has
// them only where there are any.
func TestFoldTakesPacesOnce(t *testing.T) {
	paces := func(n uint64) (p gapless.Paces) {
		i := uint64(0)
		numbers(&p, func(x *uint64) { i++; *x = n * i })
		return p
	}
	of := func(n uint64, requests uint64, p gapless.Paces) gapless.Counter {
		c := counter(n, "v2", "", requests, 0, 0)
		c.Paces = p
		return c
	}
	cursor := Cursor{}
	sum := gapless.Tally{}
	for seq, p := range []gapless.Paces{paces(1), paces(3), paces(3), paces(4)} {
		tallies, next := Fold(simApp, cursor, []gapless.EdgeReport{{Start: "a", Seq: uint64(seq + 1), Counters: []gapless.Counter{of(1, 0, p), of(2, 5, gapless.Paces{})}}})
		for _, x := range tallies {
			sum.Requests, sum.Paces = sum.Requests+x.Requests, sum.Paces.Plus(x.Paces)
		}
		b, err := json.Marshal(next) // a daemon goes on from what was saved
		if err != nil {
			t.Fatal(err)
		}
		cursor = nil
		if err := json.Unmarshal(b, &cursor); err != nil {
			t.Fatal(err)
		}
		if !cursor.same(next) || len(cursor["a/1"]) != 2+paceNumbers || len(cursor["a/2"]) != 2 {
			t.Fatalf("%v of %s", cursor, b)
		}
	}
	if sum.Requests != 5 || sum.Paces != paces(4) {
		t.Errorf("%+v", sum)
	}
	var old Cursor // of a daemon that knew of no paces
	if err := json.Unmarshal([]byte(`{"a":[3,0],"a/1":[9,2],"odd":[],"less":[7],"none":null}`), &old); err != nil {
		t.Fatal(err)
	}
	if old.at("a/1") != (place{requests: 9, bad: 2}) || old.at("odd") != (place{}) || old.at("less") != (place{requests: 7}) || old.at("none") != (place{}) || old.Seq("a") != 3 {
		t.Errorf("%v", old)
	}
	var before map[string][2]uint64 // and one that is taken back reads what this one saved
	b, _ := json.Marshal(cursor)
	if err := json.Unmarshal(b, &before); err != nil || before["a/2"] != [2]uint64{5, 0} || before["a/1"] != [2]uint64{0, 0} {
		t.Errorf("%v %v", before, err)
	}
}
