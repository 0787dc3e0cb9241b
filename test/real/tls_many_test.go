package real

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gapless/internal/api"
	"gapless/test/rig"
)

// greeting is what an https client of one name is shown: whose certificate,
// and which app answers.
type greeting struct {
	serial, app string
	resumed     bool
}

// guest is an https client that keeps its sessions and believes nobody
// blindly.
func guest(addr string, cfg *tls.Config) func() (greeting, error) {
	return func() (g greeting, err error) {
		c, err := tls.Dial("tcp", addr, cfg)
		if err != nil {
			return g, err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		req, err := http.NewRequest("GET", "https://"+cfg.ServerName+"/", nil)
		if err != nil {
			return g, err
		}
		req.Close = true
		if err := req.Write(c); err != nil {
			return g, err
		}
		b, err := io.ReadAll(c) // to the end, so that the tickets are taken
		if err != nil {
			return g, err
		}
		s := c.ConnectionState()
		g.serial, g.resumed = s.PeerCertificates[0].SerialNumber.Text(16), s.DidResume
		_, instance, _ := strings.Cut(strings.ToLower(string(b)), "x-instance: ")
		g.app, _, _ = strings.Cut(instance, ".")
		return g, nil
	}
}

// TestTLSManyApps: three apps on one https address, two with certificates from
// files and one by ACME whose first order fails. Each name gets its own; a name
// that nobody has is refused; sessions go on after an upgrade; and where no
// certificate can be had the app serves on with what there is.
func TestTLSManyApps(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	next, err := rig.Binary("nextversion")
	if err != nil {
		t.Fatal(err)
	}
	https := rig.FreeAddress(t)
	_, port, err := net.SplitHostPort(r.Address)
	if err != nil {
		t.Fatal(err)
	}
	server := pebble(t, port, "1")
	lead := func(to string) {
		server.dns.DeleteDNSARecord("gamma.test")
		server.dns.AddDNSARecord("gamma.test", []string{to})
	}
	lead("127.0.0.77") // nobody listens there

	apps := r.Home + "-apps"
	t.Cleanup(func() { _ = os.RemoveAll(apps) })
	up := func(app, keys string) {
		t.Helper()
		dir := filepath.Join(apps, app)
		if err := os.MkdirAll(apps, 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("cp", "-a", r.Dir, dir).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		yaml := fmt.Sprintf("app: %s\nlisten: %q\nhost: %s.test\ninstances: 1\ndrain: 5s\nsoak: 1s\ngrace: 2s\nbuild: false\ntls: { listen: %q, %s }\n", app, r.Address, app, https, keys)
		if err := os.WriteFile(filepath.Join(dir, "gapless.yaml"), []byte(yaml), 0o644); err != nil {
			t.Fatal(err)
		}
		if res := r.RunIn(dir, "up"); res.Code != 0 {
			t.Fatalf("up %s: exit %d\n%s", app, res.Code, res.Stderr)
		}
	}
	visits, serials := map[string]func() (greeting, error){}, map[string]string{}
	for i, app := range []string{"alpha", "beta"} {
		dir := t.TempDir()
		cert, key := filepath.Join(dir, "chain.pem"), filepath.Join(dir, "key.pem")
		pool, write := signer(t, cert, key)
		serials[app] = write(int64(11+i), app+".test")
		visits[app] = guest(https, &tls.Config{RootCAs: pool, ServerName: app + ".test", ClientSessionCache: tls.NewLRUClientSessionCache(4)})
		up(app, fmt.Sprintf("cert: %q, key: %q", cert, key))
	}
	up("gamma", fmt.Sprintf("ca: %q, ca_root: %q", server.directory, server.root))
	visits["gamma"] = guest(https, &tls.Config{RootCAs: server.pool, ServerName: "gamma.test", ClientSessionCache: tls.NewLRUClientSessionCache(4)})

	gamma := func() api.Certificate {
		t.Helper()
		list, err := r.Client().Certificates(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			if c.Name == "gamma.test" {
				return c
			}
		}
		t.Fatalf("no certificate of gamma.test: %+v", list)
		return api.Certificate{}
	}
	plain := func() int {
		t.Helper()
		client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		req, _ := http.NewRequest("GET", "http://"+r.Address+"/", nil)
		req.Host, req.Close = "gamma.test", true
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	rig.Eventually(t, 30*time.Second, "the first order fails", func() bool { return gamma().State == api.CertProblem })
	if c := gamma(); c.Serial != "" || !strings.Contains(c.Hint, "DNS") || c.Next.IsZero() {
		t.Errorf("what is said of it: %+v", c)
	}
	if status := plain(); status != 200 {
		t.Errorf("without a certificate plain http is answered with %d", status)
	}
	if _, err := visits["gamma"](); err == nil {
		t.Error("a client believes a certificate that nobody gave")
	}
	lead("127.0.0.1")

	for app, serial := range serials { // meanwhile the others have theirs
		if g, err := visits[app](); err != nil || g.serial != serial || g.app != app {
			t.Errorf("%s.test: %+v, %v; its certificate is %s", app, g, err, serial)
		}
	}
	_, err = tls.Dial("tcp", https, &tls.Config{InsecureSkipVerify: true, ServerName: "nobody.test"})
	if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("a name that no app has: %v", err)
	}

	rig.Eventually(t, 60*time.Second, "the order is repeated, and a certificate comes", func() bool { return gamma().State == api.CertValid })
	rig.Eventually(t, 10*time.Second, "it is served", func() bool { g, err := visits["gamma"](); return err == nil && g.serial == gamma().Serial })
	if status := plain(); status != 308 {
		t.Errorf("with a certificate plain http is answered with %d", status)
	}
	serials["gamma"] = gamma().Serial

	// A renewal that fails changes nothing.
	lead("127.0.0.77")
	if res := r.Run("certs", "renew", "gamma.test"); res.Code != 1 || !strings.Contains(res.Stderr, "get a certificate for gamma.test") {
		t.Errorf("a renewal that cannot work: exit %d\n%s", res.Code, res.Stderr)
	}
	if g, err := visits["gamma"](); err != nil || g.serial != serials["gamma"] {
		t.Errorf("after it: %+v, %v", g, err)
	}
	lead("127.0.0.1")

	edge := r.Proc("edge").PID
	r.Must(0, "upgrade", "--from", next)
	rig.Eventually(t, 20*time.Second, "only the next edge is left", func() bool { return !rig.Alive(edge) })
	for app, visit := range visits {
		if g, err := visit(); err != nil || !g.resumed || g.app != app || g.serial != serials[app] {
			t.Errorf("%s.test after the upgrade: %+v, %v", app, g, err)
		}
	}
}
