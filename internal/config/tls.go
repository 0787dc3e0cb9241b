package config

import (
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gapless"

	"github.com/goccy/go-yaml/ast"
)

// Defaults of https.
const (
	tlsAddress = ":443"
	acmePort   = ":80"
	hstsFor    = gapless.Duration(365 * 24 * time.Hour) // hsts: true
	hstsMax    = 10 * 365 * 24 * time.Hour
	tlsExample = "tls: auto, or tls: { cert: fullchain.pem, key: privkey.pem }"
)

// secured is what the key tls says.
type secured struct {
	gapless.TLS
	redirect *bool
	given    map[string]place
}

// tls reads the word auto, or {cert, key, email, ca, ca_root, listen, redirect, hsts}.
func (s *settings) tls(r *reader) setter {
	return func(n ast.Node) {
		t := &secured{given: map[string]place{}}
		s.tlsWords = t
		if _, isText := n.(*ast.StringNode); isText {
			if v, ok := r.scalar(n, "tls"); ok && v != "auto" {
				r.fail(n, faultf("tls is %s, but must be auto or a map", quote(v)).withHint("write %s", tlsExample))
			}
			return
		}
		if b, ok := n.(*ast.BoolNode); ok {
			f := faultf("tls is %v, but must be auto or a map", b.Value)
			if b.Value {
				r.fail(n, f.withHint("write %s", tlsExample))
			} else {
				r.fail(n, f.withHint("remove the line: without it nothing speaks https"))
			}
			s.tlsWords = nil
			return
		}
		keys := r.tlsKeys(t, s.app.Source)
		for key, set := range keys {
			keys[key] = func(n ast.Node) {
				t.given[key] = r.at(start(n))
				set(n)
			}
		}
		r.object(n, "tls", keys)
	}
}

func (r *reader) tlsKeys(t *secured, dir string) map[string]setter {
	file := func(dst *string, what string) setter {
		return func(n ast.Node) {
			r.str(dst, what, func(v string) *fault {
				if strings.TrimSpace(v) == "" || strings.ContainsRune(v, 0) {
					return faultf("%s is not a file name", quote(v))
				}
				return nil
			})(n)
			if *dst != "" && !filepath.IsAbs(*dst) {
				*dst = filepath.Join(dir, *dst)
			}
		}
	}
	return map[string]setter{
		"cert":     file(&t.Cert, "cert"),
		"key":      file(&t.Key, "key"),
		"email":    r.str(&t.Email, "email", checkEmail),
		"ca":       r.str(&t.CA, "ca", checkDirectory),
		"ca_root":  file(&t.CARoot, "ca_root"),
		"listen":   r.list(&t.Listen, "listen", parseListen),
		"redirect": func(n ast.Node) { t.redirect = new(bool); r.boolean(t.redirect, "redirect")(n) },
		"hsts":     r.hsts(&t.HSTS),
	}
}

// hsts reads true, a duration, or {max_age, subdomains, preload}.
func (r *reader) hsts(dst **gapless.HSTS) setter {
	return func(n ast.Node) {
		h := &gapless.HSTS{MaxAge: hstsFor}
		switch v := n.(type) {
		case *ast.BoolNode:
			if !v.Value {
				return
			}
		case *ast.MappingNode, *ast.MappingValueNode:
			r.object(n, "hsts", r.hstsKeys(h))
		default:
			r.duration(&h.MaxAge, "hsts", 0, hstsMax)(n)
		}
		if h.Preload && (!h.Subdomains || h.MaxAge < hstsFor) {
			r.fail(n, faultf("browsers take a host into their lists only with subdomains, and for a year at least").
				withHint("write hsts: { max_age: 8760h, subdomains: true, preload: true }"))
		}
		*dst = h
	}
}

func (r *reader) hstsKeys(h *gapless.HSTS) map[string]setter {
	return map[string]setter{
		"max_age":    r.duration(&h.MaxAge, "max_age", 0, hstsMax),
		"subdomains": r.boolean(&h.Subdomains, "subdomains"),
		"preload":    r.boolean(&h.Preload, "preload"),
	}
}

func checkEmail(s string) *fault {
	name, host, ok := strings.Cut(s, "@")
	if _, f := parseHost(host); !ok || name == "" || f != nil || strings.ContainsAny(name, " \t\"<>,;:") {
		return faultf("%s is not an email address", quote(s)).withHint("write email: you@example.com")
	}
	return nil
}

// checkDirectory wants the URL of an ACME server's directory.
func checkDirectory(s string) *fault {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return faultf("%s is not the https URL of an ACME server's directory", quote(s)).
			withHint("as in ca: https://acme-v02.api.letsencrypt.org/directory, which is the default")
	}
	return nil
}

