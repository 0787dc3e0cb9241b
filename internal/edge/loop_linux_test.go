package edge

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// A thread that waits in epoll_wait must not keep a garbage collection waiting.
func TestCollectionsDoNotWaitForLoops(t *testing.T) {
	r, _, addr := setup(t, Config{Loops: 2}, saying(t, "v1"))
	defer r.cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() { // now waiting raw, now in a way that the scheduler knows of
		for pause := time.Duration(0); ; pause = (pause + 3*time.Millisecond) % (40 * time.Millisecond) {
			select {
			case <-stop:
				return
			case <-time.After(pause):
				fetch(t, addr)
			}
		}
	}()
	var before, after debug.GCStats
	debug.ReadGCStats(&before)
	const collections = 50
	for range collections {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	debug.ReadGCStats(&after)
	if after.NumGC-before.NumGC < collections {
		t.Fatalf("%d collections, want %d", after.NumGC-before.NumGC, collections)
	}
	var longest time.Duration
	for _, p := range after.Pause[:min(collections, len(after.Pause))] {
		longest = max(longest, p)
	}
	t.Logf("the longest pause of %d collections: %v", collections, longest)
	// A loop sleeps up to half a second: whoever waited for it would show.
	if longest > 200*time.Millisecond {
		t.Errorf("a collection stopped the world for %v", longest)
	}
}
