package daemon

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"gapless"
	"gapless/internal/acme"
	"gapless/internal/api"
	"gapless/internal/edge"
)

// Certificates is where those of ACME lie as the edge reads them, one file
// for a name.
func (h Home) Certificates() string { return h.path("certs", "live") }

// ACME has accounts and what they were given.
func (h Home) ACME() string { return h.path("certs", "acme") }

// Tickets are the keys of https sessions.
func (h Home) Tickets() string { return h.path("certs", "tickets") }

// Challenges is the socket that edges pass questions of ACME servers on to.
func (h Home) Challenges() string { return h.path("run", "acme.sock") }

func (h Home) tls() edge.TLSFiles {
	return edge.TLSFiles{Certificates: h.Certificates(), Tickets: h.Tickets(), Challenges: h.Challenges()}
}

const (
	certLook   = 500 * time.Millisecond // at what is served, for names that are new
	ticketLook = 10 * time.Minute       // at the age of the session keys
	endsSoon   = 7 * 24 * time.Hour     // of a file's certificate: somebody should have renewed it
)

// openCertificates makes the directories and begins to answer ACME servers.
func (d *Daemon) openCertificates() error {
	for _, dir := range []string{d.home.path("certs"), d.home.Certificates()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make a directory for certificates: %w", err)
		}
	}
	if err := edge.WriteTickets(d.home.Tickets(), time.Now()); err != nil {
		d.log.Warn("write session keys: https sessions do not outlive an edge", "err", err)
	}
	var err error
	d.certs, err = acme.Open(acme.Config{Storage: d.home.ACME(), Socket: d.home.Challenges(), Log: d.log,
		File: func(name string) string { return edge.CertificateFile(d.home.Certificates(), name) }})
	return err
}

// keepCertificates orders what the served apps need, and turns the session
// keys, until ctx ends.
func (d *Daemon) keepCertificates(ctx context.Context) {
	look, turn := time.NewTicker(certLook), time.NewTicker(ticketLook)
	defer look.Stop()
	defer turn.Stop()
	var known uint64
	for first := true; ; {
		if t := d.router.present(); (first || t.Version != known) && d.router.serves(t.Version) {
			d.certs.Want(orders(t))
			known, first = t.Version, false
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		case <-turn.C:
			if err := edge.WriteTickets(d.home.Tickets(), time.Now()); err != nil {
				d.log.Warn("turn the session keys", "err", err)
			}
		}
	}
}

// serves reports whether every live edge is at least at that version: an ACME
// server may ask any of them.
func (r *router) serves(version uint64) bool {
	live := r.generations()
	for _, g := range live {
		if rep, _ := g.report(); rep.Version < version {
			return false
		}
	}
	return len(live) > 0
}

// orders are the certificates that a table needs from ACME servers, in the
// order of the apps' names.
func orders(t gapless.Table) (out []acme.Order) {
	for _, r := range byApp(t) {
		if s := r.TLS; s != nil && s.Auto {
			for _, name := range s.Names {
				out = append(out, acme.Order{Name: name, Email: s.Email, CA: s.CA, CARoot: s.CARoot})
			}
		}
	}
	return out
}

func byApp(t gapless.Table) []gapless.Route {
	routes := slices.Clone(t.Routes)
	slices.SortFunc(routes, func(a, b gapless.Route) int { return strings.Compare(a.App, b.App) })
	return routes
}

// Certificates implements api.Service.
func (d *Daemon) Certificates(context.Context) ([]api.Certificate, error) {
	return d.certificates(time.Now()), nil
}

func (d *Daemon) certificates(now time.Time) []api.Certificate {
	states := d.certs.States()
	type key struct{ name, file string }
	found := map[key]*api.Certificate{}
	for _, r := range byApp(d.router.present()) {
		s := r.TLS
		if s == nil {
			continue
		}
		names := s.Names
		if len(names) == 0 {
			names = []string{"*"}
		}
		for _, name := range names {
			k := key{name, s.Cert}
			c := found[k]
			if c == nil {
				c = &api.Certificate{Name: name, From: "file", File: s.Cert}
				if s.Auto {
					c.From, c.File = "acme", edge.CertificateFile(d.home.Certificates(), name)
					look(c, c.File, c.File, now)
					ordered(c, states[name])
				} else {
					look(c, s.Cert, s.Key, now)
				}
				found[k] = c
			}
			c.Apps = append(c.Apps, r.App)
		}
	}
	out := make([]api.Certificate, 0, len(found))
	for _, c := range found {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b api.Certificate) int {
		return strings.Compare(a.Name+" "+a.File, b.Name+" "+b.File)
	})
	return out
}