// secure settles what tls means beside hosts and addresses. Without a word in
// listen, an app with tls listens on port 80 and 443.
func (s *settings) secure(in Input, p *problems) {
	t := s.tlsWords
	if t == nil || s.webless {
		return
	}
	a, at := &s.app, s.where["tls"]
	if !s.given["listen"] && len(in.Listen) == 0 {
		a.Listen = []string{acmePort}
	}
	if len(t.Listen) == 0 {
		t.Listen = slices.DeleteFunc(slices.Clone(a.Listen), func(addr string) bool { return !strings.HasSuffix(addr, tlsAddress) })
		if len(t.Listen) == 0 {
			t.Listen = []string{tlsAddress}
		}
	}
	a.Listen = slices.Clone(a.Listen)
	for _, addr := range t.Listen {
		if !slices.Contains(a.Listen, addr) {
			a.Listen = append(a.Listen, addr)
		}
	}
	plain := slices.DeleteFunc(slices.Clone(a.Listen), func(addr string) bool { return slices.Contains(t.Listen, addr) })
	t.Names = slices.Clone(a.Hosts)
	if v := a.Preview; v != nil && v.Host != "" && len(t.Names) > 0 && !slices.Contains(t.Names, v.Host) {
		t.Names = append(t.Names, v.Host)
	}
	t.Auto = t.Cert == "" && t.Key == ""
	t.Redirect = len(plain) > 0
	if t.redirect != nil {
		t.Redirect = *t.redirect
		if *t.redirect && len(plain) == 0 {
			p.add(t.given["redirect"], faultf("there is nothing to redirect: no address speaks http").withHint("add one: listen: [%q, %q]", acmePort, t.Listen[0]))
		}
	}
	if t.Auto {
		s.checkAuto(t, at, plain, p)
	} else {
		t.checkFiles(at, p)
	}
	a.TLS = &t.TLS
}

func (t *secured) checkFiles(at place, p *problems) {
	switch {
	case t.Cert == "":
		p.add(at, faultf("tls has a key and no certificate").withHint("add cert, the file with the chain; %s", tlsExample))
	case t.Key == "":
		p.add(at, faultf("tls has a certificate and no key").withHint("add key, the file with its private key; %s", tlsExample))
	}
	for _, word := range []string{"email", "ca", "ca_root"} {
		if at, given := t.given[word]; given {
			p.add(at, faultf("%s is for certificates by ACME, and this one comes from a file", word).withHint("remove the line, or cert and key"))
		}
	}
}

// checkAuto refuses what no ACME server would give a certificate for.
func (s *settings) checkAuto(t *secured, at place, plain []string, p *problems) {
	public := t.CA == ""
	if len(t.Names) == 0 {
		p.add(at, faultf("tls: auto needs to know for which host").withHint("add host: shop.example.com"))
	}
	if _, given := t.given["ca_root"]; given && public {
		p.add(t.given["ca_root"], faultf("ca_root says whom to believe that it is ca, and there is no ca").withHint("add ca, the URL of the server's directory"))
	}
	for _, name := range t.Names {
		bare := strings.Trim(name, "[]")
		_, notIP := netip.ParseAddr(bare)
		switch {
		case strings.HasPrefix(name, "*."):
			p.add(at, faultf("a certificate for %s cannot come by ACME: a server that only asks by http does not give one for a wildcard", name).
				withHint("list the host names, or give the files: %s", tlsExample))
		case notIP == nil:
			p.add(at, faultf("a certificate for the address %s cannot come by ACME", name).withHint("give the files: %s", tlsExample))
		case public && (!strings.Contains(name, ".") || strings.HasSuffix(name, ".localhost") || strings.HasSuffix(name, ".local") || strings.HasSuffix(name, ".internal")):
			p.add(at, faultf("no public ACME server gives a certificate for %s, which only this network knows", name).
				withHint("use a name of the public DNS, a private server (ca:), or files: %s", tlsExample))
		}
	}
	switch onPort80 := slices.ContainsFunc(plain, func(addr string) bool { return strings.HasSuffix(addr, acmePort) }); {
	case len(plain) == 0:
		p.add(at, faultf("tls: auto needs an address that speaks http: the ACME server asks there whether the host is yours").
			withHint("add it: listen: [%q, %q]", acmePort, t.Listen[0]))
	case public && !onPort80:
		p.add(at, faultf("tls: auto needs port 80: the ACME server asks there whether the host is yours").
			withHint("add it: listen: [%q]. If something else brings port 80 of the host to %s, name the server to say so: tls: { ca: https://acme-v02.api.letsencrypt.org/directory }", acmePort, plain[0]))
	}
}

// tlsShown is tls as a person would write it.
func tlsShown(t *gapless.TLS) any {
	shown := map[string]any{"listen": t.Listen, "redirect": t.Redirect}
	for word, value := range map[string]string{"cert": t.Cert, "key": t.Key, "email": t.Email, "ca": t.CA, "ca_root": t.CARoot} {
		if value != "" {
			shown[word] = value
		}
	}
	if h := t.HSTS; h != nil {
		shown["hsts"] = map[string]any{"max_age": h.MaxAge.String(), "subdomains": h.Subdomains, "preload": h.Preload}
	}
	return shown
}
