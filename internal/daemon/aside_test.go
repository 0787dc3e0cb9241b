package daemon

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"gapless/internal/rollout"
)

// Nobody who saves a state waits for what follows from it, and all of it
// follows, in order.
func TestAsideHoldsNobodyUp(t *testing.T) {
	var a aside
	var work sync.WaitGroup
	free := make(chan struct{})
	var seen []string
	want := []string{}
	for i := range 20 {
		name := fmt.Sprint("app", i)
		want = append(want, name)
		a.put(rollout.State{App: name}, work.Go, func(s rollout.State) { // returns although free is not closed
			<-free
			seen = append(seen, s.App)
		})
	}
	close(free)
	work.Wait()
	if !slices.Equal(seen, want) {
		t.Errorf("%v", seen)
	}
}

func TestAsideIsBounded(t *testing.T) {
	var a aside
	var work sync.WaitGroup
	begun, free := make(chan struct{}, 2*mostAside), make(chan struct{})
	var last rollout.State
	n := 0
	put := func(i int) {
		a.put(rollout.State{App: fmt.Sprint(i)}, work.Go, func(s rollout.State) {
			begun <- struct{}{}
			<-free
			n, last = n+1, s
		})
	}
	put(0)
	<-begun
	for i := range 2*mostAside - 1 {
		put(i + 1)
	}
	close(free)
	work.Wait()
	if n != mostAside+1 || last.App != fmt.Sprint(2*mostAside-1) {
		t.Errorf("%d, the last one is %s", n, last.App)
	}
}

// A state that was saved is written down beside the database and told.
func TestSaveIsFollowed(t *testing.T) {
	d, _ := telling(t, "http://127.0.0.1:1/")
	d.records = &recorder{home: d.home}
	if err := (journal{d}).Save(t.Context(), ended("r1")); err != nil {
		t.Fatal(err)
	}
	d.work.Wait()
	list, err := d.store.Notices(t.Context(), 10)
	var s serving
	if err := readJSON(d.home.Serving("shop"), &s); err != nil || s.Stable != "v2" {
		t.Errorf("%+v, %v", s, err)
	}
	if err != nil || len(list) != 1 || list[0].Key != "r1/promoted" {
		t.Errorf("%+v, %v", list, err)
	}
}