// look reads what the files of c hold.
func look(c *api.Certificate, cert, key string, now time.Time) {
	c.State = api.CertValid
	trouble := func(err error) {
		var g *gapless.Error
		c.State, c.Problem = api.CertProblem, err.Error()
		if errors.As(err, &g) {
			c.Hint = g.Hint
		}
	}
	if _, err := os.Stat(cert); err != nil && c.From == "acme" {
		c.State = api.CertWaiting
		return
	}
	pair, err := edge.ReadPair(cert, key)
	if err != nil {
		trouble(err)
		return
	}
	leaf := pair.Leaf
	c.Serial, c.Issuer, c.Begins, c.Ends = leaf.SerialNumber.Text(16), leaf.Issuer.String(), leaf.NotBefore, leaf.NotAfter
	if err := edge.KeyExposed(key); err != nil {
		trouble(err)
	}
	switch {
	case now.After(leaf.NotAfter):
		trouble(gapless.Errorf(gapless.Invalid, "the certificate ended on %s", leaf.NotAfter.Local().Format("2006-01-02 15:04")).WithHint("put a new one in its place; it is read by itself"))
	case c.From == "file" && now.Add(endsSoon).After(leaf.NotAfter):
		trouble(gapless.Errorf(gapless.Invalid, "the certificate ends on %s", leaf.NotAfter.Local().Format("2006-01-02 15:04")).WithHint("put a new one in its place; it is read by itself"))
	case c.Name != "*":
		if err := covers(leaf, c.Name, cert); err != nil {
			trouble(err)
		}
	}
}

// ordered adds what is known of an order.
func ordered(c *api.Certificate, s acme.State) {
	c.Busy, c.Next = s.Busy, s.Next
	if s.Problem != "" {
		c.State, c.Problem, c.Hint = api.CertProblem, s.Problem, s.Hint
	}
}

// covers is Invalid if a certificate is not for a name.
func covers(leaf *x509.Certificate, name, file string) error {
	probe := name
	if rest, wild := strings.CutPrefix(name, "*."); wild {
		probe = "any." + rest
	}
	if err := leaf.VerifyHostname(probe); err != nil {
		return gapless.Errorf(gapless.Invalid, "certificate %s is not for %s but for %s", file, name, strings.Join(namesOf(leaf), ", ")).
			WithHint("give the certificate of this host, or take the host out of hosts")
	}
	return nil
}

func namesOf(leaf *x509.Certificate) []string {
	out := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		out = append(out, ip.String())
	}
	if len(out) == 0 {
		out = []string{"no host at all"}
	}
	return out
}

// RenewCertificate implements api.Service.
func (d *Daemon) RenewCertificate(ctx context.Context, name string) (api.Certificate, error) {
	if err := d.certs.Renew(ctx, name); err != nil {
		return api.Certificate{}, err
	}
	for _, c := range d.certificates(time.Now()) {
		if c.Name == name && c.From == "acme" {
			return c, nil
		}
	}
	return api.Certificate{}, gapless.Errorf(gapless.NotFound, "%s is not served any more", name)
}

// CheckTLS refuses what would not work before anything is made: files that are
// no pair, a key that others can read, a certificate for other hosts.
func CheckTLS(app *gapless.App, now time.Time) error {
	s := app.TLS
	if s == nil {
		return nil
	}
	if s.Auto {
		if s.CARoot != "" {
			if data, err := os.ReadFile(s.CARoot); err != nil || !x509.NewCertPool().AppendCertsFromPEM(data) {
				return gapless.Errorf(gapless.Invalid, "tls: ca_root %s holds no certificate that can be read", s.CARoot).WithHint("it is the PEM file with what signs the ACME server's own certificate")
			}
		}
		return nil
	}
	pair, err := edge.ReadPair(s.Cert, s.Key)
	if err == nil {
		err = edge.KeyExposed(s.Key)
	}
	if err == nil && now.After(pair.Leaf.NotAfter) {
		err = gapless.Errorf(gapless.Invalid, "certificate %s ended on %s", s.Cert, pair.Leaf.NotAfter.Local().Format("2006-01-02 15:04")).WithHint("renew it first")
	}
	for _, name := range s.Names {
		if err == nil {
			err = covers(pair.Leaf, name, s.Cert)
		}
	}
	return err
}

// certificatesOf are those of one app, for its status.
func certificatesOf(list []api.Certificate, app string) []api.Certificate {
	var out []api.Certificate
	for _, c := range list {
		if slices.Contains(c.Apps, app) {
			out = append(out, c)
		}
	}
	return out
}

// mixed names the app that speaks http where another one is to speak https,
// or the other way round.
func mixed(want gapless.Route, taken []gapless.Route) error {
	for _, o := range taken {
		if addr := want.MixedTLS(o); addr != "" && o.App != want.App {
			speaks := map[bool]string{true: "https", false: "http"}
			return gapless.Errorf(gapless.Conflict, "%s speaks %s on %s, and %s is to speak %s there", o.App, speaks[o.TLS.Secures(addr)], addr, want.App, speaks[want.TLS.Secures(addr)]).
				WithHint("apps may share an address if all of them speak the same on it: see tls.listen in gapless.yaml")
		}
	}
	return nil
}
