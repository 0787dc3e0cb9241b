package gapless

import (
	"maps"
	"net/netip"
	"slices"
)

// Limits bound what clients may take of an app. Zero fields have the edge's
// defaults. Connections, ConnectionsPerIP and Exempt of them count before the
// route of a request is known: of the apps that share an address, the smallest
// value holds there for all.
type Limits struct {
	Body       int64 `json:"body,omitempty"`        // bytes of a request body; 0: no limit
	BodyRate   int64 `json:"body_rate,omitempty"`   // bytes per second that a request body must keep on average
	HeaderSize int64 `json:"header_size,omitempty"` // bytes of a request head
	Headers    int   `json:"headers,omitempty"`     // fields of a request head

	Connections      int      `json:"connections,omitempty"`
	ConnectionsPerIP int      `json:"connections_per_ip,omitempty"` // of one IPv4 address or IPv6 /64
	RequestsPerIP    float64  `json:"requests_per_ip,omitempty"`    // per second; 0: no limit
	Burst            int      `json:"burst,omitempty"`              // requests at once before RequestsPerIP counts
	Exempt           []string `json:"exempt,omitempty"`             // addresses and networks that limits per IP do not touch; ExemptNone: there are none, empty: ExemptLoopback

	Held     int   `json:"held,omitempty"`      // requests that wait at once
	HeldSize int64 `json:"held_size,omitempty"` // bytes that they may take
}

// Words in Limits.Exempt.
const (
	ExemptLoopback = "loopback"
	ExemptNone     = "none"
)

// Bounds of settings that the edge cannot go beyond.
const (
	MaxHeaderSize = 16 << 10
	MaxHeaders    = 128
	MaxPage       = 64 << 10 // bytes of an error page or maintenance page
	maxAllow      = 64
)

// Timeouts are how long the edge waits for clients and instances. Zero fields
// have the edge's defaults. Head and Idle count before the route of a request
// is known: of the apps that share an address, the smallest value holds there
// for all.
type Timeouts struct {
	Head   Duration `json:"head,omitempty"`   // from the first byte of a request head to its last
	Idle   Duration `json:"idle,omitempty"`   // of a kept connection
	Body   Duration `json:"body,omitempty"`   // without a byte of a request body, and before Limits.BodyRate counts
	Answer Duration `json:"answer,omitempty"` // from the request to the head of its answer
	Write  Duration `json:"write,omitempty"`  // for the client to take what it is sent
	Total  Duration `json:"total,omitempty"`  // of a request until the end of its answer; 0: no limit
}

// Maintenance answers all requests of an app with 503 and a page, but for
// clients in Allow.
type Maintenance struct {
	Page       []byte   `json:"page,omitempty"` // empty: a line of text
	Type       string   `json:"type,omitempty"` // Content-Type of Page
	Allow      []string `json:"allow,omitempty"`
	RetryAfter Duration `json:"retry_after,omitempty"` // what clients are told; 0: a minute
	Since      string   `json:"since,omitempty"`       // RFC 3339, for people
}

// ErrorStatuses are those of the edge's own answers once the route of a
// request is known.
func ErrorStatuses() []int { return []int{400, 408, 413, 429, 431, 502, 503, 504} }

// PageType is the Content-Type of a page by the extension of its file; "" is
// one that cannot be a page.
func PageType(extension string) string { return pageTypes[extension] }

// PageExtensions are those that PageType knows.
func PageExtensions() []string { return slices.Sorted(maps.Keys(pageTypes)) }

var pageTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".htm":  "text/html; charset=utf-8",
	".txt":  "text/plain; charset=utf-8",
	".json": "application/json",
	".xml":  "application/xml",
}

// Network reads an address or a network ("10.0.0.1", "10.0.0.0/8", "fd00::/8").
func Network(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, Errorf(Invalid, "%q is neither an IP address nor a network", text).WithHint("write 203.0.113.7, 10.0.0.0/8 or fd00::/8")
	}
	if p != p.Masked() {
		return p, Errorf(Invalid, "%q is an address inside a network", text).WithHint("write the network, %s, or the address alone", p.Masked())
	}
	return p, nil
}

// Validate checks the maintenance of an app, whoever wrote it.
func (m *Maintenance) Validate() error {
	switch {
	case m == nil:
		return nil
	case len(m.Page) > MaxPage:
		return Errorf(TooLarge, "the page is %d bytes long, more than %d KiB", len(m.Page), MaxPage>>10)
	case len(m.Page) > 0 && !known(m.Type):
		return Errorf(Invalid, "a page cannot be of type %q", m.Type)
	case len(m.Allow) > maxAllow:
		return Errorf(Invalid, "%d addresses are allowed, more than %d", len(m.Allow), maxAllow).WithHint("allow a network instead")
	case m.RetryAfter < 0:
		return Errorf(Invalid, "the time to retry after is negative")
	}
	for _, a := range m.Allow {
		if _, err := Network(a); err != nil {
			return err
		}
	}
	return nil
}

func known(contentType string) bool {
	return contentType != "" && slices.Contains(slices.Collect(maps.Values(pageTypes)), contentType)
}

// validateLimits checks what a table says of limits and pages.
func (r Route) validateLimits() error {
	l, t := r.Limits, r.Timeouts
	if l.Body < 0 || l.BodyRate < 0 || l.HeaderSize < 0 || l.HeaderSize > MaxHeaderSize || l.Headers < 0 || l.Headers > MaxHeaders ||
		l.Connections < 0 || l.ConnectionsPerIP < 0 || !(l.RequestsPerIP >= 0 && l.RequestsPerIP <= 1e6) || l.Burst < 0 || l.Held < 0 || l.HeldSize < 0 {
		return Errorf(Invalid, "route of %s: a limit is out of its bounds", r.App)
	}
	if min(t.Head, t.Idle, t.Body, t.Answer, t.Write, t.Total) < 0 {
		return Errorf(Invalid, "route of %s: a timeout is negative", r.App)
	}
	if _, err := Exempt(l.Exempt); err != nil {
		return Errorf(Invalid, "route of %s: %w", r.App, err)
	}
	for status, file := range r.ErrorPages {
		if !slices.Contains(ErrorStatuses(), status) || file == "" {
			return Errorf(Invalid, "route of %s: there is no page for status %d", r.App, status)
		}
	}
	if err := r.Maintenance.Validate(); err != nil {
		return Errorf(Invalid, "route of %s: %w", r.App, err)
	}
	return nil
}

// Exempt reads Limits.Exempt.
func Exempt(list []string) ([]netip.Prefix, error) {
	if len(list) == 0 {
		list = []string{ExemptLoopback}
	}
	out := []netip.Prefix{}
	for _, text := range list {
		switch text {
		case ExemptNone:
			if len(list) > 1 {
				return nil, Errorf(Invalid, "%s stands alone", ExemptNone)
			}
		case ExemptLoopback:
			out = append(out, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
		default:
			p, err := Network(text)
			if err != nil {
				return nil, err
			}
			out = append(out, p)
		}
	}
	return out, nil
}
