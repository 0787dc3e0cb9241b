package real

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gapless"
	"gapless/internal/load"
	"gapless/test/rig"
)

// receiver takes notifications, or denies them while told so.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	denies  bool
	denied  int
	took    []string // "event key", in order
	unknown int      // with no valid signature
}

const notifySecret = "a-secret-of-the-receiver"

func newReceiver(t *testing.T) *receiver {
	x := &receiver{}
	signature := regexp.MustCompile(`^t=(\d+),v1=([0-9a-f]{64})$`)
	x.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.denies {
			x.denied++
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		parts := signature.FindStringSubmatch(r.Header.Get("Gapless-Signature"))
		mac := hmac.New(sha256.New, []byte(notifySecret))
		if parts != nil {
			fmt.Fprintf(mac, "%s.%s", parts[1], body)
		}
		var m struct{ Key, Event, Text string }
		if parts == nil || hex.EncodeToString(mac.Sum(nil)) != parts[2] || json.Unmarshal(body, &m) != nil || m.Key != r.Header.Get("Idempotency-Key") {
			x.unknown++
			return
		}
		t.Logf("told: %s", m.Text)
		x.took = append(x.took, m.Event+" "+m.Key)
	}))
	t.Cleanup(x.Close)
	return x
}

func (x *receiver) deny(on bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.denies = on
}

func (x *receiver) state() (took []string, denied int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.took), x.denied
}

// keep stores a secret of the app.
func keep(t *testing.T, r *rig.Rig, app, name, value string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(value), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Must(0, "secrets", "set", name, "--from-file", file, "--app", app)
}

// TestRollbackIsToldOnce: a broken release under load is taken back, and the
// daemon is killed before anybody took the message. The next one tells it:
// once, signed, and before what came later. The address is nowhere to be read.
func TestRollbackIsToldOnce(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	x := newReceiver(t)
	strategy(r, "http", 2, "steps:\n  - start: 1\n  - warm\n  - weight: 10%\n  - judge: { within: 8s, on_undecided: continue }\n  - promote\n"+
		"notify:\n  - webhook: ${HOOK}\n    secret: ${HOOK_SECRET}\n    on: [rolled_back, promoted, failed]\n    link: https://ops.test/{app}/{rollout}\n")
	keep(t, r, "http", "HOOK", x.URL+"/t0pSecretPath")
	keep(t, r, "http", "HOOK_SECRET", notifySecret)
	r.Rollout(0, "up")
	rig.Eventually(t, 20*time.Second, "the first release is told", func() bool { took, _ := x.state(); return len(took) == 1 })
	x.deny(true)
	run := r.LoadAs(load.Config{Mix: load.Mix{KeepAlive: 60, KeepAliveClients: 6}}, "v1", "v2")
	r.Write("VERSION", "2")
	r.Write("BREAK", "500")
	broken := r.Rollout(3, "deploy")
	run.Stop()
	rig.Kill(t, r.Proc("daemon").PID)
	rig.Eventually(t, 20*time.Second, "it is tried", func() bool { _, denied := x.state(); return denied > 0 })
	rig.Kill(t, r.Proc("daemon").PID)
	x.deny(false)
	r.Write("VERSION", "3")
	r.Write("BREAK", "")
	good := r.Rollout(0, "deploy", "--replace")
	rig.Eventually(t, time.Minute, "the next deploy is told", func() bool { took, _ := x.state(); return len(took) >= 3 })
	took, _ := x.state()
	want := []string{"rolled_back " + broken.ID + "/rolled_back", "promoted " + good.ID + "/promoted"}
	if !slices.Equal(took[1:], want) || x.unknown > 0 {
		t.Errorf("told %q, want %q; %d without a valid signature", took[1:], want, x.unknown)
	}
	if out, err := exec.Command("grep", "-rl", "t0pSecretPath", r.Home).CombinedOutput(); err == nil {
		t.Errorf("the address can be read in\n%s", out)
	}
}

// alertmanager is Debian's. It sends what fires to the rig's API, as the
// documentation says how.
type alertmanager struct {
	t    *testing.T
	addr string
}

