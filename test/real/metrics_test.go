package real

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gapless/internal/keeper"
	"gapless/internal/load"
	"gapless/test/rig"
)

// prometheus is Debian's, which scrapes the API over the network.
type prometheus struct {
	t    *testing.T
	addr string
}

// scrape starts one that asks the rig's daemon twice a second, as the
// documentation says how.
func scrape(t *testing.T, r *rig.Rig) *prometheus {
	t.Helper()
	exe, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("prometheus is not installed; see test/install.sh")
	}
	address, token := door(t, r, "prometheus", "read")
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf(`global: { scrape_interval: 500ms, scrape_timeout: 500ms }
scrape_configs:
  - job_name: gapless
    scheme: https
    metrics_path: /v1/metrics
    authorization: { credentials: %s }
    tls_config: { ca_file: %s }
    static_configs: [{ targets: [%q] }]
`, token, filepath.Join(r.Home, "tls", "cert.pem"), address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &prometheus{t, rig.FreeAddress(t)}
	beside(t, exe, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+p.addr)
	return p
}

// query asks for a vector or a matrix and returns the values of each series.
func (p *prometheus) query(q string) ([][]float64, error) {
	res, err := http.Get("http://" + p.addr + "/api/v1/query?query=" + url.QueryEscape(q))
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var answer struct {
		Status string
		Error  string
		Data   struct {
			Result []struct {
				Value  [2]any
				Values [][2]any
			}
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Status != "success" {
		return nil, errors.New(answer.Error)
	}
	var out [][]float64
	for _, series := range answer.Data.Result {
		if series.Values == nil {
			series.Values = [][2]any{series.Value}
		}
		var list []float64
		for _, v := range series.Values {
			text, _ := v[1].(string)
			f, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return nil, fmt.Errorf("%s: value %v", q, v)
			}
			list = append(list, f)
		}
		out = append(out, list)
	}
	return out, nil
}

// value is the value of the one series that q has; -1: there is none.
func (p *prometheus) value(q string) float64 {
	series, err := p.query(q)
	if err != nil || len(series) == 0 {
		return -1
	}
	return series[0][0]
}

// TestPrometheusCountsWhatClientsCount: a real Prometheus scrapes the daemon
// over TLS with a token, while the edge is replaced under load. What it says
// is what the clients counted. Then the edge is killed: nothing goes back.
func TestPrometheusCountsWhatClientsCount(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	configure(r, "http", 2, "")
	r.Rollout(0, "up")
	p := scrape(t, r)
	const sum = "sum(gapless_requests_total)"
	rig.Eventually(t, 20*time.Second, "prometheus scrapes", func() bool { return p.value(sum) == 0 })
	k, err := keeper.Dial(t.Context(), keeper.SocketPath(r.Home+"/run"))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()

	mix := load.Config{Mix: load.Mix{Fresh: 100}, Timeout: 20 * time.Second}
	run := r.LoadAs(mix, "v1")
	served := func(n int) func() bool { return func() bool { return run.Report().Requests >= n } }
	rig.Eventually(t, 20*time.Second, "the first edge serves", served(100))
	old := r.Proc("edge").Generation
	next, err := k.NewEdge(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, 10*time.Second, "two edges serve", func() bool { return p.value("gapless_edges") == 2 })
	if err := k.Retire(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, 10*time.Second, "the first edge is gone", func() bool { return r.Proc("edge").Generation == next })
	more := run.Report().Requests
	rig.Eventually(t, 20*time.Second, "the second edge serves", served(more+100))
	first := run.Stop()
	if first.Dropped > 0 || first.Bad > 0 {
		t.Fatalf("load:\n%s", first)
	}
	counted := float64(first.Requests)
	rig.Eventually(t, 10*time.Second, "prometheus has counted all", func() bool { return p.value(sum) >= counted })
	for q, want := range map[string]float64{
		sum: counted,
		`sum(gapless_responses_total{app="http",release="v1",class="2xx"})`: counted,
		`sum(gapless_response_seconds_count{app="http"})`:                   counted,
		`sum(gapless_response_seconds_bucket{le="+Inf"})`:                   counted,
		`count(gapless_instance_healthy == 1)`:                              2,
		`sum(gapless_instance_requests_total) - sum(gapless_retried_total)`: counted,
		`sum(gapless_failures_total) - sum(gapless_retried_total)`:          0,
		`count(gapless_requests_total)`:                                     1,
	} {
		if got := p.value(q); got != want {
			t.Errorf("%s is %v, the clients say %v", q, got, want)
		}
	}
	t.Logf("%v requests through two edges, %v by prometheus", counted, p.value(sum))

	run = r.LoadAs(mix, "v1")
	rig.Eventually(t, 20*time.Second, "it serves", served(50))
	rig.Kill(t, r.Proc("edge").PID)
	more = run.Report().Requests
	rig.Eventually(t, 20*time.Second, "the next edge serves", served(more+50))
	second := run.Stop()
	all := counted + float64(second.Requests)
	told := r.Must(0, "metrics").Stdout
	kept, line := 0.0, `gapless_requests_total{app="http",release="v1"} `
	if _, err := fmt.Sscan(told[max(0, strings.Index(told, line)+len(line)):], &kept); err != nil || !strings.Contains(told, line) {
		t.Fatalf("%v\n%s", err, told)
	}
	rig.Eventually(t, 10*time.Second, "prometheus has counted all", func() bool { return p.value(sum) == kept })
	if kept > all || kept < counted+50 {
		t.Errorf("prometheus counts %v, the clients %v", kept, all)
	}
	for _, metric := range []string{"gapless_requests_total", "gapless_responses_total", "gapless_response_seconds_bucket", "gapless_instance_requests_total", "gapless_shed_total"} {
		series, err := p.query(metric + "[10m]")
		if err != nil || len(series) == 0 {
			t.Errorf("%s: %v", metric, err)
		}
		for _, values := range series {
			for i := range values[1:] {
				if values[i+1] < values[i] {
					t.Errorf("%s went back: %v", metric, values)
					break
				}
			}
		}
	}
	t.Logf("after a kill: %v of %v", kept, all)

	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = strings.NewReader(told)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}
