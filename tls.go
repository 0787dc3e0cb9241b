package gapless

import (
	"slices"
	"strconv"
	"time"
)

// TLS is how an app is served over https.
type TLS struct {
	Listen []string `json:"listen"`          // those of the app's addresses that speak https
	Names  []string `json:"names,omitempty"` // that it has a certificate for; empty: whatever a client asks for

	Auto   bool   `json:"auto,omitempty"`    // a certificate for each name comes from an ACME server
	Email  string `json:"email,omitempty"`   // with Auto: where that server writes to
	CA     string `json:"ca,omitempty"`      // with Auto: URL of its directory; "": Let's Encrypt
	CARoot string `json:"ca_root,omitempty"` // with Auto: PEM file with what signs the server's own certificate; "": the system's roots

	Cert string `json:"cert,omitempty"` // without Auto: PEM file with the chain, leaf first
	Key  string `json:"key,omitempty"`  // and its private key

	Redirect bool  `json:"redirect,omitempty"` // plain http is answered with 308 to https, once there is a certificate
	HSTS     *HSTS `json:"hsts,omitempty"`     // nil: browsers may come back by http
}

// HSTS tells browsers to come by https only.
type HSTS struct {
	MaxAge     Duration `json:"max_age"`
	Subdomains bool     `json:"subdomains,omitempty"`
	Preload    bool     `json:"preload,omitempty"` // may be put into browsers
}

// Header is the value of Strict-Transport-Security.
func (h HSTS) Header() string {
	v := "max-age=" + strconv.FormatInt(int64(h.MaxAge.Std()/time.Second), 10)
	if h.Subdomains {
		v += "; includeSubDomains"
	}
	if h.Preload {
		v += "; preload"
	}
	return v
}

// Secures reports whether an address speaks https; a nil TLS never does.
func (t *TLS) Secures(addr string) bool { return t != nil && slices.Contains(t.Listen, addr) }

// validate checks what must hold beside a route's addresses.
func (t *TLS) validate(app string, listen []string) error {
	if len(t.Listen) == 0 {
		return Errorf(Invalid, "route of %s: no address speaks https", app)
	}
	for _, addr := range t.Listen {
		if !slices.Contains(listen, addr) {
			return Errorf(Invalid, "route of %s: %s is to speak https, and is none of its addresses", app, addr)
		}
	}
	switch {
	case t.Auto && (t.Cert != "" || t.Key != ""):
		return Errorf(Invalid, "route of %s: a certificate comes from files or from an ACME server, not from both", app)
	case t.Auto && len(t.Names) == 0:
		return Errorf(Invalid, "route of %s: there is no name to get a certificate for", app)
	case !t.Auto && (t.Cert == "" || t.Key == ""):
		return Errorf(Invalid, "route of %s: https needs the files of a certificate and its key", app)
	case t.HSTS != nil && t.HSTS.MaxAge < 0:
		return Errorf(Invalid, "route of %s: HSTS cannot hold for %v", app, t.HSTS.MaxAge.Std())
	}
	return nil
}

// MixedTLS names an address on which one of two routes speaks https and the
// other one does not; "" if there is none.
func (r Route) MixedTLS(o Route) string {
	for _, addr := range r.Listen {
		if slices.Contains(o.Listen, addr) && r.TLS.Secures(addr) != o.TLS.Secures(addr) {
			return addr
		}
	}
	return ""
}

// TLSTraffic counts handshakes. Counts are cumulative for the generation.
type TLSTraffic struct {
	Handshakes uint64 `json:"handshakes"` // that succeeded
	Resumed    uint64 `json:"resumed"`    // of these: of an earlier session
	Failed     uint64 `json:"failed"`     // the two sides did not agree, or it took too long; not who never said a word
	Shed       uint64 `json:"shed"`       // given up because too many were under way
	Open       int    `json:"open"`       // under way now
}
