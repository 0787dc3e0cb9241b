package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"gapless"
)

// RemoteConfig says how to reach a daemon over the network.
type RemoteConfig struct {
	Host        string // https://host:port
	Token       string
	CA          string // file of certificates to trust, PEM; "": those of the system
	Fingerprint string // SHA-256 of the one certificate that is trusted, in hex; "": any that CA vouches for
}

// NewRemote returns a client of a daemon elsewhere. It does not connect yet.
func NewRemote(cfg RemoteConfig) (*Client, error) {
	u, err := url.Parse(cfg.Host)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, gapless.Errorf(gapless.Invalid, "GAPLESS_HOST %q is not https://host:port", cfg.Host)
	}
	if cfg.Token == "" {
		return nil, gapless.Errorf(gapless.Invalid, "GAPLESS_HOST is set, GAPLESS_TOKEN is not").
			WithHint("make one on the server: gapless token create --name NAME --scope deploy")
	}
	if strings.ContainsFunc(cfg.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, gapless.Errorf(gapless.Invalid, "GAPLESS_TOKEN holds characters that no token has")
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS13}
	if cfg.CA != "" {
		pem, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, gapless.Errorf(gapless.Invalid, "read GAPLESS_CA: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, gapless.Errorf(gapless.Invalid, "GAPLESS_CA %s holds no certificate", cfg.CA)
		}
	}
	if cfg.Fingerprint != "" {
		want, err := parseFingerprint(cfg.Fingerprint)
		if err != nil {
			return nil, err
		}
		conf.InsecureSkipVerify = true // who signed it and for which name does not matter: it is this very one
		conf.VerifyConnection = func(s tls.ConnectionState) error {
			have := sha256.Sum256(s.PeerCertificates[0].Raw)
			if subtle.ConstantTimeCompare(have[:], want) != 1 {
				return &pinError{Fingerprint(s.PeerCertificates[0].Raw)}
			}
			return nil
		}
	}
	return &Client{base: "https://" + u.Host, token: cfg.Token, http: &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf, TLSHandshakeTimeout: 10 * time.Second},
		// A token is for this host only.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Remote reports whether c asks over the network.
func (c *Client) Remote() bool { return c.token != "" }

// pinError says that another certificate was shown than the pinned one.
type pinError struct{ have string }

func (e *pinError) Error() string { return "it shows the certificate " + e.have }

// Fingerprint is how people compare certificates: SHA-256 of its DER form.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// parseFingerprint also takes openssl's form, AB:CD:….
func parseFingerprint(text string) ([]byte, error) {
	plain := strings.ReplaceAll(strings.TrimPrefix(strings.ToLower(text), "sha256:"), ":", "")
	sum, err := hex.DecodeString(plain)
	if err != nil || len(sum) != sha256.Size {
		return nil, gapless.Errorf(gapless.Invalid, "GAPLESS_FINGERPRINT %q is not a SHA-256 in hex", text).
			WithHint("gapless api on the server prints it")
	}
	return sum, nil
}

// unreachable says what helps where a daemon elsewhere cannot be reached.
func unreachable(host string, err error) error {
	e := gapless.Errorf(gapless.Unavailable, "reach %s: %w", host, err)
	var pin *pinError
	var unknown *tls.CertificateVerificationError
	switch {
	case errors.As(err, &pin):
		return e.WithHint("it is not the one that GAPLESS_FINGERPRINT names: compare with gapless api on the server")
	case errors.As(err, &unknown):
		return e.WithHint("trust its certificate: GAPLESS_FINGERPRINT=%s or GAPLESS_CA=file; gapless api on the server prints both", "sha256:…")
	case errors.Is(err, context.DeadlineExceeded):
		return e.WithHint("is the address right, and is the port open?")
	}
	return e.WithHint("is it served there? on the server: gapless api")
}
