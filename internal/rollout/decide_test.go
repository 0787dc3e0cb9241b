package rollout

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"gapless"
	"gapless/internal/judge"
)

// leaving is the state of an app with one leaving web instance.
func leaving(m Member) State {
	m.ID, m.Release, m.Process, m.Slot, m.Role, m.Since = "shop.v1.web.1.1", "v1", gapless.WebProcess, 1, Leaving, epoch
	return State{App: simApp, Stable: "v1", Counts: map[string]int{}, Members: []Member{m}}
}

func releases() map[string]*gapless.Release {
	return map[string]*gapless.Release{"v1": {App: simApp, Name: "v1", Spec: gapless.App{
		Name: simApp, Path: "/", Drain: gapless.Duration(10 * time.Second),
		Processes: []gapless.Process{{Name: gapless.WebProcess, Instances: 1}},
	}}}
}

// TestDrained is the table of when a leaving instance may be stopped.
func TestDrained(t *testing.T) {
	const id = "shop.v1.web.1.1"
	in := &gapless.Route{Targets: []gapless.Target{{Instance: id}}}
	out := &gapless.Route{Targets: []gapless.Target{{Instance: id, Draining: true}}}
	long := 10*time.Second + drainSlack
	for _, c := range []struct {
		name   string
		member Member
		served Served
		after  time.Duration // since it was to leave
		stop   bool
	}{
		{"picked still", Member{}, Served{Known: true, Route: in}, time.Second, false},
		{"picked still, for long", Member{}, Served{Known: true, Route: in}, time.Hour, false},
		{"out, nothing in flight", Member{}, Served{Known: true, Route: out}, time.Second, true},
		{"not in the table at all", Member{}, Served{Known: true, Route: &gapless.Route{}}, time.Second, true},
		{"no route", Member{}, Served{Known: true}, time.Second, true},
		{"out, something in flight", Member{}, Served{Known: true, Route: out, InFlight: map[string]int{id: 1}}, time.Second, false},
		{"out only now, something in flight, decided long ago", Member{}, Served{Known: true, Route: out, InFlight: map[string]int{id: 1}}, time.Minute, false},
		{"out for long, something in flight", Member{Out: epoch}, Served{Known: true, Route: out, InFlight: map[string]int{id: 1}}, long, true},
		{"out for almost long", Member{Out: epoch}, Served{Known: true, Route: out, InFlight: map[string]int{id: 1}}, long - 1, false},
		{"unknown is not zero", Member{}, Served{Route: out}, time.Second, false},
		{"unknown, past the drain deadline", Member{Out: epoch}, Served{Route: out}, time.Minute, false},
		{"unknown for minutes", Member{}, Served{}, 10*time.Second + StuckLimit, true},
	} {
		obs := Observed{Releases: releases(), Served: c.served, Instances: map[string]gapless.Instance{
			id: {ID: id, Release: "v1", Process: gapless.WebProcess, Slot: 1, State: gapless.Ready, Address: "127.0.0.1:1"}}}
		_, acts := Decide(leaving(c.member), obs, epoch.Add(c.after))
		stop := false
		for _, a := range acts {
			stop = stop || a.Kind == ActStop
		}
		if stop != c.stop {
			t.Errorf("%s: stop is %v", c.name, stop)
		}
	}
}

// TestOwnDrain promotes from a short drain to a long one: the edge is told of
// each instance the deadline by which the engine stops it.
func TestOwnDrain(t *testing.T) {
	release := func(name string, drain time.Duration) *gapless.Release {
		return &gapless.Release{App: simApp, Name: name, Spec: gapless.App{Name: simApp, Path: "/", Drain: gapless.Duration(drain),
			Processes: []gapless.Process{{Name: gapless.WebProcess, Instances: 1}}}}
	}
	obs := Observed{Releases: map[string]*gapless.Release{"v1": release("v1", 5*time.Second), "v2": release("v2", time.Minute)},
		Instances: map[string]gapless.Instance{}}
	s := State{App: simApp, Stable: "v2"}
	for _, m := range []Member{{ID: "old", Release: "v1", Role: Leaving}, {ID: "kept", Release: "v1", Role: Kept},
		{ID: "new", Release: "v2", Role: Leaving}, {ID: "forgotten", Release: "v0", Role: Leaving}, {ID: "serves", Release: "v2", Role: Stable}} {
		m.Process = gapless.WebProcess
		s.Members = append(s.Members, m)
		obs.Instances[m.ID] = gapless.Instance{ID: m.ID, Release: m.Release, State: gapless.Ready, Address: "127.0.0.1:1"}
	}
	want := map[string]time.Duration{"old": 5 * time.Second, "kept": 5 * time.Second, "new": time.Minute, "forgotten": time.Minute, "serves": 0}
	for _, target := range route(s, obs, 0, 0).Targets {
		if target.Drain.Std() != want[target.Instance] || target.Draining != (target.Instance != "serves") {
			t.Errorf("%s: draining %v, %s, want %s", target.Instance, target.Draining, target.Drain, want[target.Instance])
		}
		delete(want, target.Instance)
	}
	if len(want) > 0 {
		t.Errorf("not in the route: %v", want)
	}
}

