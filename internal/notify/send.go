package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"gapless"
)

// Headers of a webhook.
const (
	SignatureHeader = "Gapless-Signature" // t=<seconds>,v1=<hex of HMAC-SHA256 over "t.body">
	KeyHeader       = "Idempotency-Key"
)

const (
	timeout  = 10 * time.Second
	mostRead = 4 << 10 // bytes of an answer
)

// Target is where a message goes. URL and Secret are secrets: nothing that
// this package returns has them in it.
type Target struct {
	Slack  bool // its format; else a webhook
	URL    string
	Secret string // signs a webhook; "": it is not signed
}

// Answer is what became of one attempt.
type Answer struct {
	Status int           // of HTTP; 0: there was no answer
	OK     bool          // it was taken
	Final  bool          // another attempt would not help
	After  time.Duration // Retry-After; 0: it said none
	Text   string        // for people; never holds the address or the secret
}

// Sender sends messages. It is safe for concurrent use.
type Sender struct {
	client *http.Client
	agent  string
	now    func() time.Time
}

// New returns a Sender that calls itself agent. A nil transport is one that
// verifies TLS and asks the environment for no proxy.
func New(agent string, transport http.RoundTripper) *Sender {
	if transport == nil {
		transport = &http.Transport{TLSHandshakeTimeout: timeout, ResponseHeaderTimeout: timeout, MaxResponseHeaderBytes: 64 << 10,
			DisableKeepAlives: true, ForceAttemptHTTP2: true} // messages are rare: no connection is worth keeping
	}
	return &Sender{agent: agent, now: time.Now, client: &http.Client{Transport: transport, Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// Sign returns the value of SignatureHeader for a body that is sent at now.
func Sign(secret string, now time.Time, body []byte) string {
	t := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(t + "."))
	mac.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// CheckURL says what is wrong with an address, without showing it.
func CheckURL(address string) *gapless.Error {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return gapless.Errorf(gapless.Invalid, "the address is not a URL")
	case u.Scheme != "https" && u.Scheme != "http":
		return gapless.Errorf(gapless.Invalid, "the address does not begin with https://")
	case u.Host == "":
		return gapless.Errorf(gapless.Invalid, "the address names no host")
	}
	return nil
}

// Host is the part of an address that may be shown.
func Host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

// Send tries once to send m.
func (s *Sender) Send(ctx context.Context, to Target, m Message) Answer {
	if err := CheckURL(to.URL); err != nil {
		return Answer{Final: true, Text: err.Error()}
	}
	m = m.Bounded()
	write := m.body
	if to.Slack {
		write = m.slackBody
	}
	body, err := write()
	if err != nil {
		return Answer{Final: true, Text: "the message cannot be written: " + err.Error()}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.URL, bytes.NewReader(body))
	if err != nil {
		return Answer{Final: true, Text: "the address is not a URL"}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", s.agent)
	if !to.Slack {
		req.Header.Set(KeyHeader, m.Key)
		if to.Secret != "" {
			req.Header.Set(SignatureHeader, Sign(to.Secret, s.now(), body))
		}
	}
	res, err := s.client.Do(req)
	if err != nil {
		return Answer{Text: to.hide(why(err))}
	}
	defer func() { _ = res.Body.Close() }()
	said, _ := io.ReadAll(io.LimitReader(res.Body, mostRead)) // what there is of it: the status counts
	a := judge(res.StatusCode, res.Header.Get("Retry-After"), s.now())
	a.Text = fmt.Sprintf("%s answered %s", Host(to.URL), strings.TrimSpace(res.Status))
	switch {
	case a.OK:
	case res.StatusCode/100 == 3:
		a.Text += " (redirects are not followed: write the address that it leads to)"
	default:
		if words := strings.Join(strings.Fields(strings.ToValidUTF8(string(said), "")), " "); words != "" {
			a.Text += ": " + cut(words, 200)
		}
	}
	a.Text = to.hide(a.Text)
	return a
}

// judge says what an answer means: 2xx is taken; of the others only 408, 429
// and those that the server blames on itself are worth another attempt.
func judge(status int, retryAfter string, now time.Time) Answer {
	a := Answer{Status: status, OK: status/100 == 2}
	a.Final = !a.OK && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests
	if a.OK || a.Final {
		return a
	}
	if n, err := strconv.ParseUint(retryAfter, 10, 31); err == nil {
		a.After = time.Duration(n) * time.Second
	} else if at, err := http.ParseTime(retryAfter); err == nil {
		a.After = max(0, at.Sub(now))
	}
	a.After = min(a.After, mostAfter)
	return a
}

// why is an error of the transport without the address, which is a secret.
func why(err error) string {
	var outer *url.Error
	if errors.As(err, &outer) {
		if outer.Timeout() {
			return fmt.Sprintf("no answer within %s", timeout)
		}
		err = outer.Err
	}
	return "it cannot be reached: " + err.Error()
}

// hide takes what is secret out of a text from elsewhere: a receiver may
// repeat the address that it was asked by.
func (t Target) hide(text string) string {
	secrets := []string{t.Secret, t.URL}
	if u, err := url.Parse(t.URL); err == nil {
		secrets = append(secrets, u.RequestURI(), u.EscapedPath(), u.RawQuery)
		if p, ok := u.User.Password(); ok {
			secrets = append(secrets, p)
		}
		for _, part := range strings.Split(u.Path, "/") {
			if len(part) >= 8 {
				secrets = append(secrets, part)
			}
		}
	}
	for _, s := range secrets {
		if len(s) >= 4 {
			text = strings.ReplaceAll(text, s, "…")
		}
	}
	return text
}
