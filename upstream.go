package gapless

import (
	"net"
	"strconv"
	"strings"
)

// Protocols that an instance can speak.
const (
	ProtocolHTTP  = "http"  // HTTP/1.1
	ProtocolHTTPS = "https" // HTTP/1.1 over TLS
	ProtocolH2C   = "h2c"   // HTTP/2 without TLS, from the first byte; what gRPC servers speak
	ProtocolH2    = "h2"    // HTTP/2 over TLS
)

// Upstream is where and how an instance is reached: a Target.Address in parts.
type Upstream struct {
	Protocol string // ProtocolHTTP, …
	Network  string // "tcp" or "unix"
	Address  string // "host:port", or the path of a socket
}

// TLS reports whether the instance is spoken to over TLS.
func (u Upstream) TLS() bool { return u.Protocol == ProtocolHTTPS || u.Protocol == ProtocolH2 }

// HTTP2 reports whether the instance speaks HTTP/2.
func (u Upstream) HTTP2() bool { return u.Protocol == ProtocolH2C || u.Protocol == ProtocolH2 }

// String is the address as ParseUpstream reads it.
func (u Upstream) String() string {
	s := u.Address
	if u.Network == "unix" {
		s = "unix:" + s
	}
	if u.Protocol != ProtocolHTTP {
		s = u.Protocol + ":" + s
	}
	return s
}

// ParseUpstream reads an address of a table: "127.0.0.1:31001",
// "[::1]:31001" or "unix:/path" for HTTP/1.1, with "https:", "h2c:" or "h2:"
// before it for other protocols. Errors have the code Invalid.
func ParseUpstream(address string) (Upstream, error) {
	u := Upstream{Protocol: ProtocolHTTP, Network: "tcp", Address: address}
	for _, p := range []string{ProtocolHTTPS, ProtocolH2C, ProtocolH2} {
		rest, ok := strings.CutPrefix(u.Address, p+":")
		if _, err := strconv.Atoi(rest); ok && err != nil { // else it is a host of that name
			u.Protocol, u.Address = p, rest
			break
		}
	}
	if path, ok := strings.CutPrefix(u.Address, "unix:"); ok {
		u.Network, u.Address = "unix", path
		if path == "" || path[0] != '/' && path[0] != '@' || strings.ContainsRune(path, 0) {
			return u, Errorf(Invalid, "address %q: what follows unix: is not the absolute path of a socket", address)
		}
		return u, nil
	}
	host, port, err := net.SplitHostPort(u.Address)
	if n, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil || n == 0 || host == "" || strings.ContainsAny(host, "/ \t\r\n") {
		return u, Errorf(Invalid, "address %q is neither host:port nor unix:/path", address).
			WithHint("write host:port or unix:/path, with https:, h2c: or h2: before it where the instance does not speak plain HTTP/1.1")
	}
	return u, nil
}

// Reach is the address of a table for an instance of a that listens at address.
func (a *App) Reach(address string) string {
	if a.Protocol == "" || a.Protocol == ProtocolHTTP {
		return address
	}
	return a.Protocol + ":" + address
}

// UpstreamTLS says how the certificate of an instance is checked that is
// reached over TLS. The zero value checks it against the system's
// authorities, for the host of its address.
type UpstreamTLS struct {
	CAFile     string `json:"ca_file,omitempty"`     // PEM; instead of the system's authorities
	ServerName string `json:"server_name,omitempty"` // that the certificate must be for; "": the host of the address
	Insecure   bool   `json:"insecure,omitempty"`    // check nothing
}

func (t *UpstreamTLS) validate(app string) error {
	switch {
	case t == nil:
	case t.Insecure && t.CAFile != "":
		return Errorf(Invalid, "route of %s: insecure and a file of authorities exclude each other", app)
	case t.CAFile != "" && t.CAFile[0] != '/':
		return Errorf(Invalid, "route of %s: file of authorities %q is not an absolute path", app, t.CAFile)
	}
	return nil
}
