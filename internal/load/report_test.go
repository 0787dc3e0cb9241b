package load

import (
	"strings"
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	var h hist
	for ms := 1; ms <= 1000; ms++ {
		h.add(time.Duration(ms) * time.Millisecond)
	}
	for q, want := range map[float64]float64{.5: 500, .99: 990, 1: 1000} {
		got := float64(h.quantile(q).Microseconds()) / 1000
		if got > want || got < want*.96 {
			t.Errorf("quantile %v: %v ms, want %v less at most 3 %%", q, got, want)
		}
	}
	for us := uint64(0); us < 5_000_000; us += 1 + us/7 {
		b := bucket(us)
		if lo, hi := bucketStart(b), bucketStart(b+1); uint64(lo.Microseconds()) > us || uint64(hi.Microseconds()) <= us {
			t.Fatalf("%d µs is in bucket %d = [%s, %s)", us, b, lo, hi)
		}
	}
	if b := bucket(1 << 60); b != len(h.count)-1 {
		t.Errorf("a huge latency is in bucket %d", b)
	}
}

func TestReportSince(t *testing.T) {
	var c recorder
	c.start = time.Now()
	add := func(n int, err, release string, d time.Duration) {
		for range n {
			c.add(Sample{Kind: Fresh, Release: release, Err: err, Latency: d})
		}
	}
	add(100, "", "v1", time.Second)
	add(3, Reset, "v1", 0)
	before := c.report()
	add(50, "", "v2", time.Millisecond)
	add(2, "status_500", "v2", 0)
	add(1, Hang, "", 0)
	d := c.report().Since(before)
	if d.Counts != (Counts{53, 50, 1, 2}) {
		t.Errorf("counts %+v", d.Counts)
	}
	if k := d.Kinds[Fresh]; k.Counts != d.Counts || k.P50 > 1 || k.P50 < .9 {
		t.Errorf("kind %+v", k)
	}
	if len(d.Releases) != 1 || d.Releases["v2"] != 52 {
		t.Errorf("releases %v", d.Releases)
	}
	if len(d.Errors) != 2 || d.Errors[Hang] != 1 || d.Errors["status_500"] != 2 {
		t.Errorf("errors %v", d.Errors)
	}
	if before.Counts != (Counts{103, 100, 3, 0}) {
		t.Errorf("the earlier report changed: %+v", before.Counts)
	}
}

func TestSamplesAreBounded(t *testing.T) {
	var c recorder
	for range MaxSamples + 7 {
		c.add(Sample{Kind: Fresh, Err: Refused})
	}
	c.add(Sample{Kind: Fresh}) // short and OK: never kept
	if r := c.report(); len(c.kept()) != MaxSamples || r.Forgotten != 7 || r.Dropped != MaxSamples+7 {
		t.Errorf("%d kept, %d forgotten, %d dropped", len(c.kept()), r.Forgotten, r.Dropped)
	}
}

func TestOverlaps(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(1000+int64(s), 0) }
	sample := func(k Kind, instance string, from, to int) Sample {
		return Sample{Kind: k, Instance: instance, Start: at(from), End: at(to)}
	}
	drain := []Drain{{Instance: "a", From: at(10), To: at(20)}}
	good := []Sample{sample(Slow, "a", 8, 12), sample(Upload, "a", 9, 11), sample(WebSocket, "a", 0, 15)}
	if errs := Overlaps(good, drain, Slow, Upload, WebSocket); len(errs) != 0 {
		t.Errorf("overlapping samples are void: %v", errs)
	}
	for name, s := range map[string]Sample{
		"on another instance":        sample(Upload, "b", 9, 11),
		"ended before the drain":     sample(Upload, "a", 5, 10),
		"began when it was over":     sample(Upload, "a", 20, 25),
		"a kind that does not count": sample(SSE, "a", 9, 11),
	} {
		errs := Overlaps([]Sample{good[0], s, good[2]}, drain, Slow, Upload, WebSocket)
		if len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), "void: no upload") {
			t.Errorf("%s: %v", name, errs)
		}
	}
	if errs := Overlaps(nil, append(drain, Drain{Instance: "b"}), Slow, Upload, WebSocket); len(errs) != 6 {
		t.Errorf("no samples: %v", errs)
	}
	if errs := Overlaps(good[:2], drain, Slow, Upload); len(errs) != 0 {
		t.Errorf("a kind that was not asked for is missed: %v", errs)
	}
	if len(Overlaps(good, nil, Slow)) != 1 || len(Overlaps(good, drain)) != 1 {
		t.Error("nothing drained, or nothing to look for, is no void test")
	}
}
