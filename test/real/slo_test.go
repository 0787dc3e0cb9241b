package real

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"gapless"
	"gapless/test/rig"
)

// tenthFaulty sends requests one after another, every tenth to /faulty, until the
// function that it returns is called.
func tenthFaulty(r *rig.Rig) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var over sync.WaitGroup
	over.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			path := "/"
			if i%10 == 0 {
				path = "/faulty"
			}
			if res, err := http.Get("http://" + r.Address + path); err == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	return func() { cancel(); over.Wait() }
}

// TestSLOTakesBack: a release fails a tenth of its requests at all the
// traffic, where nothing runs beside it and its own limit allows more. The SLO
// does not, and the record of the old one says whose fault it is.
func TestSLOTakesBack(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	x := newReceiver(t)
	strategy(r, "http", 1, "steps:\n  - start: 1\n  - warm\n  - weight: 100%\n  - pause\n  - promote\njudge: { max_errors: 50% }\nslo: 99.9%\n"+
		"notify:\n  - webhook: ${HOOK}\n    secret: ${HOOK_SECRET}\n    on: [burning, rolled_back]\n")
	keep(t, r, "http", "HOOK", x.URL)
	keep(t, r, "http", "HOOK_SECRET", notifySecret)
	r.Rollout(0, "up")
	defer tenthFaulty(r)()
	rig.Eventually(t, time.Minute, "the old release has a record", func() bool {
		o := r.Status().Apps[0].SLO
		return o != nil && o.Requests > 100 && o.Bad == 0
	})
	r.Write("VERSION", "2")
	r.Write("BREAK", "500")
	r.Write("BREAK_PATH", "/faulty")
	r.Must(0, "deploy", "--success-on-pause")
	var ended gapless.Rollout
	rig.Eventually(t, time.Minute, "the rollout is taken back", func() bool {
		ended = *r.Status().Apps[0].Rollout
		return ended.Outcome == gapless.TakenBack
	})
	if !strings.HasPrefix(ended.Reason, "the SLO of 99.9 % burns ") || !strings.Contains(ended.Reason, "v1 0 % of ") {
		t.Errorf("taken back: %s", ended.Reason)
	}
	told := func(event string) (n int) {
		took, _ := x.state()
		for _, what := range took {
			if strings.HasPrefix(what, event+" ") {
				n++
			}
		}
		return n
	}
	rig.Eventually(t, 20*time.Second, "the end is told", func() bool { return told("rolled_back") > 0 })
	if page := told("burning"); page == 0 || page > 2 || told("rolled_back") != 1 { // a page, and perhaps a ticket
		took, _ := x.state()
		t.Errorf("told %q", took)
	}
}