func alerting(t *testing.T, r *rig.Rig) *alertmanager {
	t.Helper()
	exe, err := exec.LookPath("prometheus-alertmanager")
	if err != nil {
		t.Skip("prometheus-alertmanager is not installed; see test/install.sh")
	}
	address, token := door(t, r, "alertmanager", "alert")
	dir := t.TempDir()
	config, secret := filepath.Join(dir, "alertmanager.yml"), filepath.Join(dir, "gapless.token")
	text := fmt.Sprintf(`route:
  receiver: people
  routes:
    - matchers: [ 'app =~ ".+"' ]
      receiver: gapless
      group_by: [ app ]
      group_wait: 0s
      group_interval: 1s
      repeat_interval: 5m
      continue: true
receivers:
  - name: gapless
    webhook_configs:
      - url: https://%s/v1/alerts
        send_resolved: true
        http_config:
          authorization: { credentials_file: %s }
          tls_config: { ca_file: %s }
  - name: people
`, address, secret, filepath.Join(r.Home, "tls", "cert.pem"))
	for name, content := range map[string]string{config: text, secret: token} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := &alertmanager{t, rig.FreeAddress(t)}
	beside(t, exe, "--config.file="+config, "--storage.path="+filepath.Join(dir, "data"), "--web.listen-address="+a.addr, "--cluster.listen-address=")
	rig.Eventually(t, 20*time.Second, "alertmanager is ready", func() bool {
		res, err := http.Get("http://" + a.addr + "/-/ready")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == 200
	})
	return a
}

// fire tells Alertmanager of an alert as Prometheus does; a time at which it
// ended resolves it.
func (a *alertmanager) fire(name, app string, since, ended time.Time) {
	a.t.Helper()
	alert := map[string]any{"labels": map[string]string{"alertname": name, "app": app}, "annotations": map[string]string{"summary": "5 % of requests fail"},
		"startsAt": since.Format(time.RFC3339Nano)}
	if !ended.IsZero() {
		alert["endsAt"] = ended.Format(time.RFC3339Nano)
	}
	body, err := json.Marshal([]any{alert})
	if err != nil {
		a.t.Fatal(err)
	}
	res, err := http.Post("http://"+a.addr+"/api/v2/alerts", "application/json", strings.NewReader(string(body)))
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if text, _ := io.ReadAll(res.Body); res.StatusCode != 200 {
		a.t.Fatalf("alertmanager: %s %s", res.Status, text)
	}
}

// TestAlertmanagerEndsARollout: a real Alertmanager fires over TLS, with a
// token that may do nothing else. The rollout that it fired in goes back, a
// deploy is refused while it fires, and not any more when it is over.
func TestAlertmanagerEndsARollout(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	strategy(r, "http", 1, "steps:\n  - start: 1\n  - warm\n  - weight: 10%\n  - pause\n  - promote\n")
	r.Rollout(0, "up")
	am := alerting(t, r)
	r.Write("VERSION", "2")
	r.Must(0, "deploy", "--success-on-pause")
	since := time.Now()
	am.fire("HighErrors", "http", since, time.Time{})
	var ended gapless.Rollout
	rig.Eventually(t, 30*time.Second, "the rollout is taken back", func() bool {
		ended = *r.Status().Apps[0].Rollout
		return ended.Outcome == gapless.TakenBack
	})
	if want := "aborted because the alert HighErrors (5 % of requests fail) fires"; ended.Reason != want {
		t.Errorf("taken back: %s; want %s", ended.Reason, want)
	}
	refused := r.Must(1, "deploy")
	if !strings.Contains(refused.Stderr, "HighErrors") || !strings.Contains(refused.Stderr, "--despite-alerts") {
		t.Errorf("refused with\n%s", refused.Stderr)
	}
	am.fire("HighErrors", "http", since, time.Now())
	rig.Eventually(t, 30*time.Second, "the alert is over", func() bool { return len(r.Status().Apps[0].Alerts) == 0 })
	r.Must(0, "deploy", "--success-on-pause")
	r.Must(0, "promote")
	rig.Eventually(t, 30*time.Second, "the release serves", func() bool { return r.Status().Apps[0].Rollout.Outcome == gapless.Promoted })
}
