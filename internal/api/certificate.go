package api

import (
	"context"
	"net/url"
	"time"
)

// States of a certificate.
const (
	CertWaiting = "waiting" // there is none yet
	CertValid   = "valid"   // it is served
	CertProblem = "problem" // it is served for what it is, but something needs a person; or there is none
)

// Certificate is what is shown to https clients of one name.
type Certificate struct {
	Name    string    `json:"name"` // host, or "*" for whatever a client asks for
	Apps    []string  `json:"apps"`
	From    string    `json:"from"` // "acme" or "file"
	File    string    `json:"file,omitempty"`
	State   string    `json:"state"`
	Serial  string    `json:"serial,omitempty"` // hex
	Issuer  string    `json:"issuer,omitempty"`
	Begins  time.Time `json:"begins,omitzero"`
	Ends    time.Time `json:"ends,omitzero"`
	Next    time.Time `json:"next,omitzero"` // by ACME: when it is looked at or tried again
	Busy    bool      `json:"busy,omitempty"`
	Problem string    `json:"problem,omitempty"`
	Hint    string    `json:"hint,omitempty"`
}

// CertificateService is the part of Service that is about certificates.
type CertificateService interface {
	// Certificates lists those of all apps, by name.
	Certificates(ctx context.Context) ([]Certificate, error)
	// RenewCertificate gets another one from the ACME server now. It is
	// NotFound if the name's does not come from one.
	RenewCertificate(ctx context.Context, name string) (Certificate, error)
}

// Certificates lists the certificates of all apps.
func (c *Client) Certificates(ctx context.Context) ([]Certificate, error) {
	return call[[]Certificate](ctx, c, "GET", "/certificates", nil)
}

// RenewCertificate gets another certificate for a name from its ACME server.
func (c *Client) RenewCertificate(ctx context.Context, name string) (Certificate, error) {
	return call[Certificate](ctx, c, "POST", "/certificates/"+url.PathEscape(name)+"/renew", nil)
}
