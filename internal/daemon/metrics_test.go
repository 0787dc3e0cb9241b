package daemon

import (
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"gapless"
)

// What Prometheus is told is what the edge counted, in a form that its own
// tool has nothing against.
func TestProxyTellsPrometheus(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	metrics := l.Addr().String()
	l.Close()
	addr, _ := startProxy(t, Proxy{Metrics: metrics, Table: proxyTable(map[string]float64{"v1": 1}, to("v1", behind(t, "tcp", "127.0.0.1:0", "hello", nil)))})
	get := func(url string) string {
		t.Helper()
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s: status %d, %v", url, resp.StatusCode, err)
		}
		return string(b)
	}
	for range 5 {
		get("http://" + addr + "/")
	}
	text := get("http://" + metrics + "/metrics")
	for _, want := range []string{
		`gapless_requests_total{app="proxy",release="v1"} 5`,
		`gapless_responses_total{app="proxy",class="2xx",release="v1"} 5`,
		`gapless_responses_total{app="proxy",class="5xx",release="v1"} 0`,
		`gapless_response_seconds_count{app="proxy",release="v1"} 5`,
		`gapless_response_seconds_bucket{app="proxy",release="v1",le="+Inf"} 5`,
		"# TYPE gapless_response_seconds histogram",
		"# TYPE gapless_in_flight_requests gauge",
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Log("promtool is not installed; see test/install.sh")
		return
	}
	check := exec.Command(promtool, "check", "metrics")
	check.Stdin = strings.NewReader(text)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// Each fine bucket is counted in the coarse one that ends after it.
func TestHistogram(t *testing.T) {
	counts := make([]uint64, gapless.LatencyBuckets)
	for _, us := range []uint64{1, 63, 64, 100, 5_000_000_000} {
		counts[gapless.LatencyBucket(us)]++
	}
	n, sum, buckets := histogram(counts)
	if n != 5 || sum < 100 || buckets[64e-6] != 2 || buckets[128e-6] != 4 || buckets[float64(1<<26)/1e6] != 4 {
		t.Errorf("%d, %v, %v", n, sum, buckets)
	}
}