// TestPickedAgain: after a lost save an instance may be picked that the state
// takes to be out for long. Its deadline begins anew.
func TestPickedAgain(t *testing.T) {
	const id = "shop.v1.web.1.1"
	obs := Observed{Releases: releases(), Instances: map[string]gapless.Instance{
		id: {ID: id, Release: "v1", Process: gapless.WebProcess, Slot: 1, State: gapless.Ready, Address: "127.0.0.1:1"}}}
	obs.Served = Served{Known: true, Route: &gapless.Route{Targets: []gapless.Target{{Instance: id}}}}
	s, _ := Decide(leaving(Member{Out: epoch}), obs, epoch.Add(time.Minute))
	obs.Served = Served{Known: true, InFlight: map[string]int{id: 1},
		Route: &gapless.Route{Targets: []gapless.Target{{Instance: id, Draining: true}}}}
	s, _ = Decide(s, obs, epoch.Add(time.Minute+time.Second))
	if s.Members[0].Stop {
		t.Error("stopped with a request in flight, one second after it was out")
	}
}

// TestNeverSeen: a leaving member that the fleet has never shown is not taken
// for gone at once; its start may be under way.
func TestNeverSeen(t *testing.T) {
	obs := Observed{Releases: releases(), Served: Served{Known: true}}
	s, _ := Decide(leaving(Member{}), obs, epoch.Add(RetryStart-1))
	if len(s.Members) != 1 {
		t.Fatal("dropped at once")
	}
	if s, _ = Decide(s, obs, epoch.Add(RetryStart)); len(s.Members) != 0 {
		t.Error("kept for ever")
	}
	if s, _ = Decide(leaving(Member{Seen: true}), obs, epoch.Add(1)); len(s.Members) != 0 {
		t.Error("one that was seen and is gone is kept")
	}
}

// TestDecideIsPure: neither the state nor the observation that it is given
// changes, and asked again it says the same.
func TestDecideIsPure(t *testing.T) {
	for seed := range uint64(50) {
		w := newWorld(seed)
		w.decide = func(s State, o Observed, now time.Time, hold bool) (State, []Action) {
			was := s.Clone()
			next, acts := decide(s, o, now, hold)
			if !reflect.DeepEqual(was, s) {
				t.Fatalf("the state was changed:\n%+v\n%+v", was, s)
			}
			if again, twice := decide(s, o, now, hold); !reflect.DeepEqual(next, again) || !reflect.DeepEqual(acts, twice) {
				t.Fatalf("asked again it decides otherwise:\n%+v\n%+v", next, again)
			}
			return next, acts
		}
		w.story()
	}
}

// TestSame: a change of any field is seen, or it would not be saved.
func TestSame(t *testing.T) {
	full := func() *State {
		s := &State{}
		fill(reflect.ValueOf(s).Elem())
		return s
	}
	if !full().same(full()) {
		t.Fatal("a state is not the same as itself")
	}
	for _, part := range []func(*State) any{
		func(s *State) any { return s }, func(s *State) any { return s.Rollout }, func(s *State) any { return &s.Members[0] },
		func(s *State) any { return &s.Rollout.Plan[0] }, func(s *State) any { return s.Rollout.Verdict },
	} {
		kind := reflect.TypeOf(part(full())).Elem()
		for i := range kind.NumField() {
			s := full()
			reflect.ValueOf(part(s)).Elem().Field(i).SetZero()
			if full().same(s) || s.same(full()) {
				t.Errorf("a change of %s.%s is not seen", kind, kind.Field(i).Name)
			}
		}
	}
	none, empty := full(), full()
	none.Cursor, empty.Cursor = nil, Cursor{}
	if none.same(empty) {
		t.Error("a cursor at which nothing was counted is taken for none")
	}
}

// fill gives every field a value that is not zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Interface: // the judge is the only one
		var j judge.Judge
		fill(reflect.ValueOf(&j).Elem())
		v.Set(reflect.ValueOf(JudgeBy(j)))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		value := reflect.New(v.Type().Elem()).Elem()
		fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("x"), value)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(epoch))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(0.5)
	case reflect.Int, reflect.Int64:
		v.SetInt(3)
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(3)
	default:
		panic("no value for " + v.Type().String())
	}
}

// TestStateSurvivesTheDisk: what is read back is what was saved; a cursor at
// which nothing was counted is not none, or what came after it is forgotten.
func TestStateSurvivesTheDisk(t *testing.T) {
	full, empty := &State{}, &State{Cursor: Cursor{}}
	fill(reflect.ValueOf(full).Elem())
	for _, s := range []*State{full, empty, {}} {
		data, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var got State
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		if err := got.unseal(ReadJudge[judge.Judge]); err != nil {
			t.Fatal(err)
		}
		if !got.same(s) {
			t.Errorf("%+v came back as %+v", s, got)
		}
	}
}
